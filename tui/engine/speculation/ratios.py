"""What verifying several rows takes beside one row, by rounds that are neighbours in time.

A machine that becomes busy, or a context that grows, makes two neighbours dearer alike. So only what their
times say of each other counts: a speed that leaps never bends a ratio, and where all rounds have as many
rows nothing is learned. It knows no seconds of its own and decides nothing.

A single row right behind other work, several rows or a draft, takes some per cent longer than behind a single
row: the caches of the processor hold other things. Plain decoding has only the latter, so that is what "one
row" means here, and by how much the former is dearer is learned where both follow each other. The first round
behind a pause may take twice as long and is compared with nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, isfinite, log
from typing import NamedTuple

_TRUST, _SPREAD = 4.0, 0.25
"""How many neighbours a first figure may be worth; how far two neighbours are off, as a logarithm."""
_FEW = 16
"""Fewer neighbours than these are no match for a table."""
_GAIN, _CLIP = 0.03, 0.5
"""The least weight of a neighbour; the most of its surprise that counts."""


class _Seen(NamedTuple):
    """A round."""

    place: int
    """Its rows, less one."""
    seconds: float
    plain: bool
    """Whether it was one row, and no draft ran."""
    cold: bool
    """Whether it was plain and stood behind one that was not."""


class Ratios:
    """Of 1, 2, ... rows to one; as logarithms, so that a ratio and its inverse weigh the same."""

    def __init__(self, verify: Sequence[float], doubts: Sequence[float]) -> None:
        """`verify` are seconds for 1, 2, ... rows, as measured; `doubts` are the standard deviations of their
        ratios' logarithms."""
        self._logs = [log(seconds / verify[0]) for seconds in verify]
        self._seen = [_TRUST if doubt <= 0 else min(_TRUST, (_SPREAD / doubt) ** 2) for doubt in doubts]
        """How many neighbours each ratio rests on."""
        self._compared = [0] * len(verify)
        """How many neighbours each had."""
        self._cold, self._colds = 0.0, 0
        """By how much a single row behind other work is dearer, and how many neighbours that rests on."""
        self._before: _Seen | None = None
        self._paused = True

    def of(self, place: int) -> float:
        """The ratio of `place` + 1 rows to one."""
        return exp(self._logs[place])

    def fill(self, verify: Sequence[float]) -> None:
        """Take the ratios that few neighbours told from these seconds for 1, 2, ... rows."""
        for place, seconds in enumerate(verify):
            if self._compared[place] < _FEW:
                self._logs[place] = log(seconds / verify[0])

    def pause(self) -> None:
        """Time passes: the next round has no neighbour before it."""
        self._before, self._paused = None, True

    def learn(self, place: int, seconds: float, drafted: bool) -> None:
        """A round verified `place` + 1 rows in so many seconds, with the draft model at work or not."""
        before, self._before = self._before, None
        if not isfinite(seconds) or seconds <= 0:
            return
        plain = place == 0 and not drafted
        now = _Seen(place, seconds, plain, cold=plain and before is not None and not before.plain)
        if before and plain and before.cold:
            self._colds += 1
            surprise = log(before.seconds / seconds) - self._cold
            self._cold += max(-_CLIP, min(_CLIP, surprise)) * max(_GAIN, 1 / (self._colds + 2 * _TRUST))
        if before and before.place != place:
            surprise = self._level(now) - self._level(before)
            surprise = max(-_CLIP, min(_CLIP, surprise)) * (0.5 if place and before.place else 1.0)
            self._correct(place, surprise)
            self._correct(before.place, -surprise)
        if self._paused:
            self._paused = False
        else:
            self._before = now

    def _level(self, seen: _Seen) -> float:
        """The logarithm of what one row would have taken in its place, in plain decoding."""
        return log(seen.seconds) - self._logs[seen.place] - (self._cold if seen.cold else 0.0)

    def _correct(self, place: int, surprise: float) -> None:
        """One row is what the others are compared with: its ratio stays 1."""
        if place:
            self._compared[place] += 1
            self._seen[place] += 1
            self._logs[place] += surprise * max(_GAIN, 1 / self._seen[place])
