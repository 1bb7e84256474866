"""The question whether doubtful files may go with a prompt, before they are sent.

Enter answers nothing here, because the person has just pressed it to send.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.clean import clean_line
from tui.widgets.attached import AttachedFiles
from tui.widgets.keyline import KeyLine


class ConsentScreen(ModalScreen[bool]):
    """Ends with True if the files may go."""

    AUTO_FOCUS = "VerticalScroll"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "Send them", id="consent.yes",
                tooltip="Send the prompt with these files"),
        Binding("n,escape", "dismiss(False)", "Do not send", id="consent.no",
                tooltip="Back to the prompt; nothing is sent"),
    ]  # fmt: skip
    DEFAULT_CSS = """
    ConsentScreen {
        align: center middle;
        VerticalScroll {
            width: 70;
            max-width: 90%;
            height: auto;
            max-height: 80%;
            padding: 0 2;
            border: round $warning;
            border-title-color: $warning;
            background: $background;
        }
    }
    """

    def __init__(self, files: Sequence[tuple[str, str]], host: str = "") -> None:
        """`files` are (name, doubt); `host` is the machine that would receive them, empty for this one."""
        super().__init__()
        self._named = AttachedFiles()
        self._named.show(files)
        self._host = host

    def compose(self) -> ComposeResult:
        with VerticalScroll() as box:
            box.border_title = "Send these files?"
            yield self._named
            where = f"They leave this machine, for {clean_line(self._host)}. " if self._host else ""
            yield Static(Content(f"\n{where}y sends the prompt with them; n goes back to it."))
        yield KeyLine()
