"""One command on its way: whose events these are, who waits for them, and when it is over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .errors import EngineError

if TYPE_CHECKING:
    from ..protocol import Event


class Call:
    """A command whose events are awaited. Events queue up: a reader that lags loses none."""

    def __init__(self, id: int, last: type) -> None:  # noqa: A002
        self.id = id
        """Of its events; 0 where they have none."""
        self.last = last
        """The kind of event that ends it."""
        self.abandoned = False
        """Nobody waits for it any more; it goes on until it ends."""
        self.deadline: asyncio.TimerHandle | None = None
        """By when it must be over, once it is cancelled."""
        self.over = asyncio.Event()
        self._events: asyncio.Queue[Event | EngineError] = asyncio.Queue()

    def give(self, event: Event | EngineError) -> None:
        if isinstance(event, EngineError | self.last):
            self.over.set()
            if self.deadline is not None:
                self.deadline.cancel()
        if not self.abandoned:
            self._events.put_nowait(event)

    async def next(self) -> Event:
        """The next event; raises what ended the call."""
        event = await self._events.get()
        if isinstance(event, EngineError):
            raise event
        return event
