"""Does an answer repeat itself? By its tokens alone: the same few, or the same paragraph, again and again.

A model that has broken loose draws a word otherwise now and then, so most tokens have to agree, not all. It
is only noticed here: nothing is stopped, because a long table may look the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from operator import eq

_TIMES = 4
"""So often the same stands there, at least ..."""
_TOKENS = 240
"""... and takes so many tokens together, at least."""
_LONGEST = 300
"""Tokens of what is repeated, at most."""
_ALIKE = 0.92
"""Share of the tokens that agree with those one repetition before."""
_GLANCE = 64
"""The last tokens, of which half as large a share has to agree before all are compared."""
_STEP = 64
"""Tokens between two looks: a look takes about a millisecond."""


class Repetition:
    """Add the tokens of one answer as they come."""

    def __init__(self) -> None:
        self.found = False
        self._latest: deque[int] = deque(maxlen=_TIMES * _LONGEST)
        self._unseen = 0

    def add(self, tokens: Iterable[int]) -> None:
        for token in () if self.found else tokens:
            self._latest.append(token)
            self._unseen += 1
            if self._unseen >= _STEP:
                self._unseen = 0
                self.found = self._repeats()

    def _repeats(self) -> bool:
        latest = list(self._latest)
        return any(_repeated(latest, length) for length in range(1, len(latest) // _TIMES + 1))


def _repeated(latest: list[int], length: int) -> bool:
    """Whether the last tokens are the same `length` tokens over and over."""
    span = max(_TOKENS, _TIMES * length)
    if (
        len(latest) < span
        or sum(map(eq, latest[-_GLANCE:], latest[-_GLANCE - length :])) < _ALIKE / 2 * _GLANCE
    ):
        return False
    now, before = latest[length - span :], latest[-span:-length]
    alike: int = sum(map(eq, now, before))
    return alike >= _ALIKE * len(now)
