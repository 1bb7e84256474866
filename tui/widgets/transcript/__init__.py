"""The conversation, drawn by one widget. Other packages use only the names that this module exports."""

from typing import TYPE_CHECKING

from tui.widgets.transcript.token_styles import Highlight
from tui.widgets.transcript.widget import Transcript, Want
from tui.widgets.transcript.writer import code_blocks

if TYPE_CHECKING:  # reading Markdown takes 30 ms to import
    from tui.widgets.transcript.message import MessageBlock

__all__ = ["Highlight", "MessageBlock", "Transcript", "Want", "code_blocks"]
