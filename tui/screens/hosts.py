"""The choice of the engine's machine: this one, a host of the config or of ssh, or a typed address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input, Static

from tui.chat.requests import HERE
from tui.clean import clean_line
from tui.host import is_address
from tui.widgets.keyline import KeyLine
from tui.widgets.rows import Row, Rows

from .list_screen import ListsScreen


class HostsScreen(ListsScreen[str | None]):
    """Ends with a host's name or address, with `HERE`, or with None by Esc."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "enter", "take", "Connect", priority=True, id="hosts.take", tooltip="Let the engine run there"
        ),
        Binding("escape", "back", "Back", id="hosts.back", tooltip="Back, and the engine stays where it is"),
    ]
    DEFAULT_CSS = """
    HostsScreen {
        #hosts { height: 1fr; margin: 1 2 0 2; }
        #about { height: 2; }
    }
    """

    def __init__(self, known: Sequence[tuple[str, str, str]], ssh: Sequence[str], now: str) -> None:
        """`known` are the hosts of the config, as (name, address, program); `ssh` the names that ssh knows;
        `now` the present machine of the engine."""
        self._rows = Rows("hosts", "that is no host: it must be like gpu, or me@gpu.example.org")
        super().__init__("type to filter, or another host: me@gpu", (self._rows,))
        self._all = [Row(HERE, (HERE, "this machine", ""))]
        self._all += [Row(name, (name, address, "config.toml")) for name, address, _ in known]
        there = {row.key for row in self._all}
        self._all += [Row(name, (name, "", "~/.ssh/config")) for name in ssh if name not in there]
        self._now = now
        self._about = Static(
            "Models, hardware and downloads are that machine's; the chat stays here.\n"
            "It needs Outrider too, and ssh must get in without asking.",
            id="about", markup=False,
        )  # fmt: skip

    def compose(self) -> ComposeResult:
        yield self.line
        yield self._rows
        yield self._about
        yield KeyLine()

    def on_mount(self) -> None:
        self.activate(self._rows)
        self._rows.border_title = "Where the engine runs"
        self._rows.border_subtitle = clean_line(f"now: {self._now}")
        self._rows.show(self._all)
        self.call_after_refresh(self._rows.go_to, self._now)

    @on(Input.Changed)
    def _filtered(self, event: Input.Changed) -> None:
        event.stop()
        words = self.typed.casefold()
        rows = [row for row in self._all if words in " ".join(row.cells[:2]).casefold()]
        if is_address(self.typed) and all(row.key != self.typed for row in rows):
            rows.append(Row(self.typed, (self.typed, "", "as typed")))
        self._rows.show(rows)

    def action_take(self) -> None:
        if row := self._rows.current:
            self.dismiss(row.key)
