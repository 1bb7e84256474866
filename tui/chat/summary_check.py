"""A summary while it comes: is it too long, and may it replace the turns that it sums up?"""

from __future__ import annotations

from tui.clean import exact
from tui.protocol import Reason, TextRound
from tui.protocol.pieces import said
from tui.protocol.thoughts import Thoughts, without_thought

from .repetition import Repetition

LONGEST = 2000
"""Tokens of a summary, at most. The request asks for 200 words, and some scripts need this many tokens for
them."""
SHARE = 4
"""A summary takes at most one part in this many of the context, because it must make room."""


class Summary:
    """Takes every round of a summary. A thought does not count, at any length."""

    def __init__(self, context_length: int) -> None:
        self._most = min(LONGEST, context_length // SHARE or LONGEST)
        self._text: list[str] = []
        self._thoughts = Thoughts()
        self._repetition = Repetition()
        self._all = self._tokens = 0
        """The number of tokens in all, and the number after the thought."""

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
        """Whether the summary can no longer succeed."""
        return self._tokens > self._most

    @property
    def text(self) -> str:
        return exact(without_thought("".join(self._text))).strip()

    def failure(self, reason: Reason) -> str:
        """Return the reason not to keep it, in words; empty if it is good."""
        if self._tokens > self._most or reason == "length":
            return f"the summary grew longer than {self._most:,} tokens"
        if reason == "cancelled":
            return "stopped"
        if reason == "context":
            return "the context was full before the summary ended"
        if not self.text:
            return "the model thought, and wrote nothing else" if self._all > 1 else "the model wrote nothing"
        return ""
