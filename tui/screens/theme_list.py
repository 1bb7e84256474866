"""The themes. Each is shown as soon as the cursor is on it; Esc restores the one before."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.theme import BUILTIN_THEMES

from tui.widgets.rows import Row, Rows


class ThemesScreen(ModalScreen[None]):
    """A list beside the chat, in the theme under the cursor."""

    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="themes.up", tooltip="The theme before"),
        Binding("down,j", "move(1)", "Down", show=False, id="themes.down", tooltip="The theme after"),
        Binding("enter", "take", "Keep", id="themes.take", tooltip="Keep this theme"),
        Binding("escape,q", "back", "Back", id="themes.back", tooltip="Back, with the theme that was"),
    ]
    DEFAULT_CSS = """
    ThemesScreen {
        align: right top;
        Rows { width: 34; height: auto; max-height: 80%; margin: 1 2; background: $surface; }
    }
    """

    def __init__(self, keep: Callable[[str], None]) -> None:
        """`keep` receives the name of the chosen theme."""
        super().__init__()
        self._keep = keep
        self._rows = Rows("themes")
        self._before = ""

    def compose(self) -> ComposeResult:
        yield self._rows

    def on_mount(self) -> None:
        self._before = self.app.theme
        names = sorted(self.app.available_themes, key=lambda name: (name in BUILTIN_THEMES, name))
        self._rows.add_class("-active")
        self._rows.border_title = "Theme"
        self._rows.border_subtitle = "Enter keeps it, Esc cancels"
        self._rows.styles.height = min(len(names), max(4, self.app.size.height - 8)) + 2
        self._rows.show([Row(name, (name,)) for name in names])
        self.call_after_refresh(self._rows.go_to, self._before)

    @on(Rows.Moved)
    def _moved(self, event: Rows.Moved) -> None:
        event.stop()
        if row := self._rows.current:
            self.app.theme = row.key

    def action_move(self, by: int) -> None:
        self._rows.move(by)

    def action_take(self) -> None:
        self._keep(self.app.theme)
        self.dismiss(None)

    def action_back(self) -> None:
        self.app.theme = self._before
        self.dismiss(None)
