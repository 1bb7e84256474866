"""The throttle of a growing answer. It is read at each flush while that is cheap, and ten times a second when
it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

DEAR: Final = 0.005
"""Seconds of work from which on reading waits ..."""
WAIT: Final = 0.1
"""... this long, in seconds, or this many times the time of the work:"""
SHARE: Final = 8


class Throttle:
    """`clock` returns the time and `work` the processor time of this thread, both in seconds."""

    def __init__(self, clock: Callable[[], float], work: Callable[[], float]) -> None:
        self._clock = clock
        self._work = work
        self._due = clock()

    def is_due(self) -> bool:
        return self._clock() >= self._due

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measure the reading inside: an expensive one delays the next."""
        begin = self._work()
        yield
        took = self._work() - begin
        self._due = self._clock() + (max(WAIT, SHARE * took) if took > DEAR else 0)
