"""The conversation: turns, and the text that streams into the last of them.

Text comes in by `append`, waits in a deque and is flushed by one timer. It cleans what it is given; it starts
no request, opens no link and keeps no history on disk.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from textual.timer import Timer

from tui.clean import clean_line
from tui.protocol import Origin
from tui.widgets.transcript import looks
from tui.widgets.transcript.conversation import Conversation
from tui.widgets.transcript.cursor import CursorView
from tui.widgets.transcript.highlight import highlight
from tui.widgets.transcript.pace import Pace

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

    from tui.widgets.transcript.message import Message, Role


class Transcript(CursorView):
    """Every turn of the conversation, with where each token came from."""

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
        self._parser: MarkdownIt | None = None
        self._pending: deque[tuple[str, int]] = deque()
        self._interval = interval
        self._timer: Timer | None = None
        self._is_open = False
        self._pace = Pace(clock, work)

    # The conversation

    @property
    def messages(self) -> Sequence[Message]:
        """The turns, oldest first; errors are turns of the role "error"."""
        return self.conversation.messages

    def text_of(self, index: int) -> str:
        """The text of a turn as it was written, cleaned, without what was refused."""
        self._flush()
        return self.messages[index].source

    def begin(self, role: Role, text: str = "", key: str = "") -> None:
        """Start a turn; `append` adds to it. `key` is what its owner calls it."""
        self._flush()
        message = self._new_message(role, key)
        message.folded = not self.show_thoughts
        message.write([(text, Origin.PLAIN)])
        message.read()
        self.conversation.add(message)
        self._is_open = True
        if role == "user":
            self.following = True
        self.lay_out(len(self.messages) - 1)

    def _new_message(self, role: Role, key: str = "") -> Message:
        # Reading Markdown takes 30 ms to import, and nothing is read before the first paint.
        from tui.widgets.transcript.markdown import new_parser
        from tui.widgets.transcript.message import Message

        self._parser = self._parser or new_parser(unicode=True)
        return Message(role, self._parser, key)

    def _warm_up(self) -> None:
        """Import what the first answer needs, while nobody waits for it."""
        self._new_message("assistant")
        highlight("pass", "python")

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
        self.lay_out(len(self.messages) - 1)

    def think(self, headline: str) -> None:
        """What comes in the open turn is a thought, which stands under this headline."""
        if self._is_open:
            self.messages[-1].role = "thought"
            self.messages[-1].headline = headline

    def go_on(self) -> None:
        """Open the last turn again, without its note; `append` adds to it."""
        self._flush()
        self.messages[-1].clear_notes()
        self._is_open = True
        self.following = True
        self.lay_out(len(self.messages) - 1)

    def cut(self, number: int) -> list[Message]:
        """Take the turns from `number` on off the screen; `put` brings them back."""
        self._flush()
        self._is_open = False
        gone = self.conversation.cut(number)
        self._strips.clear()
        if self.messages:
            self.lay_out(len(self.messages) - 1)
        self.refresh()
        return gone

    def put(self, message: Message, note: str | None = None) -> None:
        """Show a turn that was shown before, with this note under it; with None, as it was."""
        self.conversation.add(message)
        if note is None:
            self.lay_out(len(self.messages) - 1)
        else:
            self.note(len(self.messages) - 1, note)

    def note(self, number: int, note: str) -> None:
        """Let `note` stand under the turn `number` in place of what stands there; empty for nothing."""
        message = self.messages[number]
        message.clear_notes()
        if note:
            message.note(clean_line(note), looks.NOTE)
        self.lay_out(number)

    def fail(self, message: str, hint: str = "") -> None:
        """Say in the conversation what went wrong and, fainter, what to do about it."""
        self.begin("error", clean_line(message, 1_000))
        self._is_open = False
        if hint:
            self.messages[-1].note(clean_line(hint, 1_000), looks.NOTE)
        self.lay_out(len(self.messages) - 1)

    def clear(self) -> None:
        """Forget every turn."""
        self._pending.clear()
        self._is_open = False
        self.show(Conversation())

    # Streaming

    def on_mount(self) -> None:
        super().on_mount()  # type: ignore[no-untyped-call]
        self._timer = self.set_interval(self._interval, self._tick, pause=not self._pending)
        self.call_after_refresh(self._warm_up)

    def _tick(self) -> None:
        """Show what is pending, as Markdown if that is not too dear now."""
        if not self._write():
            self._pause()
        elif self._pace.is_due():
            self._flush()
        elif self.messages[-1].preview():
            self.lay_out(len(self.messages) - 1)

    def _flush(self) -> None:
        """Show what is pending, as Markdown."""
        if self._write():
            with self._pace.measured():
                self.messages[-1].read()
                self.lay_out(len(self.messages) - 1)
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


def code_blocks(text: str) -> list[str]:
    """The code of each fenced or indented block of a Markdown text."""
    from tui.widgets.transcript.markdown import new_parser

    tokens = new_parser().parse(text)
    return [token.content for token in tokens if token.type in ("fence", "code_block")]
