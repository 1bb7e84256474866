"""The lines of a conversation as strips of cells, each painted once. It knows no widget."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from textual.strip import Strip

from tui.widgets.transcript import style_codes
from tui.widgets.transcript.message_list import MessageList
from tui.widgets.transcript.paint import paint
from tui.widgets.transcript.token_styles import Palette

if TYPE_CHECKING:
    from tui.widgets.transcript.message import MessageBlock

_GUTTERS: Final = {
    "user": ("▌ ", "▌ ", style_codes.USER_BAR),
    "assistant": ("  ", "  ", style_codes.USER_BAR),
    "thought": ("  ", "  ", style_codes.NOTE),
    "error": ("✗ ", "  ", style_codes.ERROR),
}
"""The gutter of a turn's first line and of its others, and its look."""
_MARKED: Final = ("▶ ", "┃ ", style_codes.USER_BAR)
"""The same for the message under the cursor."""
GUTTER: Final = 2
_CACHED_LINES: Final = 2_000


class Painter:
    """Keeps the strips until `forget`, and the styles until `restyle`."""

    def __init__(
        self, make_palette: Callable[[], Palette], marked: Callable[[], MessageBlock | None]
    ) -> None:
        """`make_palette` returns the present styles, and `marked` the message under the cursor."""
        self._make_palette = make_palette
        self._palette: Palette | None = None
        self.strips: dict[int, Strip] = {}
        self._marked = marked
        self._written = 0
        """The height of the conversation at the last paint."""

    @property
    def palette(self) -> Palette:
        """The styles for the present theme and highlight."""
        if self._palette is None:
            self._palette = self._make_palette()
        return self._palette

    def forget(self) -> None:
        """Paint every line again."""
        self.strips.clear()

    def restyle(self) -> None:
        """Paint every line again, in other styles."""
        self._palette = None
        self.strips.clear()

    def strip(self, conversation: MessageList, line: int, width: int) -> Strip:
        strip = self.strips.get(line)
        if strip is None:
            if len(self.strips) > _CACHED_LINES:
                self.strips.clear()
            strip = self.strips[line] = self._paint(conversation, line, width)
        return strip

    def changed(self, conversation: MessageList, first: int, view: range, width: int) -> list[int]:
        """Paint the lines in `view` from line `first` of the text on; return the lines that have changed."""
        end = max(conversation.height, self._written)  # below both it is blank, as it was
        self._written = conversation.height
        stale = {y: self.strips.pop(y, None) for y in range(first, end)}
        in_view = range(max(first, view.start), min(end, view.stop))
        return [y for y in in_view if self.strip(conversation, y, width) != stale[y]]

    def _paint(self, conversation: MessageList, line: int, width: int) -> Strip:
        found = conversation.locate(line)
        if found is None:
            return Strip.blank(width, self.palette.base)
        message, block, row = found
        first, rest, look = _MARKED if message is self._marked() else _GUTTERS[message.role]
        gutter = first if row == 0 and block is message.blocks[0] else rest
        return paint(block, row, (gutter, look), width, self.palette)
