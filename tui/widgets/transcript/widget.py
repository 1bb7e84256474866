"""The conversation on the screen: its lines in view, scrolling, selection, and a cursor on messages.

It is one widget that paints lines and has no children. Its `writer` takes the text, its `painter` makes the
cells. It does no action on a message: it posts the wish, with the key of the message.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from textual import events, on
from textual import message as messages
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from tui.widgets.transcript.message_list import MessageList
from tui.widgets.transcript.paint import select
from tui.widgets.transcript.painter import GUTTER, Painter
from tui.widgets.transcript.scrollbar import SteadyScrollBar
from tui.widgets.transcript.throttle import Throttle
from tui.widgets.transcript.token_styles import Highlight, Palette, Theme
from tui.widgets.transcript.writer import Writer

if TYPE_CHECKING:
    from tui.widgets.transcript.message import MessageBlock

_NARROWEST: Final = 8
Want = (
    Literal["edit", "again", "same", "continue", "before", "after"]
    | Literal["copy", "code", "open", "inspect", "delete", "undo"]
)


class Transcript(ScrollView, can_focus=True):
    """Every turn of a conversation, with the origin of each token."""

    FOCUS_ON_CLICK = False  # a click selects text: letters typed after it are meant for the composer
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "screen.stop('answer')", "Stop", priority=True, id="read.stop",
                tooltip="Stop the answer; its text stays"),
        Binding("escape,tab", "screen.write", "Back", priority=True, id="read.leave",
                tooltip="Back to writing"),
        Binding("up,k", "move(-1)", "Up", show=False, id="read.up", tooltip="The message before"),
        Binding("down,j", "move(1)", "Down", show=False, id="read.down", tooltip="The message after"),
        Binding("enter,space", "fold", "Thought", show=False, id="read.fold",
                tooltip="Open a thought, or fold it"),
        Binding("e", "want('edit')", "Edit", id="read.edit", tooltip="Edit the prompt: sent, it is a branch"),
        Binding("r", "want('again')", "Again", id="read.again", tooltip="Regenerate (new seed)"),
        Binding("s", "want('same')", "Same seed", show=False, id="read.same",
                tooltip="Regenerate (same seed)"),
        Binding("c", "want('continue')", "Go on", id="read.continue",
                tooltip="Go on with an answer that was stopped"),
        Binding("left,h", "want('before')", "Branch", id="read.before", key_display="←→",
                tooltip="The branch before"),
        Binding("right,l", "want('after')", "Branch after", show=False, id="read.after",
                tooltip="The branch after"),
        Binding("y", "want('copy')", "Copy", id="read.copy", tooltip="Copy the message as Markdown"),
        Binding("b", "want('code')", "Code", show=False, id="read.code",
                tooltip="Copy its next block of code"),
        Binding("i", "want('inspect')", "Inside", show=False, id="read.inspect",
                tooltip="See inside the answer: every token"),
        Binding("d,delete", "want('delete')", "Delete", show=False, id="read.delete",
                tooltip="Delete it and all that follows"),
        Binding("u", "want('undo')", "Undo", show=False, id="read.undo",
                tooltip="Bring back the deleted messages"),
        Binding("g", "move('first')", "First", show=False, id="read.first", tooltip="The first message"),
        Binding("G", "move('last')", "Last", show=False, id="read.last", tooltip="The last message"),
        Binding("o", "want('open')", "Open", show=False, id="read.open",
                tooltip="Look at it in your $EDITOR"),
        # The screen's own keys, without their place in the footer: 80 columns hold no more.
        Binding("ctrl+n", "screen.new", show=False, id="read.new"),
        Binding("ctrl+o", "screen.history", show=False, id="read.history"),
        Binding("ctrl+l", "screen.models", show=False, id="read.models"),
    ]  # fmt: skip

    cursor: reactive[int | None] = reactive[int | None](None, repaint=False)
    """The number of the message under the cursor; None while the cursor is hidden."""

    @dataclass
    class Wanted(messages.Message):
        """A person's wish for the message `key`."""

        want: Want
        key: str

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
    """The display of origins; a change moves no character."""
    show_rejected: reactive[bool] = reactive(False, repaint=False)
    """Whether rejected text stands in its place, struck through. Lines may wrap elsewhere."""
    show_thoughts: reactive[bool] = reactive(False, repaint=False)
    """Whether thoughts are unfolded."""
    following: reactive[bool] = reactive(True, repaint=False)
    """Whether the view follows the end of the text. Scrolling up ends it, the bottom resumes it."""

    def __init__(
        self,
        *,
        interval: float = 1 / 30,
        clock: Callable[[], float] = time.monotonic,
        work: Callable[[], float] = time.thread_time,
        id: str | None = None,  # noqa: A002
        classes: str | None = None,
    ) -> None:
        """`interval` is the number of seconds between two flushes; `clock` and `work` are as in
        `Throttle`."""
        super().__init__(id=id, classes=classes)
        self.conversation = MessageList()
        self.painter = Painter(lambda: palette_of(self), lambda: self.marked)
        self.writer = Writer(self, Throttle(clock, work))
        self._interval = interval
        self._painting = False
        self.stride = 1
        """Lines by which the view moves when text comes at its end: more where moving a line is expensive."""

    def on_mount(self) -> None:
        super().on_mount()  # type: ignore[no-untyped-call]
        timer = self.set_interval(self._interval, self.writer.tick, pause=not self.writer.is_pending)
        self.writer.start(timer)
        self.call_after_refresh(self.writer.warm_up)

    @property
    def messages(self) -> Sequence[MessageBlock]:
        """The turns, oldest first; errors are turns of the role "error"."""
        return self.conversation.messages

    @property
    def marked(self) -> MessageBlock | None:
        """The message under the cursor."""
        found = self.messages
        return found[self.cursor] if self.cursor is not None and self.cursor < len(found) else None

    def show(self, conversation: MessageList) -> None:
        """Show another conversation, from its end."""
        self.conversation = conversation
        self.painter.forget()
        self.following = True
        self.lay_out(0)
        self.refresh()

    # Layout

    def lay_out(self, first: int) -> None:
        """Lay out the messages from number `first` on and paint the changes."""
        if self.is_attached and self.size:
            begin = self.conversation.lay(first, width_of(self) - GUTTER, self.show_rejected)
            self._extend()
            top, (width, height) = self.scroll_offset.y, self.size
            if changed := self.painter.changed(self.conversation, begin, range(top, top + height), width):
                self.refresh(Region(0, changed[0] - top, width, changed[-1] - changed[0] + 1))

    def _extend(self) -> None:
        """Take the conversation's number of lines, and follow its end."""
        height, view = self.conversation.height, self.scrollable_content_region.height
        if height > view:
            height = view + -(-(height - view) // self.stride) * self.stride
        size = Size(width_of(self), height)
        if self.virtual_size != size:
            # Set without the layout of the whole screen: no widget's size follows from this.
            self.set_reactive(Transcript.virtual_size, size)
            following = self.following
            if following:
                self.vertical_scrollbar.move(virtual_size=height, position=max(0, height - view))
            self._scroll_update(size)
            self.following = following  # a shorter text moved the view, not the reader
        if self.following and self.scroll_offset.y != self.max_scroll_y:
            self.scroll_to(y=self.max_scroll_y, animate=False, force=True)

    @on(events.Resize)
    def lay_out_again(self) -> None:
        """Lay out everything and keep the text at the top of the view in its place."""
        if not self.is_attached or not self.conversation.messages:
            return
        self.painter.forget()
        if self.text_selection is not None:
            self.screen.clear_selection()  # it names lines, and their numbers have changed
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
        """Paint again, in the same places."""
        self.painter.restyle()
        if self.is_attached:
            self.refresh()

    def watch_show_rejected(self) -> None:
        self.lay_out_again()

    def watch_show_thoughts(self) -> None:
        self.conversation.fold_thoughts(folded=not self.show_thoughts)
        self.lay_out_again()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self.watch_highlight()

    # Painting

    def render_lines(self, crop: Region) -> list[Strip]:
        """Render as Textual does, but without its cache: there is no border, and the lines are kept here."""
        self._painting = True
        try:
            strips = [self.render_line(y) for y in crop.line_range]
        finally:
            self._painting = False
        for each in self.get_line_filters():
            strips = [strip.apply_filter(each, self.painter.palette.background) for strip in strips]
        whole = crop.column_span == (0, self.size.width)
        return strips if whole else [strip.crop(*crop.column_span) for strip in strips]

    def render_line(self, y: int) -> Strip:
        line = y + self.scroll_offset.y
        strip = self.painter.strip(self.conversation, line, self.size.width)
        if not self._painting:
            # The compositor asks for the letter under the mouse. Painting leaves this out, because it would
            # make a style of its own for every segment.
            return strip.apply_offsets(0, line)
        if (selection := self.text_selection) is not None and (span := selection.get_span(line)) is not None:
            strip = select(strip, *span, self.screen.get_component_rich_style("screen--selection"))
        return strip

    # Selection

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """Return the selected text, with the newlines of the text and not those of wrapping."""
        first = selection.start.y if selection.start else 0
        last = min(
            selection.end.y if selection.end else self.virtual_size.height, self.conversation.height - 1
        )
        spans = ((line, selection.get_span(line)) for line in range(first, last + 1))
        parts = [self.conversation.text(line, *span, GUTTER) for line, span in spans if span is not None]
        return "".join(parts).removesuffix("\n"), "\n"

    # The cursor

    def on_focus(self, event: events.Focus) -> None:
        if self.cursor is None:
            self.read_last()

    def read_last(self) -> None:
        """Put the cursor on the last message at once, because a key may be handled before the focus."""
        self.cursor = len(self.messages) - 1 if self.messages else None

    def on_blur(self, event: events.Blur) -> None:
        self.cursor = None

    def watch_cursor(self) -> None:
        """Mark the message under the cursor, and bring it into view."""
        self.painter.forget()
        if not self.is_attached:
            return
        self.refresh()
        if self.cursor is None or self.marked is None:
            return
        begin, end = self.conversation.lines_of(self.cursor)
        top, height = self.scroll_offset.y, max(1, self.size.height)
        if begin < top or end - begin > height:
            self.scroll_to(y=begin, animate=False, force=True)
        elif end > top + height:
            self.scroll_to(y=end - height, animate=False, force=True)

    def action_move(self, by: int | Literal["first", "last"]) -> None:
        """Move the cursor by so many messages, or to one end."""
        if self.cursor is not None:
            last = len(self.messages) - 1
            place = {"first": 0, "last": last}[by] if isinstance(by, str) else self.cursor + by
            self.cursor = max(0, min(last, place))

    def action_want(self, want: Want) -> None:
        if self.marked:
            self.post_message(self.Wanted(want, self.marked.key))

    def action_fold(self) -> None:
        """Open or fold the thought of the message."""
        if self.marked:
            self.conversation.toggle_thoughts(self.marked.key)
            self.lay_out_again()


def width_of(view: Transcript) -> int:
    """Return the cells in a line, with the gutter of a message."""
    return max(GUTTER + _NARROWEST, view.scrollable_content_region.width)


def palette_of(view: Transcript) -> Palette:
    """Return the styles for the present theme and highlight."""
    app = view.app
    ansi = bool(app.native_ansi_color) or app.console.color_system == "standard"
    theme = Theme(app.theme_variables, view.rich_style, ansi, app.no_color)
    return Palette(theme, view.highlight, view.background_colors[1])
