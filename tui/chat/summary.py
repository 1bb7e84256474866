"""A summary as it comes: whether it grows too long, and may stand for what it sums up. It asks nobody."""

from __future__ import annotations

from tui.clean import exact
from tui.protocol import Reason, TextRound
from tui.protocol.pieces import said
from tui.protocol.thoughts import Thoughts, without_thought

from .repetition import Repetition

LONGEST = 2000
"""Tokens of a summary, at most. It is asked for in 200 words, which some scripts take so many tokens for."""
SHARE = 4
"""A summary takes at most this part of the context: it is there to make room."""


class Summary:
    """Hear every round of it. A thought counts for nothing, however long it is."""

    def __init__(self, context_length: int) -> None:
        self._most = min(LONGEST, context_length // SHARE or LONGEST)
        self._text: list[str] = []
        self._thoughts = Thoughts()
        self._repetition = Repetition()
        self._all = self._tokens = 0
        """How many came, and how many of them behind the thought."""

    def hear(self, happened: TextRound) -> None:
        self._text.append(said(happened.pieces))
        self._thoughts.feed(happened.pieces)
        self._repetition.add(happened.tokens)
        self._all += len(happened.tokens)
        if not self._thoughts.thinking:
            self._tokens += len(happened.tokens)

    @property
    def progress(self) -> str:
        if self._thoughts.thinking:
            return f"thinking, {self._all:,} tokens"
        return f"{self._tokens:,} tokens"

    @property
    def repeats(self) -> bool:
        return self._repetition.found

    @property
    def in_vain(self) -> bool:
        """Whether nothing can become of it any more."""
        return self._tokens > self._most

    @property
    def text(self) -> str:
        return exact(without_thought("".join(self._text))).strip()

    def failure(self, reason: Reason) -> str:
        """Why it is not to be kept, in words; empty if it is."""
        if self._tokens > self._most or reason == "length":
            return f"the summary grew longer than {self._most:,} tokens"
        if reason == "cancelled":
            return "stopped"
        if reason == "context":
            return "the context was full before the summary ended"
        if not self.text:
            return "the model thought, and wrote nothing else" if self._all > 1 else "the model wrote nothing"
        return ""
