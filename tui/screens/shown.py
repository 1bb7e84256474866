"""One answer on the screen: the thought, under a line that says what it cost, and the answer behind it."""

from __future__ import annotations

from tui.chat import wording
from tui.protocol import Origin, Round
from tui.protocol.thoughts import TURNED, Part, Thoughts
from tui.widgets.transcript import Transcript


class Shown:
    """Begins a turn of the transcript, or two of the same key: a thought and the answer."""

    def __init__(self, transcript: Transcript, key: str, so_far: str = "") -> None:
        """`so_far` is the text of an answer that goes on: it is on the screen already."""
        self._transcript = transcript
        self._key = key
        self._thoughts = Thoughts()
        self._spent = wording.Spent()
        """By the rounds with which the thought came."""
        self._all = wording.Spent()
        self._answering = False
        if so_far:
            self._answering = any(not part.thought for part in self._thoughts.feed([(so_far, Origin.PLAIN)]))
            transcript.go_on()
        else:
            transcript.begin("assistant", key=key)

    def hear(self, event: Round) -> None:
        """More of it."""
        before = self._thoughts.thinking
        self._all = self._all.and_(event)
        parts = self._thoughts.feed(event.pieces)
        if before or self._thoughts.thinking or any(part.thought for part in parts):
            self._spent = self._spent.and_(event)
            self._transcript.think(wording.thought(self._spent, over=not self._thoughts.thinking))
        self._write(parts)

    def end(self, note: str) -> None:
        """It is all there; `note` stands under it."""
        self._write(self._thoughts.end())
        if self._spent.rounds and not self._answering:
            self._transcript.think(wording.thought(self._spent, over=True))
            self._answer()
        self._transcript.finish(note)

    def _write(self, parts: list[Part]) -> None:
        if TURNED in parts:
            at = parts.index(TURNED)
            self._write(parts[:at])
            self._turn()
            parts = parts[at + 1 :]
        self._transcript.append([(part.text, part.origin) for part in parts if part.thought])
        answer = [(part.text, part.origin) for part in parts if not part.thought]
        if answer and not self._answering:
            self._answer()
        self._transcript.append(answer)

    def _answer(self) -> None:
        """The thought is over, if there was one."""
        self._answering = True
        if self._spent.rounds:
            self._transcript.finish()
            self._transcript.begin("assistant", key=self._key)

    def _turn(self) -> None:
        """What was shown as an answer was a thought."""
        self._spent = self._all
        self._answering = False
        self._transcript.think(wording.thought(self._spent, over=True))
