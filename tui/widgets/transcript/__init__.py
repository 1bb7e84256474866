"""The conversation, drawn by one widget. Nothing but `Transcript` is for use outside this package."""

from tui.widgets.transcript.palette import Highlight
from tui.widgets.transcript.widget import Transcript

__all__ = ["Highlight", "Transcript"]
