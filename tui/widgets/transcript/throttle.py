"""How often a growing answer is read again: always while that is cheap, ten times a second once it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

DEAR: Final = 0.005
"""Seconds of work from which on reading waits..."""
WAIT: Final = 0.1
"""... this long, in seconds, or this many times what it took:"""
SHARE: Final = 8


class Throttle:
    """`clock` tells the time and `work` what this thread has worked so far, both in seconds."""

    def __init__(self, clock: Callable[[], float], work: Callable[[], float]) -> None:
        self._clock = clock
        self._work = work
        self._due = clock()

    def is_due(self) -> bool:
        return self._clock() >= self._due

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Around the reading: a dear one puts off the next."""
        begin = self._work()
        yield
        took = self._work() - begin
        self._due = self._clock() + (max(WAIT, SHARE * took) if took > DEAR else 0)
