"""A line of text to type, above the screen that asks for it."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Input


class LineScreen(ModalScreen[str | None]):
    """Ends with the typed text, or with None by Esc."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Back", id="line.back")]
    DEFAULT_CSS = """
    LineScreen {
        align: center middle;
        Input {
            width: 70;
            max-width: 90%;
            border: round $primary;
            border-title-color: $primary;
            background: $background;
            &:focus { border: round $primary; }
        }
    }
    """

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._line = Input(text, select_on_focus=False)
        self._line.border_title = title

    def compose(self) -> ComposeResult:
        yield self._line

    @on(Input.Submitted)
    def _done(self, event: Input.Submitted) -> None:
        event.stop()
        self.dismiss(event.value)
