"""What verifying several rows takes beside one row, by rounds that are neighbours in time.

A machine that becomes busy, or a context that grows, makes two neighbours dearer alike. So only what their
times say of each other counts: a speed that leaps never bends a ratio, and where all rounds have as many
rows nothing is learned. It knows no seconds of its own and decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, isfinite, log

_TRUST, _SPREAD = 4.0, 0.25
"""How many neighbours a first measurement may be worth; how far two neighbours are off, as a logarithm."""
_GAIN, _CLIP = 0.03, 0.5
"""The least weight of a neighbour; the most of its surprise that counts."""


class Ratios:
    """Of 1, 2, ... rows to one; as logarithms, so that a ratio and its inverse weigh the same."""

    def __init__(self, verify: Sequence[float], doubts: Sequence[float]) -> None:
        """`verify` are seconds for 1, 2, ... rows, as measured; `doubts` are the standard deviations of their
        ratios' logarithms."""
        self._logs = [log(seconds / verify[0]) for seconds in verify]
        self._seen = [_TRUST if doubt <= 0 else min(_TRUST, (_SPREAD / doubt) ** 2) for doubt in doubts]
        """How many neighbours each ratio rests on."""
        self._before: tuple[int, float] | None = None
        """The place of the round before in `_logs`, and its seconds; None if they were no duration."""

    def of(self, place: int) -> float:
        """The ratio of `place` + 1 rows to one."""
        return exp(self._logs[place])

    def pause(self) -> None:
        """Time passes: the next round has no neighbour before it."""
        self._before = None

    def learn(self, place: int, seconds: float) -> None:
        """A round verified `place` + 1 rows in so many seconds."""
        before, self._before = self._before, None
        if not isfinite(seconds) or seconds <= 0:
            return
        self._before = place, seconds
        if before is None or before[0] == place:
            return
        other, others = before
        surprise = log(seconds / others) - self._logs[place] + self._logs[other]
        surprise = max(-_CLIP, min(_CLIP, surprise)) * (0.5 if place and other else 1.0)
        self._correct(place, surprise)
        self._correct(other, -surprise)

    def _correct(self, place: int, surprise: float) -> None:
        """One row is what the others are compared with: its ratio stays 1."""
        if place:
            self._seen[place] += 1
            self._logs[place] += surprise * max(_GAIN, 1 / self._seen[place])
