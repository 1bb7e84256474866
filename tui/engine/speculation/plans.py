"""The tokens of one round as they gather, and who proposes the next: a lookup or a draft model.

A lookup costs nothing, and its tokens stand first. It has the word while it is likelier to be right than the
draft: its chance by the evidence at hand, against what is expected of the draft. Then the draft speaks; where
it says what the lookup had found, it has confirmed the copy, which may then go on alone. A lookup without a
draft, or beside one that is not ready, proposes what it has.

A plan asks no model. It keeps all that came up, for the pace to learn from.
"""

from __future__ import annotations

from .chances import Guess, Skill

SLICE = 512
"""Most tokens that a draft model reads in one round: between rounds an answer can be stopped."""
_SOBER = 0.96
"""With a fixed length, a lookup that is less sure than this leaves the word to a draft model."""


class Plan:
    """A proposal of so many tokens, whatever they cost."""

    def __init__(self, length: int, skill: Skill | None = None) -> None:
        self.tokens: list[int] = []
        self.looked_up = 0
        self.found: list[Guess] = []
        """The copy that a lookup came up with, taken or not."""
        self.drafted: list[Guess] = []
        """All tokens that the draft model came up with, taken or not."""
        self.calls = 0
        """How often the draft model ran."""
        self.extra = 0
        """The tokens that it read beyond one a call."""
        self._limit = length
        self._skill = skill or Skill()
        self._unread = 0

    def may_read(self, unread: int) -> int:
        return self._reads(unread, min(unread, SLICE) if self._limit else 0)

    def wants_more(self) -> int:
        self._copy(max(_SOBER, self._skill.expected_of_draft))
        return self._limit - len(self.tokens)

    def add(self, token: int, confidence: float, *, looked_up: bool = False) -> bool:
        if looked_up:
            self.found.append(Guess(len(self.found), token, confidence))
            return len(self.found) < self._limit
        guess = Guess(len(self.tokens), token, confidence)
        self._ran(guess)
        return self._taken(guess)

    def close(self) -> None:
        if not self.drafted:
            self._copy(0.0)

    def _reads(self, unread: int, allowed: int) -> int:
        """The draft has so many tokens unread and may read some. Only if these are all will it draft."""
        self._unread = unread
        if 0 < allowed < unread:
            self.calls, self.extra = 1, allowed - 1
        return allowed

    def _ran(self, guess: Guess) -> None:
        """The draft model read what was new to it and came up with a token."""
        held = self.drafted[-1].place if self.drafted else -self._unread
        self.calls += 1
        self.extra += guess.place - held - 1
        self.drafted.append(guess)

    def _taken(self, guess: Guess) -> bool:
        """Whether the draft's token is proposed."""
        if guess.place >= self._limit:
            return False
        self.tokens.append(guess.token)
        return True

    def _copy(self, rival: float) -> None:
        """Let the lookup go on for as long as it is likelier to be right than a rival with this chance."""
        n = len(self.tokens)
        if n and not self._follows(n):
            return
        for guess in self.found[n : self._limit]:
            chance = self._skill.lookup.chance(guess.confidence)
            if chance < rival or not self._copies(chance):
                return
            self.tokens.append(guess.token)
            self.looked_up = len(self.tokens)

    def _follows(self, n: int) -> bool:
        """Whether the first `n` tokens are what the lookup had found."""
        return n <= len(self.found) and all(
            token == guess.token for token, guess in zip(self.tokens, self.found, strict=False)
        )

    def _copies(self, chance: float) -> bool:
        """Whether a found token with this chance is worth its row."""
        return True
