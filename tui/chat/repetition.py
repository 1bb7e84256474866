"""Does an answer repeat itself? Its tokens alone decide: the same few, or the same paragraph, again and
again.

A model in a loop sometimes changes a word, so most tokens must agree, not all. This module only notices. It
stops nothing, because a long table may look the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from operator import eq

_TIMES = 4
"""Repetitions, at least ..."""
_TOKENS = 240
"""... with this number of tokens together, at least."""
_LONGEST = 300
"""Tokens of the repeated part, at most."""
_ALIKE = 0.92
"""Share of the tokens that must equal those one repetition before."""
_GLANCE = 64
"""Number of last tokens that are compared first; half of `_ALIKE` must agree before all are compared."""
_STEP = 64
"""Tokens between two looks: a look takes about a millisecond."""


class Repetition:
    """Notices the repetition in one answer, from its tokens as they come."""

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
    """Whether the last tokens repeat a part of `length` tokens."""
    span = max(_TOKENS, _TIMES * length)
    if (
        len(latest) < span
        or sum(map(eq, latest[-_GLANCE:], latest[-_GLANCE - length :])) < _ALIKE / 2 * _GLANCE
    ):
        return False
    now, before = latest[length - span :], latest[-span:-length]
    alike: int = sum(map(eq, now, before))
    return alike >= _ALIKE * len(now)
