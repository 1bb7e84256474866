"""The proposed tokens of one round, and the choice between the lookup and the draft model for the next token.

The lookup costs nothing, and its tokens come first. It proposes while it is likelier to be right than the
draft: its chance, by the evidence at hand, is compared with the expected chance of the draft. Then the draft
proposes. If the draft's token equals the one that the lookup had found, it confirms the copy, which may then
go on alone. Without a draft, or while the draft is not ready, the lookup proposes all that it has found.

A plan asks no model. It keeps all guesses, so that the draft length policy can learn from them.
"""

from __future__ import annotations

from .chances import Guess, Skill

SLICE = 512
"""Most tokens that a draft model reads in one round: an answer can be stopped only between rounds."""
_SOBER = 0.96
"""With a fixed length, the draft model proposes instead of a lookup that is less sure than this."""


class FixedProposal:
    """A proposal of a fixed number of tokens, at any cost."""

    def __init__(self, length: int, skill: Skill | None = None, *, first: bool = False) -> None:
        """The `first` round of an answer uses no draft model: its token waits for no reading."""
        self.tokens: list[int] = []
        self.looked_up = 0
        self.found: list[Guess] = []
        """The tokens that the lookup found, taken or not."""
        self.drafted: list[Guess] = []
        """The tokens that the draft model chose, taken or not."""
        self.calls = 0
        """Number of calls of the draft model."""
        self.extra = 0
        """Number of tokens that the draft model read, beyond one for each call."""
        self._limit = length
        self._reading = not first
        self._skill = skill or Skill()
        self._unread = 0

    def may_read(self, unread: int) -> int:
        return self._reads(unread, min(unread, SLICE) if self._limit and self._reading else 0)

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
        """Note how many of its unread tokens the draft may read. It drafts only if it may read them all."""
        self._unread = unread
        if 0 < allowed < unread:
            self.calls, self.extra = 1, allowed - 1
        return allowed

    def _ran(self, guess: Guess) -> None:
        """Note that the draft model read all new tokens and chose one."""
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
        """Take tokens of the lookup while each is likelier to be right than a rival with this chance."""
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
        """Whether the first `n` tokens equal those that the lookup found."""
        return n <= len(self.found) and all(
            token == guess.token for token, guess in zip(self.tokens, self.found, strict=False)
        )

    def _copies(self, chance: float) -> bool:
        """Whether a found token with this chance is worth its row."""
        return True
