"""The heartbeat of an engine: regular pings, and an alarm when too many are unanswered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

MISSED = 4
"""Number of pings that may stay unanswered."""


class Heartbeat:
    """Runs from `start` to `stop`."""

    def __init__(
        self, interval: float, ping: Callable[[], None], on_silence: Callable[[float], None]
    ) -> None:
        """`ping` sends one, every `interval` seconds. `on_silence` gets the seconds without an answer."""
        self.interval = interval
        self._ping = ping
        self._on_silence = on_silence
        self.on_beat: Callable[[], None] | None = None
        """Called when a ping is sent and when its reply comes."""
        self.round_trip: float | None = None
        """Seconds from the last ping to its answer."""
        self.heard: float | None = None
        """Time of the engine's last output, on a monotonic clock."""
        self._missed = 0
        self._pinged = 0.0
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin: a new engine has greeted."""
        self._missed = 0
        self.beat()

    def beat(self) -> None:
        """Send a ping, unless too many are unanswered."""
        if self._missed >= MISSED:
            self._on_silence(self.interval * self._missed)
            return
        self._missed += 1
        self._pinged = monotonic()
        self._ping()
        self._next = asyncio.get_running_loop().call_later(self.interval, self.beat)
        self._tell()

    def hear(self) -> None:
        """Note that the engine has written something."""
        self._missed = 0
        self.heard = monotonic()

    def answered(self) -> None:
        """Note the reply to the last ping."""
        self.round_trip = monotonic() - self._pinged
        self._tell()

    def stop(self) -> None:
        """End: the engine is gone."""
        self.round_trip = None
        if self._next is not None:
            self._next.cancel()

    def forget(self) -> None:
        """Forget the figures: the next engine runs on another machine."""
        self.heard = None

    def _tell(self) -> None:
        if self.on_beat is not None:
            self.on_beat()
