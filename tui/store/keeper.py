"""The only thread that writes and reads conversations, so that a slow disk delays no key and no token.

Changes are written in their order. If a write fails, they wait in memory in the same order and are tried
again until it works. Meanwhile `fault` gives the reason.
"""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..errors import OutriderError
from .changes import Change, DeleteConversation, RemoveMessages

if TYPE_CHECKING:  # the first paint needs no part of the file: the thread imports it
    from .store import Store, StoredConversation

T = TypeVar("T")

RETRY = 5.0
"""Seconds between two tries to write the waiting changes."""
_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "its folder is read-only",
    sqlite3.SQLITE_CANTOPEN: "its file cannot be opened",
    sqlite3.SQLITE_PERM: "its file belongs to somebody else",
    sqlite3.SQLITE_BUSY: "another program holds its file",
    sqlite3.SQLITE_IOERR: "the disk cannot be read or written",
}
_SYSTEM = {
    errno.ENOSPC: _REASONS[sqlite3.SQLITE_FULL],
    errno.EDQUOT: _REASONS[sqlite3.SQLITE_FULL],
    errno.EROFS: _REASONS[sqlite3.SQLITE_READONLY],
    errno.EACCES: _REASONS[sqlite3.SQLITE_READONLY],
}


class Unreadable(OutriderError):
    """The conversations cannot be read. The text gives the reason."""


class Keeper:
    """Keeps conversations for the app. The event loop calls everything but the thread's own part."""

    def __init__(self, path: Path | None, on_change: Callable[[], None] = lambda: None) -> None:
        """`path` is the file. None keeps the conversations in memory, until the app ends.

        `on_change` is called when `fault` or `remark` changes.
        """
        self._path = path
        self._on_change = on_change
        self.on_delete: Callable[[str], object] = lambda conversation: None
        """Called with the key of each conversation that is deleted."""
        self._thread = ThreadPoolExecutor(1, "store")
        self._waiting: deque[Change] = deque()
        self._deleted: set[str] = set()
        self._removed: set[str] = set()
        """Keys of the removed messages."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._store: Store | None = None
        self.fault = ""
        """Reason why the chat is not being saved; empty if it is."""
        self.remark = ""
        """A remark on the file for the user; empty for none."""

    @property
    def keeps(self) -> bool:
        """Whether the conversations stay when the app ends."""
        return self._path is not None

    @property
    def deleted(self) -> frozenset[str]:
        """Keys of the conversations deleted since the start."""
        return frozenset(self._deleted)

    @property
    def unsaved(self) -> int:
        """Number of changes that wait to be written."""
        return len(self._waiting)

    def open(self) -> None:
        """Open the file in advance."""
        self._submit(self._opened)

    def add(self, *changes: Change) -> None:
        """Queue `changes` to be written."""
        for change in changes:
            if isinstance(change, DeleteConversation):
                (self._deleted.add if change.deleted else self._deleted.discard)(change.conversation)
                if change.deleted:
                    self.on_delete(change.conversation)
            elif isinstance(change, RemoveMessages):
                keys = set(change.messages)
                self._removed = self._removed | keys if change.removed else self._removed - keys
        self._waiting.extend(changes)
        self._submit(self._write)

    async def settle(self) -> None:
        """Wait until all queued changes are on the disk, or cannot be written now."""
        await asyncio.wrap_future(self._submit(self._write))

    async def ask(self, question: Callable[[Store], T]) -> T:
        """Return the store's answer to `question`. Raises `Unreadable`."""
        return await asyncio.wrap_future(self._submit(lambda: self._answer(question)))

    async def read(self, key: str) -> StoredConversation | None:
        """Return the conversation `key`; None if there is none. Raises `Unreadable`."""
        return await self.ask(lambda store: store.read(key))

    async def close(self) -> None:
        """Write the waiting changes, erase deleted conversations, and close the file."""
        await asyncio.wrap_future(self._submit(self._end))
        if self._retry:
            self._retry.cancel()
        self._thread.shutdown(wait=False)

    def _submit(self, work: Callable[[], T]) -> Future[T]:
        self._loop = self._loop or asyncio.get_running_loop()
        return self._thread.submit(work)

    # On the thread

    def _opened(self) -> Store | None:
        if self._store is None:
            from .store import Store  # on the thread, because it takes 50 ms to import

            try:
                self._store = Store.open(self._path) if self._path else Store.in_memory()
            except (sqlite3.Error, OSError) as error:
                self._say(_reason(error))
                return None
            if self._store.remark:
                self.remark = self._store.remark
                self._tell()
        return self._store

    def _write(self) -> None:
        batch = [self._waiting[number] for number in range(len(self._waiting))]
        if not batch or (store := self._opened()) is None:
            return
        if store.read_only:
            self._say(store.read_only)
            return
        try:
            store.apply(batch)
        except sqlite3.IntegrityError:
            self._say(self._write_each(store, batch))
            return
        except (sqlite3.Error, OSError) as error:
            self._let_go(error)
            self._say(_reason(error))
            return
        for _ in batch:
            self._waiting.popleft()
        self._say("")

    def _write_each(self, store: Store, batch: list[Change]) -> str:
        """Write each change that still has its conversation. Return the reason if some failed."""
        lost = ""
        for change in batch:
            try:
                store.apply((change,))
            except sqlite3.IntegrityError:
                lost = "this chat was deleted in another window"
            except (sqlite3.Error, OSError) as error:
                self._let_go(error)
                return _reason(error)
            self._waiting.popleft()
        return lost

    def _answer(self, question: Callable[[Store], T]) -> T:
        if (store := self._opened()) is None:
            raise Unreadable(self.fault)
        try:
            return question(store)
        except sqlite3.Error as error:
            self._let_go(error)
            raise Unreadable(_reason(error)) from None

    def _let_go(self, error: Exception) -> None:
        """Close the file. If it is damaged, the next opening detects and repairs it."""
        from .recovery import is_damage

        if isinstance(error, sqlite3.Error) and is_damage(error) and self._store:
            self._store.close()
            self._store = None

    def _end(self) -> None:
        self._write()
        if self._store is None:
            return
        try:
            if (self._deleted or self._removed) and not self._store.read_only:
                self._store.purge(sorted(self._deleted), sorted(self._removed))
        except sqlite3.Error:
            pass  # it stays hidden
        self._store.close()

    def _say(self, fault: str) -> None:
        changed, self.fault = fault != self.fault, fault
        if changed:
            self._tell()
        if fault and self._waiting and self._loop:
            self._loop.call_soon_threadsafe(self._try_later)

    def _tell(self) -> None:
        if self._loop:
            self._loop.call_soon_threadsafe(self._on_change)

    def _try_later(self) -> None:
        if self._retry:
            self._retry.cancel()
        assert self._loop
        self._retry = self._loop.call_later(RETRY, self._submit, self._write)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return _SYSTEM.get(error.errno or 0, f"{error.strerror or error}")
    code = getattr(error, "sqlite_errorcode", None)
    return _REASONS.get(code & 0xFF, str(error)) if code is not None else str(error)
