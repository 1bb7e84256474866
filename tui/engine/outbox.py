"""Events on their way to the app: whoever has one to send does not wait until it is read."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from itertools import groupby
from time import monotonic
from typing import NoReturn

from ..protocol import Event, Rounds, encode

FRAME = 1 / 30
"""Seconds of rounds that make one line: the app shows no more of them at once either."""
MOST = 1_000
"""Rounds in a line, where the app has not read for long."""


class Outbox:
    """Lines for one reader, in the order in which they were put. `put` may be called from any thread."""

    def __init__(self, sink: int) -> None:
        """`sink` is a descriptor that blocks."""
        self._sink = sink
        self._waiting: list[Event] = []
        self._changed = threading.Condition()
        self._hurry = False
        """Something waits that is no round."""
        self._writing = False

    def put(self, event: Event) -> None:
        """Let `event` be written: rounds within `FRAME` of the ones before, anything else at once."""
        rounds = isinstance(event, Rounds)
        with self._changed:
            self._waiting.append(event)
            if len(self._waiting) == 1 or not rounds:
                self._hurry = self._hurry or not rounds
                self._changed.notify_all()

    def write(self) -> NoReturn:
        """Write what is put, for ever. Raises `OSError` when nobody reads it any more."""
        written = 0.0
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting)
                self._changed.wait_for(lambda: self._hurry, max(0.0, written + FRAME - monotonic()))
                events, self._waiting, self._hurry, self._writing = self._waiting, [], False, True
            written = monotonic() if isinstance(events[-1], Rounds) else 0.0  # the first round never waits
            for event in _joined(events):
                line = memoryview(encode(event))
                while line:
                    line = line[os.write(self._sink, line) :]

    def drain(self, seconds: float) -> None:
        """Wait until all that was put is written, but no longer than that."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._waiting or self._writing), seconds)


def _joined(events: Sequence[Event]) -> Iterator[Event]:
    """The same events, neighbouring rounds of an answer as one."""
    for number, group in groupby(events, lambda each: each.id if isinstance(each, Rounds) else None):
        if number is None:
            yield from group
            continue
        rounds = [each for event in group if isinstance(event, Rounds) for each in event.rounds]
        for begin in range(0, len(rounds), MOST):
            yield Rounds(number, tuple(rounds[begin : begin + MOST]))
