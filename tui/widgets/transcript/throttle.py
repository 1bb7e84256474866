"""The throttle of a growing answer. It is read at each flush while that is cheap, and ten times a second when
it is not. One or two new tokens wait a moment for more, because a paint takes longer than a token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

DEAR: Final = 0.005
"""Seconds of work from which on reading waits ..."""
WAIT: Final = 0.1
"""... this long, in seconds, or this many times the time of the work:"""
SHARE: Final = 8
MOMENT: Final = 0.1
"""Seconds between two paints of less new text than this many pieces:"""
LITTLE: Final = 3


class Throttle:
    """`clock` returns the time and `work` the processor time of this thread, both in seconds."""

    def __init__(self, clock: Callable[[], float], work: Callable[[], float]) -> None:
        self._clock = clock
        self._work = work
        self._due = clock()
        self._painted = self._due - MOMENT

    def is_due(self) -> bool:
        return self._clock() >= self._due

    def rest(self, pieces: int) -> float:
        """Return the seconds that so many new pieces of text wait for more; 0 if they are painted now."""
        return max(0.0, self._painted + MOMENT - self._clock()) if pieces < LITTLE else 0.0

    def painted(self) -> None:
        """Note that text is painted now."""
        self._painted = self._clock()

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Measure the reading inside: an expensive one delays the next."""
        begin = self._work()
        yield
        took = self._work() - begin
        self._due = self._clock() + (max(WAIT, SHARE * took) if took > DEAR else 0)
