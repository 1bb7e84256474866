"""The deleted chats whose saved caches may still lie on a machine, kept until that machine was told.

An engine removes a saved cache after a month without use, so a deleted chat is forgotten here after that. The
file has keys of chats and names of hosts. A file that cannot be read counts as empty. One that cannot be
written loses nothing until the app ends.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import time

import msgspec

from tui import files

OLDEST = 31 * 24 * 3600
"""Seconds after which no machine can have the cache of a deleted chat."""


class _Deleted(msgspec.Struct, frozen=True):
    at: float
    """Time of the deletion, in seconds since 1970."""
    told: tuple[str, ...] = ()
    """The machines that have removed its cache; empty is this one."""


class DeletedChats:
    """The deleted chats, by their keys."""

    def __init__(self, path: Path | None, now: Callable[[], float] = time) -> None:
        """Without a `path`, they are kept in memory alone."""
        self._path = path
        self._now = now
        self._chats: dict[str, _Deleted] = {}
        with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            if path:
                self._chats = msgspec.json.decode(path.read_bytes(), type=dict[str, _Deleted])

    def add(self, chat: str) -> None:
        """A chat was deleted, or messages of it, now. No machine was told."""
        self._chats[chat] = _Deleted(self._now())
        self._write()

    def due(self, host: str) -> list[str]:
        """Return the chats whose caches the machine `host` has still to remove; empty is this machine."""
        return [chat for chat, each in self._chats.items() if host not in each.told]

    def told(self, host: str, chat: str) -> None:
        """The machine `host` has removed the cache of `chat`."""
        each = self._chats.get(chat)
        if each and host not in each.told:
            self._chats[chat] = msgspec.structs.replace(each, told=(*each.told, host))
            self._write()

    def _write(self) -> None:
        young = self._now() - OLDEST
        self._chats = {chat: each for chat, each in self._chats.items() if each.at > young}
        with suppress(OSError):
            if self._path:
                files.replace(self._path, msgspec.json.encode(self._chats).decode())
