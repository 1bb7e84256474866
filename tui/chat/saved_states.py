"""The caches of chats on the engine's disk: counted, and removed with their chats. It draws nothing.

Those on this machine are removed at once, even if no engine runs. A host is told when it is connected, at the
latest at its next connection.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from tui.client import EngineClient, EngineError, last_reply
from tui.paths import find_states, names_of_states
from tui.protocol import CountStates, ForgetStates, StatesCounted, StatesForgotten
from tui.quantities import size

from .deleted_chats import DeletedChats


class SavedStates:
    """The saved caches on the engine's machine."""

    def __init__(self, client: EngineClient, deleted: Path | None) -> None:
        """`deleted` is the file of the deleted chats; None if no chat is kept."""
        self._client = client
        self._deleted = DeletedChats(deleted)
        self._task: asyncio.Task[None] | None = None

    def forget(self, chat: str) -> None:
        """Remove the cache of a chat from this machine, and from each host when it is connected."""
        remove_states(find_states(), chat)
        self._deleted.add(chat)
        self.settle()

    def settle(self) -> None:
        """Let the connected engine remove all caches that its machine has still to remove."""
        if self._due() and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._settle())

    def _due(self) -> list[str]:
        return self._deleted.due(self._host)

    @property
    def _host(self) -> str:
        return self._client.host.name if self._client.host else ""

    async def _settle(self) -> None:
        while due := self._due():
            host = self._host
            try:
                await last_reply(self._client.ask(ForgetStates(0, due[0])), StatesForgotten)
            except EngineError:
                return
            self._deleted.told(host, due[0])

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


def remove_states(folder: Path, chat: str) -> None:
    """Remove the saved caches of `chat` in a folder of this machine, unfinished ones included."""
    for names in names_of_states(chat):
        for path in folder.glob(names):
            with suppress(OSError):
                path.unlink()


def _counted(files: int, bytes_: int) -> str:
    return f"{files:,} saved cache{'s' * (files != 1)}, {size(bytes_)}" if files else "nothing saved"
