"""A cursor over the messages of a conversation, and the keys of what can be done with one.

It does none of it: what a person wants is posted, with the key of the message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from textual import events
from textual import message as messages
from textual.binding import Binding, BindingType
from textual.reactive import reactive

from tui.widgets.transcript.view import ConversationView

if TYPE_CHECKING:
    from tui.widgets.transcript.message import Message

Want = Literal[
    "edit",
    "again",
    "same",
    "continue",
    "before",
    "after",
    "copy",
    "code",
    "open",
    "inspect",
    "delete",
    "undo",
]


class CursorView(ConversationView):
    """A conversation over whose messages a cursor moves while it has the focus."""

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
        Binding("g", "end(-1)", "First", show=False, id="read.first", tooltip="The first message"),
        Binding("G", "end(1)", "Last", show=False, id="read.last", tooltip="The last message"),
        Binding("o", "want('open')", "Open", show=False, id="read.open",
                tooltip="Look at it in your $EDITOR"),
        # The screen's own keys, without their place in the footer: 80 columns hold no more.
        Binding("ctrl+n", "screen.new", show=False, id="read.new"),
        Binding("ctrl+o", "screen.history", show=False, id="read.history"),
        Binding("ctrl+l", "screen.models", show=False, id="read.models"),
    ]  # fmt: skip

    cursor: reactive[int | None] = reactive[int | None](None, repaint=False)
    """The number of the message that it is on; None while it is not shown."""

    @dataclass
    class Wanted(messages.Message):
        """What a person wants of the message `key`."""

        want: Want
        key: str

    def on_focus(self, event: events.Focus) -> None:
        if self.cursor is None:
            self.read_last()

    def read_last(self) -> None:
        """Put the cursor on the last message, at once: a key that follows may be handled before the focus."""
        self.cursor = len(self.conversation.messages) - 1 if self.conversation.messages else None

    def on_blur(self, event: events.Blur) -> None:
        self.cursor = None

    def watch_cursor(self) -> None:
        """Mark its message, and bring that into view."""
        self._strips.clear()
        if not self.is_attached:
            return
        self.refresh()
        if self.cursor is not None and self.cursor < len(self.conversation.messages):
            self._reveal(self.cursor)

    def _reveal(self, number: int) -> None:
        begin, end = self.conversation.lines_of(number)
        top, height = self.scroll_offset.y, max(1, self.size.height)
        if begin < top or end - begin > height:
            self.scroll_to(y=begin, animate=False, force=True)
        elif end > top + height:
            self.scroll_to(y=end - height, animate=False, force=True)

    def marked(self, message: Message) -> bool:
        found = self.conversation.messages
        return self.cursor is not None and self.cursor < len(found) and found[self.cursor] is message

    def action_move(self, by: int) -> None:
        if self.cursor is not None:
            self.cursor = max(0, min(len(self.conversation.messages) - 1, self.cursor + by))

    def action_end(self, to: int) -> None:
        self.action_move(to * len(self.conversation.messages))

    def action_want(self, want: Want) -> None:
        if self.cursor is not None and self.cursor < len(self.conversation.messages):
            self.post_message(self.Wanted(want, self.conversation.messages[self.cursor].key))

    def action_fold(self) -> None:
        """Open or fold the thought of the message."""
        messages = self.conversation.messages
        if self.cursor is not None and self.cursor < len(messages):
            key = messages[self.cursor].key
            found = [each for each in messages if each.role == "thought" and each.key == key]
            self.fold(found, folded=not all(each.folded for each in found))
