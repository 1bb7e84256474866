"""Events on their way to the app: whoever has one to send does not wait until it is read.

Where a model computes on every core, a thread that wakes stops it. So who puts rounds writes them, if the
pipe has room for them at once; the writing thread is woken for what may take longer.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator, Sequence
from itertools import groupby
from time import monotonic
from typing import NoReturn

from ..protocol import Event, Rounds, encode

FRAME = 1 / 30
"""Seconds of rounds that make one line, about: the app shows no more of them at once either."""
LATEST = 3
"""Frames after which a round is written, should the next one keep it waiting."""
MOST = 1_000
"""Rounds in a line, where the app has not read for long."""


class Outbox:
    """Lines for one reader, in the order in which they were put. `put` may be called from any thread."""

    def __init__(self, sink: int) -> None:
        """`sink` is a descriptor that blocks."""
        self._sink = sink
        self._room = select.poll()
        self._room.register(sink, select.POLLOUT)
        self._waiting: list[Event] = []
        self._changed = threading.Condition()
        self._due = False
        """What waits is to be written now."""
        self._asleep = False
        """The writing thread waits for something to be put."""
        self._writing = False
        self._last_put = self._last_write = 0.0
        """When the last event was put, and when rounds were written last."""

    def put(self, event: Event) -> None:
        """Let `event` be written: rounds with those of the same `FRAME`, anything else at once."""
        with self._changed:
            self._waiting.append(event)
            due = self._is_due(event)
            if due and isinstance(event, Rounds) and self._written_at_once():
                return
            self._due = self._due or due
            if due or self._asleep:
                self._changed.notify_all()

    def _is_due(self, event: Event) -> bool:
        """Whether to write now: a round that takes as long as this one would be later than a frame."""
        now = monotonic()
        took, self._last_put = now - self._last_put, now
        return not isinstance(event, Rounds) or now + took / 2 >= self._last_write + FRAME

    def _written_at_once(self) -> bool:
        """Write what waits, unless something else is being written or the pipe might make us wait."""
        if self._writing or self._due or self._room.poll(0) != [(self._sink, select.POLLOUT)]:
            return False
        lines = b"".join(map(encode, _joined(self._waiting)))
        if len(lines) > select.PIPE_BUF:
            return False
        os.write(self._sink, lines)
        self._waiting, self._last_write = [], self._last_put
        return True

    def write(self) -> NoReturn:
        """Write what is put, for ever. Raises `OSError` when nobody reads it any more."""
        while True:
            with self._changed:
                self._writing = False
                self._asleep = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting)
                self._asleep = False
                self._changed.wait_for(lambda: self._due, LATEST * FRAME)
                events, self._waiting, self._due, self._writing = self._waiting, [], False, True
                if any(isinstance(event, Rounds) for event in events):
                    self._last_write = monotonic()
            for event in _joined(events):
                line = memoryview(encode(event))
                while line:
                    line = line[os.write(self._sink, line) :]

    def drain(self, seconds: float) -> None:
        """Wait until all that was put is written, but no longer than that."""
        with self._changed:
            self._due = bool(self._waiting)
            self._changed.notify_all()
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
