"""A conversation on the screen: its lines in view, painted, scrolled, followed and selected.

It paints lines and has no child widgets. Where the text comes from is up to `Transcript`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.style import Style
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from tui.widgets.transcript import looks
from tui.widgets.transcript.conversation import Conversation
from tui.widgets.transcript.paint import paint, select
from tui.widgets.transcript.palette import Highlight, Palette, Theme
from tui.widgets.transcript.scrollbar import SteadyScrollBar

if TYPE_CHECKING:
    from tui.widgets.transcript.message import Message

_GUTTERS: Final = {
    "user": ("▌ ", "▌ ", looks.USER_BAR),
    "assistant": ("  ", "  ", looks.USER_BAR),
    "thought": ("  ", "  ", looks.NOTE),
    "error": ("✗ ", "  ", looks.ERROR),
}
"""What stands before a turn's first line and before its others, and its look."""
_MARKED: Final = ("▶ ", "┃ ", looks.USER_BAR)
"""The same of the message that a cursor is on."""
_GUTTER: Final = 2
_NARROWEST: Final = 8
_CACHED_LINES: Final = 2_000


class ConversationView(ScrollView, can_focus=True):
    """Shows `conversation`; call `lay_out` when it has changed."""

    DEFAULT_CSS = """
    ConversationView {
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
    show_thoughts: reactive[bool] = reactive(False, repaint=False)
    """Whether thoughts are unfolded."""
    following: reactive[bool] = reactive(True, repaint=False)
    """Whether the view moves along with the end of the text. Scrolling up ends it, the bottom resumes it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.conversation = Conversation()
        self._strips: dict[int, Strip] = {}
        self._palette: Palette | None = None
        self._painting = False
        self._written = 0
        """The conversation's height when it was painted last."""
        self.stride = 1
        """Lines that it moves by at once when text comes at its end: more where a moving line costs much."""

    def show(self, conversation: Conversation) -> None:
        """Show another conversation, from its end."""
        self.conversation = conversation
        self._strips.clear()
        self.following = True
        self.lay_out(0)
        self.refresh()

    # Layout

    @property
    def _width(self) -> int:
        """Cells in a line, the gutter of a message included."""
        return max(_GUTTER + _NARROWEST, self.scrollable_content_region.width)

    def lay_out(self, first: int) -> None:
        """Lay out the messages from number `first` on and paint what that changes."""
        if self.is_attached and self.size:
            changed = self.conversation.lay(first, self._width - _GUTTER, self.show_refused)
            self._extend()
            self._repaint(changed)

    def _extend(self) -> None:
        """Take the conversation's number of lines, and go along with its end."""
        height, view = self.conversation.height, self.scrollable_content_region.height
        if height > view:
            height = view + -(-(height - view) // self.stride) * self.stride
        size = Size(self._width, height)
        if self.virtual_size != size:
            # Set as it would be, but for the layout of the whole screen: no widget's size follows from this.
            self.set_reactive(ConversationView.virtual_size, size)
            following = self.following
            if following:
                self.vertical_scrollbar.move(virtual_size=height, position=max(0, height - view))
            self._scroll_update(size)
            self.following = following  # a shorter text moves the view, not its reader
        if self.following and self.scroll_offset.y != self.max_scroll_y:
            self.scroll_to(y=self.max_scroll_y, animate=False, force=True)

    def _repaint(self, first: int) -> None:
        """Refresh the lines in view, from line `first` of the text on, that differ from what was painted."""
        top, size = self.scroll_offset.y, self.size
        end = max(self.conversation.height, self._written)  # below both it is blank, as it was
        self._written = self.conversation.height
        stale = {y: self._strips.pop(y, None) for y in range(first, end)}
        in_view = range(max(first, top), min(end, top + size.height))
        changed = [y for y in in_view if self._strip(y, size.width) != stale[y]]
        if changed:
            self.refresh(Region(0, changed[0] - top, size.width, changed[-1] - changed[0] + 1))

    def on_resize(self) -> None:
        self.lay_out_again()

    def lay_out_again(self) -> None:
        """Lay out everything and keep the text at the top of the view where it is."""
        if not self.is_attached or not self.conversation.messages:
            return
        self._strips.clear()
        if self.text_selection is not None:
            self.screen.clear_selection()  # it names lines, and they are others now
        anchor = self.conversation.anchor(self.scroll_offset.y)
        self.lay_out(0)
        if not self.following:
            self.scroll_to(y=self.conversation.line_of(anchor), animate=False, force=True)
        self.refresh()

    @property
    def vertical_scrollbar(self) -> SteadyScrollBar:
        if not isinstance(self._vertical_scrollbar, SteadyScrollBar):  # made as Textual makes its own
            self._vertical_scrollbar = SteadyScrollBar(name="vertical", thickness=1)
            self._vertical_scrollbar.display = False
            self.app._start_widget(self, self._vertical_scrollbar)
        return self._vertical_scrollbar

    # Following

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if round(new_value) >= self.max_scroll_y:
            self.following = True
        elif new_value < old_value:
            self.following = False

    def watch_following(self, following: bool) -> None:
        if following and self.is_attached and self.conversation.messages:
            self._extend()

    # Looks

    def watch_highlight(self) -> None:
        self._restyle()

    def watch_show_refused(self) -> None:
        self.lay_out_again()

    def watch_show_thoughts(self) -> None:
        self.fold(self.conversation.messages, not self.show_thoughts)

    def fold(self, messages: Sequence[Message], folded: bool) -> None:
        """Fold the thoughts among `messages`, or unfold them."""
        for message in messages:
            if message.role == "thought" and message.folded != folded:
                message.folded = folded
                message.read()
        self.lay_out_again()

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
            self._palette = Palette(theme, self.highlight, self.background_colors[1])
        return self._palette

    # Painting

    def render_lines(self, crop: Region) -> list[Strip]:
        """As Textual's own, without its cache: it has no border, and the lines are kept here."""
        self._painting = True
        try:
            strips = [self.render_line(y) for y in crop.line_range]
        finally:
            self._painting = False
        for each in self.get_line_filters():
            strips = [strip.apply_filter(each, self.palette.background) for strip in strips]
        whole = crop.column_span == (0, self.size.width)
        return strips if whole else [strip.crop(*crop.column_span) for strip in strips]

    def render_line(self, y: int) -> Strip:
        line = y + self.scroll_offset.y
        strip = self._strip(line, self.size.width)
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

    def _strip(self, line: int, width: int) -> Strip:
        strip = self._strips.get(line)
        if strip is None:
            if len(self._strips) > _CACHED_LINES:
                self._strips.clear()
            strip = self._strips[line] = self._paint(line, width)
        return strip

    def _paint(self, line: int, width: int) -> Strip:
        found = self.conversation.locate(line)
        if found is None:
            return Strip.blank(width, self.palette.base)
        message, block, row = found
        marked = self.marked(message)
        first, rest, look = _MARKED if marked else _GUTTERS[message.role]
        gutter = first if row == 0 and block is message.blocks[0] else rest
        return paint(block, row, (gutter, look), width, self.palette)

    def marked(self, message: Message) -> bool:
        """Whether a cursor is on `message`."""
        return False

    # Selection

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected text, with newlines where the text has them and not where the screen wrapped it."""
        first = selection.start.y if selection.start else 0
        last = min(
            selection.end.y if selection.end else self.virtual_size.height, self.conversation.height - 1
        )
        spans = ((line, selection.get_span(line)) for line in range(first, last + 1))
        parts = [self.conversation.text(line, *span, _GUTTER) for line, span in spans if span is not None]
        return "".join(parts).removesuffix("\n"), "\n"
