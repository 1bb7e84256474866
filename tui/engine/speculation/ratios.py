"""The ratios of the time for several rows to the time for one row, learned from neighboring rounds.

A machine that becomes busy, or a context that grows, slows two neighboring rounds alike. So only their ratio
counts: a jump of the speed never changes a ratio, and nothing is learned where all rounds have the same
number of rows. This module has no absolute times and decides nothing.

A single row between other work (several rows or a draft) takes 5 to 20 per cent longer than a single row
among single rows, and plain decoding has only the latter. The former is compared all the same while nothing
better is known. After practice, in which single rows follow each other, only the latter counts. The first
round after a pause may take twice as long and is compared with no other.

A ratio follows its neighbors by a running mean, in which a surprise counts up to `_CLIP` only (Huber, "Robust
estimation of a location parameter", 1964).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, isfinite, log
from typing import NamedTuple

_TRUST, _SPREAD = 4.0, 0.25
"""Most neighbors that a first figure is worth. Usual error of two neighbors, as a logarithm."""
_FEW = 4
"""With fewer neighbors than this, the measured table is better."""
_GAIN, _CLIP = 0.03, 0.5
"""The least weight of a neighbor. The largest part of its surprise that counts."""


class _Seen(NamedTuple):
    """A round that was seen."""

    place: int
    """Its number of rows, minus one."""
    seconds: float
    plain: bool
    """Whether it was one row without a draft."""
    steady: bool
    """Whether it was plain and the round before it was plain too."""


class Ratios:
    """The ratios of 1, 2, ... rows to one row, as logarithms: a ratio and its inverse weigh the same."""

    def __init__(self, verify: Sequence[float], doubts: Sequence[float]) -> None:
        """`verify` are measured seconds for 1, 2, ... rows. `doubts` are the standard deviations of the
        logarithms of their ratios."""
        self._logs = [log(seconds / verify[0]) for seconds in verify]
        self._seen = [_TRUST if doubt <= 0 else min(_TRUST, (_SPREAD / doubt) ** 2) for doubt in doubts]
        """The weight of each ratio, in neighbors."""
        self._compared = [0] * len(verify)
        """The number of neighbors that each ratio was compared with."""
        self.practised = False
        """Whether only steady single rows count."""
        self._before: _Seen | None = None
        self._paused = True

    def of(self, place: int) -> float:
        """Return the ratio of `place` + 1 rows to one row."""
        return exp(self._logs[place])

    def fill(self, verify: Sequence[float]) -> None:
        """Take from these seconds for 1, 2, ... rows the ratios that few neighbors have shown."""
        for place, seconds in enumerate(verify):
            if self._compared[place] < _FEW:
                self._logs[place] = log(seconds / verify[0])

    def pause(self) -> None:
        """Note that time passes: the next round has no neighbor before it."""
        self._before, self._paused = None, True

    def learn(self, place: int, seconds: float, drafted: bool) -> None:
        """Learn from a round that verified `place` + 1 rows. `drafted` says whether the draft model ran."""
        before, self._before = self._before, None
        if not isfinite(seconds) or seconds <= 0:
            return
        plain = place == 0 and not drafted
        now = _Seen(place, seconds, plain, steady=plain and before is not None and before.plain)
        if before and before.place != place and not (self.practised and _unsteady(before, now)):
            surprise = self._level(now) - self._level(before)
            surprise = max(-_CLIP, min(_CLIP, surprise)) * (0.5 if place and before.place else 1.0)
            self._correct(place, surprise)
            self._correct(before.place, -surprise)
        if self._paused:
            self._paused = False
        else:
            self._before = now

    def _level(self, seen: _Seen) -> float:
        """Return the logarithm of the time of one row in its place."""
        return log(seen.seconds) - self._logs[seen.place]

    def _correct(self, place: int, surprise: float) -> None:
        """Correct a ratio. All ratios are relative to one row, so its own stays 1."""
        if place:
            self._compared[place] += 1
            self._seen[place] += 1
            self._logs[place] += surprise * max(_GAIN, 1 / self._seen[place])


def _unsteady(*rounds: _Seen) -> bool:
    """Whether one of the rounds is a single row that takes longer than in plain decoding."""
    return any(each.place == 0 and not each.steady for each in rounds)
