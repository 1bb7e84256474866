"""The last gate before the terminal: no control character leaves in a line, whichever widget drew it.

`clean` at the borders is the first gate and the one that shows what it took out. This one catches what
went past it, keeps every width, and is cheap: most text is printable and is passed on as it is.
"""

from __future__ import annotations

from rich.cells import get_character_cell_size
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from tui.clean import REPLACEMENT, has_controls


class OutputFilter(LineFilter):
    """Append one to `App._filters`, which Textual applies to every line of every widget."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        if all(text.isprintable() for text, _, _ in segments):
            return segments
        return [
            segment._replace(text=_safe(segment.text)) if has_controls(segment.text) else segment
            for segment in segments
        ]


def _safe(text: str) -> str:
    """`text` with U+FFFD for each unsafe character, as often as Textual counted cells for it."""
    return "".join(
        REPLACEMENT * get_character_cell_size(char) if has_controls(char) else char for char in text
    )
