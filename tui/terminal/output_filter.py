"""The last check before the terminal: no control character leaves in a line, from any widget.

`clean` at the borders is the first check, and it marks the characters that it replaced. This filter catches
the rest and keeps every width. It is fast: most text is printable and passes unchanged.
"""

from __future__ import annotations

from rich.cells import get_character_cell_size
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from tui.clean import REPLACEMENT, has_controls


class OutputFilter(LineFilter):
    """A filter for `App._filters`, which Textual applies to every line of every widget."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        if all(text.isprintable() for text, _, _ in segments):
            return segments
        return [
            segment._replace(text=_safe(segment.text)) if has_controls(segment.text) else segment
            for segment in segments
        ]


def _safe(text: str) -> str:
    """Return `text` with U+FFFD for each unsafe character, in as many cells as Textual counted for it."""
    return "".join(
        REPLACEMENT * get_character_cell_size(char) if has_controls(char) else char for char in text
    )
