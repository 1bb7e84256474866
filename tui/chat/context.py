"""The part of a conversation that the model receives: system prompt, summary and latest turns.

It asks no model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from tui import protocol, store
from tui.protocol.thoughts import apart


class SentContext:
    """The messages of one conversation as they are sent."""

    def __init__(
        self,
        path: Callable[[], Sequence[store.Turn]],
        turn_of: Callable[[str], store.Turn | None],
        record: Callable[[str, str], None],
    ) -> None:
        """`path` returns the turns that are shown; `turn_of` returns one of these turns by its key.

        `record` receives the key of the first turn that is sent, and the summary of the turns before it.
        """
        self._path = path
        self._turn_of = turn_of
        self._record = record
        self.system_prompt = ""
        """The first text that the model receives; empty for none."""
        self.begin()

    def begin(self, sent_from: str = "", summary: str = "") -> None:
        """Send the turns from `sent_from` on (empty: all), and `summary` for the turns before it."""
        self._sent_from = sent_from
        self.summary = summary
        """The summary of the turns that are not sent; empty for none."""

    def messages(self) -> tuple[protocol.Message, ...]:
        """Return the messages of the path as the model receives them."""
        return self._as_sent(self._path())

    def messages_to(self, answer: store.Turn) -> tuple[protocol.Message, ...]:
        """Return the messages that led to `answer`, a turn on the path."""
        path = self._path()
        return self._as_sent(path[: next(at for at, turn in enumerate(path) if turn.key == answer.key)])

    def messages_to_sum_up(self, share: float, instruction: str) -> tuple[protocol.Message, ...]:
        """Return the turns that `leave_out` would leave out, and `instruction`; nothing if there are none."""
        path = self._path()
        sent = self._sent(path)
        first = _first_to_stay(sent, share)
        out = path[: len(path) - len(sent) + first]
        return (*self._as_sent(out), protocol.Message("user", instruction)) if first else ()

    @property
    def left(self) -> store.Turn | None:
        """The last turn that is no longer sent."""
        first = self._turn_of(self._sent_from)
        return self._turn_of(first.parent) if first else None

    def leave_out(self, share: float, summary: str = "") -> int:
        """Send only the latest turns that hold `share` of the sent text, and at least the last prompt with
        its answer.

        `summary` replaces the other turns. Returns the number of turns that this call left out.
        """
        sent = self._sent(self._path())
        if first := _first_to_stay(sent, share):
            self.begin(sent[first].key, summary)
            self._record(sent[first].key, summary)
        return first

    def _sent(self, path: Sequence[store.Turn]) -> Sequence[store.Turn]:
        """Return `path` without the turns that are left out."""
        begin = next((place for place, turn in enumerate(path) if turn.key == self._sent_from), 0)
        return path[begin:]

    def _as_sent(self, path: Sequence[store.Turn]) -> tuple[protocol.Message, ...]:
        """Return `path` as messages. The summary stands at the head of the first prompt, because many
        templates allow only one message that the user did not write."""
        sent = self._sent(path)
        # An answer that was broken off inside its thought says nothing, and a model would continue it.
        said = (turn for turn in sent if turn.role == "user" or apart(turn.text)[1].strip())
        messages = [protocol.Message(turn.role, turn.text) for turn in said]
        if self.summary and messages and len(sent) < len(path):
            first = f"What was said before, in short:\n\n{self.summary}\n\n---\n\n{messages[0].content}"
            messages[0] = replace(messages[0], content=first)
        opening = (protocol.Message("system", self.system_prompt),) if self.system_prompt else ()
        return (*opening, *messages)


def _first_to_stay(sent: Sequence[store.Turn], share: float) -> int:
    """Return the number of turns of `sent` that `leave_out` leaves out."""
    room = share * sum(len(turn.text) for turn in sent)
    first = len(sent)
    while first > 0 and (first > len(sent) - 2 or len(sent[first - 1].text) <= room):
        first -= 1
        room -= len(sent[first].text)
    first += first < len(sent) and sent[first].role == "assistant"
    return first if first < len(sent) else 0
