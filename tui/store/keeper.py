"""The one thread that writes and reads conversations, so that a slow disk holds up neither a key nor a token.

Changes are written in the order in which they come. Where that fails they wait in memory, in the same order,
and are tried again until it works; why is said meanwhile.
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

if TYPE_CHECKING:  # nothing of the file is needed before the first paint: the thread imports what it uses
    from .changes import Change
    from .store import Store

T = TypeVar("T")

RETRY = 5.0
"""Seconds between two tries to write what waits."""
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
    """Conversations cannot be read. The text says why."""


class Keeper:
    """Conversations for the app. Everything but the thread's own part is called from the event loop."""

    def __init__(self, path: Path | None, on_change: Callable[[], None] = lambda: None) -> None:
        """`path` is the file; None keeps them in memory alone, as long as the app runs.

        `on_change` hears when `fault` or `remark` is another than before.
        """
        self._path = path
        self._on_change = on_change
        self._thread = ThreadPoolExecutor(1, "store")
        self._waiting: deque[Change] = deque()
        self._deleted: set[str] = set()
        self._removed: set[str] = set()
        """Keys of messages."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._store: Store | None = None
        self.fault = ""
        """Why what is said now is not saved; empty where it is."""
        self.remark = ""
        """What a user should know about the file; empty for nothing."""

    @property
    def deleted(self) -> frozenset[str]:
        """Keys of conversations that were deleted since the start."""
        return frozenset(self._deleted)

    @property
    def unsaved(self) -> int:
        """Changes that wait to be written."""
        return len(self._waiting)

    def open(self) -> None:
        """Open the file before anybody waits for it."""
        self._submit(self._opened)

    def add(self, *changes: Change) -> None:
        """Write `changes` soon."""
        from .changes import Delete, Remove

        for change in changes:
            if isinstance(change, Delete):
                (self._deleted.add if change.deleted else self._deleted.discard)(change.conversation)
            elif isinstance(change, Remove):
                keys = set(change.messages)
                self._removed = self._removed | keys if change.removed else self._removed - keys
        self._waiting.extend(changes)
        self._submit(self._write)

    async def settle(self) -> None:
        """Come back when all that was added is on the disk, or cannot be written now."""
        await asyncio.wrap_future(self._submit(self._write))

    async def ask(self, question: Callable[[Store], T]) -> T:
        """What the store answers. Raises `Unreadable`."""
        return await asyncio.wrap_future(self._submit(lambda: self._answer(question)))

    async def close(self) -> None:
        """Write what waits, forget for good what was deleted, and let go of the file."""
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
            from .store import Store

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
        """Write what has something to stand on; why not all, if not all was."""
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
        """A damaged file is found out, and mended, when it is opened again."""
        from .damage import is_damage

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
            pass  # it stays out of sight
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
