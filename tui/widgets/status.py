"""One line under the conversation: the state, the draft length, the display of tokens.

The words of the state come from `chat/session.py` and `chat/turn.py`, in the form that `chat/formatting.py`
gives them; `ChatPanel` adds the display.
"""

from __future__ import annotations

from rich.cells import cell_len
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from tui.clean import clean_line
from tui.quantities import shortened

_PLUS = " + "


class StatusLine(Widget):
    """The state on the left, the display on the right. The words may be foreign text: they are cleaned."""

    DEFAULT_CSS = """
    StatusLine {
        height: 1;
        margin-top: 1;
        padding: 0 3;
        color: $quiet;
    }
    """

    state = reactive("")
    """The state in words."""
    models: reactive[tuple[str, ...]] = reactive(())
    """Names behind the state. Their middles are cut where there is no room."""
    tone = reactive("$quiet")
    """The color of the mark before the state: a theme variable."""
    figures: reactive[tuple[str, ...]] = reactive(())
    """Figures for a terminal without room for the sidebar. Without room, the last figure goes first."""
    display_mode = reactive("")
    """The draft length in words."""
    aside = reactive("")
    """The display of tokens. It is hidden where the left side has no room beside it."""

    def render(self) -> Content:
        width = self.content_size.width
        full = "  ".join(filter(None, (self.display_mode, self.aside)))
        fewer = [(self.display_mode, count) for count in range(len(self.figures), -1, -1)]
        for right, count in ((full, len(self.figures)), *fewer):
            room = width - len(right) - 2
            left = self._left(room, self.figures[:count])
            if left.cell_length <= room:
                break
        if room < 20:
            return self._left(width, ()).truncate(width, ellipsis=True)
        left = left.truncate(room, ellipsis=True)
        return Content.assemble(left, " " * (room + 2 - left.cell_length), right)

    def _left(self, room: int, figures: tuple[str, ...]) -> Content:
        """Return the state and these figures in about `room` cells."""
        detail = f"  ·  {'  '.join(figures)}" if figures else ""
        return Content.assemble(("● ", self.tone), self._state(room - 2 - len(detail)), detail)

    def _state(self, room: int) -> str:
        words = clean_line(self.state)
        if not self.models:
            return words
        names = [clean_line(each) for each in self.models]
        room -= cell_len(words) + 1
        if cell_len(_PLUS.join(names)) > room:
            share = (room - len(_PLUS) * (len(names) - 1)) // len(names)
            names = [shortened(each, share) for each in names]
        return f"{words} {_PLUS.join(names)}"
