"""Sends events to the app. The sender of an event does not wait until it is read.

If a model computes on every core, a thread that wakes up delays it. So the thread that puts rounds also
writes them, if the pipe has room for them. The writing thread wakes only for writes that may take longer.
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
"""Approximate seconds of rounds in one line. The app does not paint more often either."""
LATEST = 3
"""Frames after which a waiting round is written, even if no other follows."""
MOST = 1_000
"""Most rounds in a line, if the app has not read for a long time."""


class Outbox:
    """Lines for one reader, in the order of `put`. Any thread may call `put`."""

    def __init__(self, sink: int) -> None:
        """`sink` is a blocking descriptor."""
        self._sink = sink
        self._room = select.poll()
        self._room.register(sink, select.POLLOUT)
        self._waiting: list[Event] = []
        self._changed = threading.Condition()
        self._due = False
        """Whether the waiting events should be written now."""
        self._asleep = False
        """Whether the writing thread is waiting for an event."""
        self._writing = False
        self._last_put = self._last_write = 0.0
        """Times of the last `put`, and of the last write of rounds."""

    def put(self, event: Event) -> None:
        """Queue `event`: rounds are joined with others of the same `FRAME`, all else is written at once."""
        with self._changed:
            self._waiting.append(event)
            due = self._is_due(event)
            if due and isinstance(event, Rounds) and self._written_at_once():
                return
            self._due = self._due or due
            if due or self._asleep:
                self._changed.notify_all()

    def _is_due(self, event: Event) -> bool:
        """Return whether to write now, because another round of this length would end after the frame."""
        now = monotonic()
        took, self._last_put = now - self._last_put, now
        return not isinstance(event, Rounds) or now + took / 2 >= self._last_write + FRAME

    def _written_at_once(self) -> bool:
        """Write the waiting events if that cannot block. Return whether they were written."""
        if self._writing or self._due or self._room.poll(0) != [(self._sink, select.POLLOUT)]:
            return False
        lines = b"".join(map(encode, _joined(self._waiting)))
        if len(lines) > select.PIPE_BUF:
            return False
        os.write(self._sink, lines)
        self._waiting, self._last_write = [], self._last_put
        return True

    def write(self) -> NoReturn:
        """Write events without end. Raises `OSError` when the reader is gone."""
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
        """Wait until all events are written, but at most `seconds`."""
        with self._changed:
            self._due = bool(self._waiting)
            self._changed.notify_all()
            self._changed.wait_for(lambda: not (self._waiting or self._writing), seconds)


def _joined(events: Sequence[Event]) -> Iterator[Event]:
    """Yield the same events, with neighboring rounds of one answer joined."""
    for number, group in groupby(events, lambda each: each.id if isinstance(each, Rounds) else None):
        if number is None:
            yield from group
            continue
        rounds = [each for event in group if isinstance(event, Rounds) for each in event.rounds]
        for begin in range(0, len(rounds), MOST):
            yield Rounds(number, tuple(rounds[begin : begin + MOST]))
