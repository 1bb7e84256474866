"""Writes the turns of a conversation, and the text that streams into the last of them.

Text comes in by `append`, waits in a deque and is flushed by one timer. It is cleaned here. The writer starts
no request, opens no link and keeps no history on disk.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from textual.timer import Timer

from tui.clean import clean_line
from tui.protocol import Origin
from tui.widgets.transcript import style_codes
from tui.widgets.transcript.highlight import highlight
from tui.widgets.transcript.message_list import MessageList
from tui.widgets.transcript.painter import Painter
from tui.widgets.transcript.throttle import Throttle

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

    from tui.widgets.transcript.message import MessageBlock, Role


class Page(Protocol):
    """The widget that shows the turns."""

    conversation: MessageList
    painter: Painter
    following: bool
    show_thoughts: bool

    def show(self, conversation: MessageList) -> None:
        """Show another conversation."""

    def lay_out(self, first: int) -> None:
        """Lay out the messages from number `first` on, and paint the difference."""

    def refresh(self) -> object:
        """Paint everything again."""


class Writer:
    """The turns of one `Page`."""

    def __init__(self, page: Page, pace: Throttle) -> None:
        self._page = page
        self._pace = pace
        self._parser: MarkdownIt | None = None
        self._pending: deque[tuple[str, int]] = deque()
        self._timer: Timer | None = None
        self._later: asyncio.TimerHandle | None = None
        """Resumes the timer for a little text, after a moment."""
        self._is_open = False

    def start(self, timer: Timer) -> None:
        """Show pending text by `timer`, which calls `tick`, from now on."""
        self._timer = timer

    @property
    def is_pending(self) -> bool:
        """Whether text waits for a paint."""
        return bool(self._pending)

    @property
    def messages(self) -> Sequence[MessageBlock]:
        """The turns, oldest first."""
        return self._page.conversation.messages

    # The conversation

    def text_of(self, index: int) -> str:
        """Return the text of a turn as it was written, cleaned, without rejected text."""
        self.flush()
        return self.messages[index].source

    def begin(self, role: Role, text: str = "", key: str = "") -> None:
        """Start a turn; `append` adds to it. `key` is its name for the owner."""
        self.flush()
        message = self._new_message(role, key)
        message.folded = not self._page.show_thoughts
        message.write([(text, Origin.PLAIN)])
        message.read()
        self._page.conversation.add(message)
        self._is_open = True
        if role == "user":
            self._page.following = True
        self._page.lay_out(len(self.messages) - 1)

    def _new_message(self, role: Role, key: str = "") -> MessageBlock:
        # Reading Markdown takes 30 ms to import, and nothing is read before the first paint.
        from tui.widgets.transcript.markdown import new_parser
        from tui.widgets.transcript.message import MessageBlock

        self._parser = self._parser or new_parser(unicode=True)
        return MessageBlock(role, self._parser, key)

    def warm_up(self) -> None:
        """Import the modules of the first answer while nobody waits for it."""
        self._new_message("assistant")
        highlight("pass", "python")

    def append(self, pieces: Sequence[tuple[str, int]]) -> None:
        """Add (text, origin) pieces of a round to the last turn; they show at the next flush.

        Does nothing after `finish`, `fail` and `clear`.
        """
        if not self._is_open or not pieces:
            return
        self._pending.extend(pieces)
        if self._timer is None:
            return
        if rest := self._pace.rest(len(self._pending)):
            self._later = self._later or asyncio.get_running_loop().call_later(rest, self._timer.resume)
        else:
            self._timer.resume()

    def finish(self, note: str = "") -> None:
        """End the turn, with a faint note such as "stopped" under it. Does nothing if none is open."""
        if not self._is_open:
            return
        self.flush()
        self._is_open = False
        message = self.messages[-1]
        message.end()
        message.read()
        if note:
            message.note(clean_line(note), style_codes.NOTE)
        self._page.lay_out(len(self.messages) - 1)

    def think(self, headline: str) -> None:
        """Turn the text of the open turn into a thought under this headline."""
        if self._is_open:
            self.messages[-1].role = "thought"
            self.messages[-1].headline = headline

    def go_on(self) -> None:
        """Open the last turn again, without its note; `append` adds to it."""
        self.flush()
        self.messages[-1].clear_notes()
        self._is_open = True
        self._page.following = True
        self._page.lay_out(len(self.messages) - 1)

    def cut(self, number: int) -> list[MessageBlock]:
        """Remove the turns from `number` on from the screen; `put` brings them back."""
        self.flush()
        self._is_open = False
        gone = self._page.conversation.cut(number)
        self._page.painter.forget()
        if self.messages:
            self._page.lay_out(len(self.messages) - 1)
        self._page.refresh()
        return gone

    def put(self, message: MessageBlock, note: str | None = None) -> None:
        """Show a turn again, with this note under it; with None, unchanged."""
        self._page.conversation.add(message)
        if note is None:
            self._page.lay_out(len(self.messages) - 1)
        else:
            self.note(len(self.messages) - 1, note)

    def note(self, number: int, note: str) -> None:
        """Put `note` under the turn `number` in place of the old one; empty for none."""
        message = self.messages[number]
        message.clear_notes()
        if note:
            message.note(clean_line(note), style_codes.NOTE)
        self._page.lay_out(number)

    def fail(self, message: str, hint: str = "") -> None:
        """Show a failure in the conversation and, fainter, the remedy."""
        self.begin("error", clean_line(message, 1_000))
        self._is_open = False
        if hint:
            self.messages[-1].note(clean_line(hint, 1_000), style_codes.NOTE)
        self._page.lay_out(len(self.messages) - 1)

    def clear(self) -> None:
        """Forget every turn."""
        self._pending.clear()
        self._is_open = False
        self._page.show(MessageList())

    # Streaming

    def tick(self) -> None:
        """Show the pending text, as Markdown if that is cheap enough now."""
        if not self._write():
            self._pause()
        elif self._pace.is_due():
            self.flush()
        elif self.messages[-1].preview():
            self._page.lay_out(len(self.messages) - 1)

    def flush(self) -> None:
        """Show the pending text, as Markdown."""
        if self._write():
            with self._pace.measured():
                self.messages[-1].read()
                self._page.lay_out(len(self.messages) - 1)
        self._pause()

    def _write(self) -> bool:
        """Give the pending text to the last turn; return whether it has anything to read."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if not self.messages:
            return False
        pieces = list(self._pending)
        self._pending.clear()
        self.messages[-1].write(pieces)
        if pieces:
            self._pace.painted()
        return self.messages[-1].is_unread

    def _pause(self) -> None:
        if self._timer is not None:
            self._timer.pause()


def code_blocks(text: str) -> list[str]:
    """Return the code of each fenced or indented block of a Markdown text."""
    from tui.widgets.transcript.markdown import new_parser

    tokens = new_parser().parse(text)
    return [token.content for token in tokens if token.type in ("fence", "code_block")]
