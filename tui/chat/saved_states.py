"""The caches of chats on the engine's disk: counted, and removed with their chats. It draws nothing."""

from __future__ import annotations

import asyncio

from tui.client import EngineClient, EngineError, last_reply
from tui.protocol import CountStates, ForgetStates, StatesCounted, StatesForgotten
from tui.quantities import size


class SavedStates:
    """The saved caches on the engine's machine."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client
        self._due: list[str] = []
        """The chats whose caches an engine has still to remove."""
        self._task: asyncio.Task[None] | None = None

    def forget(self, chat: str) -> None:
        """Remove the cache of a chat. Without an engine, the next one does it after its first load."""
        self._due.append(chat)
        self.settle()

    def settle(self) -> None:
        """Remove all caches that are still to be removed."""
        if self._due and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._settle())

    async def _settle(self) -> None:
        while self._due:
            try:
                await last_reply(self._client.ask(ForgetStates(0, self._due[0])), StatesForgotten)
            except EngineError:
                return
            del self._due[0]

    async def forget_all(self) -> str:
        """Remove the caches of all chats. Return a sentence about it. Raises `EngineError`."""
        gone = await last_reply(self._client.ask(ForgetStates(0)), StatesForgotten)
        if not gone.files:
            return "No cache of a chat is saved."
        return f"{_counted(gone.files, gone.size)} removed. The chats stay."

    async def counted(self) -> str:
        """Return the number of saved caches and their size in a few words. Raises `EngineError`."""
        found = await last_reply(self._client.ask(CountStates(0)), StatesCounted)
        return _counted(found.files, found.size)


def _counted(files: int, bytes_: int) -> str:
    return f"{files:,} saved cache{'s' * (files != 1)}, {size(bytes_)}" if files else "nothing saved"
