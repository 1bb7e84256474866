"""The conversation as one scrolling widget that paints lines, not child widgets.

Text comes in by `append`, waits in a deque and is flushed by one timer; only lines that changed are painted
again. It cleans what it is given; it starts no request, opens no link and keeps no history on disk.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from rich.style import Style
from textual.events import Resize
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.timer import Timer

from tui.clean import clean_line
from tui.protocol import Origin
from tui.widgets.transcript import looks
from tui.widgets.transcript.conversation import Conversation
from tui.widgets.transcript.markdown import new_parser
from tui.widgets.transcript.message import Message, Role
from tui.widgets.transcript.pace import Pace
from tui.widgets.transcript.paint import paint, select
from tui.widgets.transcript.palette import Highlight, Palette, Theme

_GUTTERS: Final = {
    "user": ("▌ ", "▌ ", looks.USER_BAR),
    "assistant": ("  ", "  ", looks.USER_BAR),
    "error": ("✗ ", "  ", looks.ERROR),
}
"""What stands before a turn's first line and before its others, and its look."""
_GUTTER: Final = 2
_NARROWEST: Final = 8
_CACHED_LINES: Final = 2_000


class Transcript(ScrollView, can_focus=True):
    """Every turn of the conversation, with where each token came from."""

    DEFAULT_CSS = """
    Transcript {
        height: 1fr;
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-gutter: stable;
        scrollbar-size-vertical: 1;
    }
    """

    highlight: reactive[Highlight] = reactive[Highlight]("quiet", repaint=False)
    """How origins look; a change moves no character."""
    show_refused: reactive[bool] = reactive(False, repaint=False)
    """Whether refused text stands, struck through, where it was refused. Lines may wrap elsewhere."""
    following: reactive[bool] = reactive(True, repaint=False)
    """Whether the view moves along with the end of the text. Scrolling up ends it, the bottom resumes it."""

    def __init__(
        self,
        *,
        interval: float = 1 / 30,
        clock: Callable[[], float] = time.monotonic,
        work: Callable[[], float] = time.thread_time,
        name: str | None = None,
        id: str | None = None,  # noqa: A002
        classes: str | None = None,
    ) -> None:
        """`interval` is the time between two flushes; `clock` and `work` are as in `Pace`. All in seconds."""
        super().__init__(name=name, id=id, classes=classes)
        self._conversation = Conversation()
        self._parser = new_parser()
        self._pending: deque[tuple[str, int]] = deque()
        self._interval = interval
        self._timer: Timer | None = None
        self._strips: dict[int, Strip] = {}
        self._palette: Palette | None = None
        self._painting = False
        self._is_open = False
        self._pace = Pace(clock, work)

    # The conversation

    @property
    def messages(self) -> Sequence[Message]:
        """The turns, oldest first; errors are turns of the role "error"."""
        return self._conversation.messages

    def text_of(self, index: int) -> str:
        """The text of a turn as it was written, cleaned, without what was refused."""
        self._flush()
        return self.messages[index].source

    def begin(self, role: Role, text: str = "") -> None:
        """Start a turn; `append` adds to it."""
        self._flush()
        message = Message(role, self._parser)
        message.write([(text, Origin.PLAIN)])
        message.read()
        self._conversation.add(message)
        self._is_open = True
        if role == "user":
            self.following = True
        self._lay_out(len(self.messages) - 1)

    def append(self, pieces: Sequence[tuple[str, int]]) -> None:
        """Add (text, origin) pieces of a round to the last turn; they show at the next flush.

        Does nothing after `finish`, `fail` and `clear`.
        """
        if not self._is_open:
            return
        self._pending.extend(pieces)
        if self._timer is not None:
            self._timer.resume()

    def finish(self, note: str = "") -> None:
        """End the turn, with a faint note such as "stopped" under it. Does nothing if none is open."""
        if not self._is_open:
            return
        self._flush()
        self._is_open = False
        message = self.messages[-1]
        message.end()
        message.read()
        if note:
            message.note(clean_line(note), looks.NOTE)
        self._lay_out(len(self.messages) - 1)

    def fail(self, message: str, hint: str = "") -> None:
        """Say in the conversation what went wrong and, fainter, what to do about it."""
        self.begin("error", clean_line(message, 1_000))
        self._is_open = False
        if hint:
            self.messages[-1].note(clean_line(hint, 1_000), looks.NOTE)
        self._lay_out(len(self.messages) - 1)

    def clear(self) -> None:
        """Forget every turn."""
        self._pending.clear()
        self._is_open = False
        self._conversation = Conversation()
        self._strips.clear()
        self.following = True
        self.virtual_size = Size(self._width, 0)
        self.refresh()

    # Streaming

    def on_mount(self) -> None:
        super().on_mount()  # type: ignore[no-untyped-call]
        self._timer = self.set_interval(self._interval, self._tick, pause=not self._pending)

    def _tick(self) -> None:
        """Show what is pending, as Markdown if that is not too dear now."""
        if not self._write():
            self._pause()
        elif self._pace.is_due():
            self._flush()
        elif self.messages[-1].preview():
            self._lay_out(len(self.messages) - 1)

    def _flush(self) -> None:
        """Show what is pending, as Markdown."""
        if self._write():
            with self._pace.measured():
                self.messages[-1].read()
                self._lay_out(len(self.messages) - 1)
        self._pause()

    def _write(self) -> bool:
        """Give what is pending to the last turn; whether it has anything to read."""
        if not self.messages:
            return False
        pieces = list(self._pending)
        self._pending.clear()
        self.messages[-1].write(pieces)
        return self.messages[-1].is_unread

    def _pause(self) -> None:
        if self._timer is not None:
            self._timer.pause()

    # Layout

    @property
    def _width(self) -> int:
        """Cells in a line, the gutter of a message included."""
        return max(_GUTTER + _NARROWEST, self.scrollable_content_region.width)

    def _lay_out(self, first: int) -> None:
        """Lay out the messages from number `first` on and paint what that changes."""
        if self.is_attached and self.size:
            changed = self._conversation.lay(first, self._width - _GUTTER, self.show_refused)
            self._extend()
            self._repaint(changed)

    def _extend(self) -> None:
        """Take the conversation's number of lines, and go along with its end."""
        size = Size(self._width, self._conversation.height)
        if self.virtual_size != size:
            self.virtual_size = size
        if self.following and self.scroll_offset.y != self.max_scroll_y:
            self.scroll_to(y=self.max_scroll_y, animate=False, force=True)

    def _repaint(self, first: int) -> None:
        """Refresh the lines in view, from line `first` of the text on, that differ from what was painted."""
        top = self.scroll_offset.y
        stale = {y: strip for y, strip in self._strips.items() if y >= first}
        for y in stale:
            del self._strips[y]
        changed = [
            y for y in range(max(first, top), top + self.size.height) if self._strip(y) != stale.get(y)
        ]
        if changed:
            self.refresh(Region(0, changed[0] - top, self.size.width, changed[-1] - changed[0] + 1))

    def on_resize(self, event: Resize) -> None:
        if self.messages:
            self._lay_out_again()

    def _lay_out_again(self) -> None:
        """Lay out everything and keep the text at the top of the view where it is."""
        self._strips.clear()
        if self.text_selection is not None:
            self.screen.clear_selection()  # it names lines, and they are others now
        anchor = self._conversation.anchor(self.scroll_offset.y)
        self._lay_out(0)
        if not self.following:
            self.scroll_to(y=self._conversation.line_of(anchor), animate=False, force=True)
        self.refresh()

    # Following

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if round(new_value) >= self.max_scroll_y:
            self.following = True
        elif new_value < old_value:
            self.following = False

    def watch_following(self, following: bool) -> None:
        if following and self.is_attached and self.messages:
            self._extend()

    # Looks

    def watch_highlight(self) -> None:
        self._restyle()

    def watch_show_refused(self) -> None:
        if self.messages:
            self._lay_out_again()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._restyle()

    def _restyle(self) -> None:
        """Paint again, in the same places."""
        self._palette = None
        self._strips.clear()
        if self.is_attached:
            self.refresh()

    @property
    def palette(self) -> Palette:
        """The styles for the theme and the highlight of now."""
        if self._palette is None:
            app = self.app
            ansi = bool(app.native_ansi_color) or app.console.color_system == "standard"
            theme = Theme(app.theme_variables, self.rich_style, ansi, app.no_color)
            self._palette = Palette(theme, self.highlight)
        return self._palette

    # Painting

    def render_lines(self, crop: Region) -> list[Strip]:
        self._painting = True
        try:
            return super().render_lines(crop)
        finally:
            self._painting = False

    def render_line(self, y: int) -> Strip:
        line = y + self.scroll_offset.y
        strip = self._strip(line)
        if not self._painting:
            # The compositor asks what letter is under the mouse. Painting leaves this out: it would make a
            # style of its own of every segment.
            return strip.apply_offsets(0, line)
        if (selection := self.text_selection) is not None and (span := selection.get_span(line)) is not None:
            strip = select(strip, *span, self._selection_style)
        return strip

    @property
    def _selection_style(self) -> Style:
        return self.screen.get_component_rich_style("screen--selection")

    def _strip(self, line: int) -> Strip:
        strip = self._strips.get(line)
        if strip is None:
            if len(self._strips) > _CACHED_LINES:
                self._strips.clear()
            strip = self._strips[line] = self._paint(line)
        return strip

    def _paint(self, line: int) -> Strip:
        width = self.size.width
        found = self._conversation.locate(line)
        if found is None:
            return Strip.blank(width, self.palette.base)
        message, block, row = found
        first, rest, look = _GUTTERS[message.role]
        gutter = first if row == 0 and block is message.blocks[0] else rest
        return paint(block, row, (gutter, look), width, self.palette)

    # Selection

    def selection_updated(self, selection: Selection | None) -> None:
        self._styles_cache.clear()
        self.refresh()

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected text, with newlines where the text has them and not where the screen wrapped it."""
        first = selection.start.y if selection.start else 0
        last = min(
            selection.end.y if selection.end else self.virtual_size.height, self._conversation.height - 1
        )
        spans = ((line, selection.get_span(line)) for line in range(first, last + 1))
        parts = [self._conversation.text(line, *span, _GUTTER) for line, span in spans if span is not None]
        return "".join(parts).removesuffix("\n"), "\n"
