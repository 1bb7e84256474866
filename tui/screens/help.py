"""Every key with what it does, from the bindings themselves. It knows no screen and runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

Group = tuple[str, Sequence[Binding]]

COLOURS = (
    ("$token-draft", "accepted", "the draft model proposed it, the main model agreed"),
    ("$token-main", "main", "the main model's own token"),
    ("$token-refused strike", "refused", "the draft model proposed it, the main model did not agree"),
)


class HelpScreen(ModalScreen[None]):
    """A page over the chat; Esc or F1 goes back."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f1,q,enter", "dismiss", "Back", id="help.back"),
    ]
    DEFAULT_CSS = """
    HelpScreen {
        align: center middle;
        background: $background 60%;
        VerticalScroll {
            width: 74;
            max-width: 100%;
            height: auto;
            max-height: 90%;
            padding: 1 3;
            border: round $line;
            background: $surface;
            border-title-color: $primary;
            border-subtitle-color: $quiet;
        }
        Static { height: auto; }
    }
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        super().__init__()
        self._groups = groups

    def compose(self) -> ComposeResult:
        with VerticalScroll() as page:
            page.border_title = "Keys"
            page.border_subtitle = "Esc goes back"
            yield Static(self._page())

    def _page(self) -> Content:
        lines: list[Content] = []
        for title, bindings in self._groups:
            lines.append(Content.styled(title, "bold $primary"))
            lines += [self._line(binding) for binding in bindings if binding.description]
            lines.append(Content(""))
        lines.append(Content.styled("Colours", "bold $primary"))
        lines += [Content.assemble((name.ljust(20), style), (what, "$quiet")) for style, name, what in COLOURS]
        return Content("\n").join(lines)

    def _line(self, binding: Binding) -> Content:
        keys = ", ".join(readable(key) for key in binding.key.split(","))
        return Content.assemble((keys.ljust(20), "bold"), (f" {binding.tooltip or binding.description}", "$quiet"))


def readable(key: str) -> str:
    """ "ctrl+j" as people write it: "Ctrl+J"."""
    names = {"escape": "Esc", "pageup": "PgUp", "pagedown": "PgDn"}
    return "+".join(names.get(part, part.capitalize()) for part in key.split("+"))
