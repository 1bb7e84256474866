"""The pair that is loaded or being loaded: one load at a time, begun again when need be. It shows nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tui import protocol
from tui.client import EngineClient, EngineError

LOAD = 0
"""The id of a load, where an answer has its own."""


class Loader:
    """Starts the engine if it does not run, and loads a pair."""

    def __init__(
        self,
        client: EngineClient,
        on_progress: Callable[[protocol.Loading], None],
        on_end: Callable[[protocol.Loaded | EngineError], None],
    ) -> None:
        """`on_end` hears of each load that ends, before whoever waits for it goes on."""
        self._client = client
        self._on_progress = on_progress
        self._on_end = on_end
        self._task: asyncio.Task[EngineError | None] | None = None
        self.loaded: protocol.Loaded | None = None
        self.is_new = False
        """Whether the last load brought another main model than the one before."""
        self._main = ""

    def begin(self, request: protocol.Load) -> asyncio.Task[EngineError | None]:
        """The load that is under way or done; one of `request` where there is none. Why, if it failed."""
        if self._task is None or (self._task.done() and self.loaded is None):
            self._task = asyncio.create_task(self._load(request))
        return self._task

    async def replace(self, request: protocol.Load) -> None:
        """Begin to load something else; a load that is under way is given up."""
        if self._task and not self._task.done():
            await self.give_up()
            await asyncio.wait([self._task])
        self.loaded = None
        self.begin(request)

    async def give_up(self) -> None:
        await self._client.cancel(LOAD)

    async def _load(self, request: protocol.Load) -> EngineError | None:
        try:
            await self._client.start()
            self.loaded = await self._client.load(request, on_progress=self._on_progress)
            self.is_new, self._main = self.loaded.main.path != self._main, self.loaded.main.path
        except EngineError as error:
            self.loaded = None
            self._on_end(error)
            return error
        self._on_end(self.loaded)
        return None
