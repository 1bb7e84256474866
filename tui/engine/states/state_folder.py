"""The folder of the saved states: names, budget, and the longest saved beginning of a prompt.

Several engines may use one folder: a file appears as a whole, and is only read or removed after that. Only
its owner can read the folder. This module knows no library and no loaded model.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sys
import tempfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import NamedTuple

from ...files import make_folder
from ...paths import hashed, names_of_states
from .state_file import BadStateFile, Bytes, SavedState, StateHead, pieces, read_head, read_state

LEAST = 64
"""Tokens by which the state of another chat must be longer than the cache, and least new tokens for which an
open chat is written. So few take one call of a second at most."""
OLDEST = 30 * 24 * 3600
"""Seconds without use after which a state is removed."""
MOST = 500
"""Most states in the folder. The search for a beginning reads one head for each chat with the same model."""
_YOUNG = 60
"""Seconds in which an unfinished file may have no lock yet."""
_NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}\.state")


@dataclass(frozen=True)
class ModelMark:
    """The conditions under which the cache of a model can be used again."""

    group: str
    """The path of the model and the settings that its cache depends on. States of other groups stay where
    they are: the user may come back to those settings."""
    model: str
    """The identity of the model's file."""
    library: str
    """The library and its version."""

    def objection(self, head: StateHead) -> str:
        """Return why a state of the same group can never be used again; empty if it can."""
        if head.model != self.model:
            return "the file of its model has changed"
        if head.library != self.library:
            return f"it is of {head.library}, and this is {self.library}"
        return ""


class Candidate(NamedTuple):
    """A saved state that begins like a prompt."""

    usable: int
    """Tokens of the prompt that it would save from being read."""
    path: Path
    size: int
    """Bytes."""


class _Entry(NamedTuple):
    """A file in the folder."""

    path: Path
    size: int
    used: float
    """The time of its last use."""
    number: int
    """The number of its inode: a file that replaces it has another."""


class DiskUsage(NamedTuple):
    """The files in the folder."""

    files: int
    size: int
    """Bytes."""


class StateFolder:
    """The saved states of one user on the engine's machine."""

    def __init__(
        self,
        path: Path,
        budget: int,
        free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
        now: Callable[[], float] = time,
    ) -> None:
        """`budget` is the most bytes that all states take. `free` returns the free bytes of the disk."""
        self._path = path
        self._budget = budget
        self._free = free
        self._now = now
        self._heads: dict[_Entry, tuple[StateHead, array[int]]] = {}
        """The heads that were read."""
        self._bad: set[tuple[Path, int]] = set()
        """The path and the inode of each unusable file that cannot be removed."""
        self._told = False
        """Whether the log has the reason why a chat was too large."""

    def usage(self) -> DiskUsage:
        """Return the number and the bytes of the states."""
        sizes = [each.size for each in self._entries()]
        return DiskUsage(len(sizes), sum(sizes))

    def candidates(self, mark: ModelMark, usable: Callable[[StateHead, array[int]], int]) -> list[Candidate]:
        """Return the states of this model, the most useful first, and remove those that nobody can use.

        `usable` returns how many tokens of a prompt a state would save from being read.
        """
        found = []
        for entry in self._entries(hashed(mark.group)):
            if (entry.path, entry.number) in self._bad:
                continue
            try:
                head, tokens = self._head(entry)
                if objection := mark.objection(head):
                    raise BadStateFile(objection)
            except BadStateFile as error:
                self.reject(entry.path, str(error))
            except OSError as error:
                self._leave(entry.path, f"cannot be read: {error.strerror}")
            else:
                found.append(Candidate(usable(head, tokens), entry.path, entry.size))
        return sorted(found, reverse=True)

    def load(self, path: Path, stopped: Callable[[], bool] = lambda: False) -> SavedState | None:
        """Return the state in a file, and count it as used now. None if it is unusable: it is removed.

        Also None if `stopped` says so, which is asked again and again.
        """
        try:
            state = read_state(path, stopped)
        except BadStateFile as error:
            self.reject(path, str(error))
            return None
        except MemoryError:
            _say(f"{path.name} is not read: there is too little memory")
            return None
        except OSError as error:
            self._leave(path, f"cannot be read: {error.strerror}")
            return None
        self._touch(path)
        return state

    def use(self, mark: ModelMark, chat: str) -> None:
        """Count the state of `chat` as used now, without reading it. It need not exist."""
        self._touch(self._path_of(mark, chat))

    def reject(self, path: Path, reason: str) -> None:
        """Remove a file, and give the reason in the log. One that cannot be removed is never read again."""
        try:
            path.unlink(missing_ok=True)
            _say(f"{path.name} is removed: {reason}")
        except OSError as error:
            self._leave(path, f"cannot be used ({reason}) nor removed: {error.strerror}")

    def begin(self, mark: ModelMark, chat: str, state: SavedState) -> StateWriter | None:
        """Return a writer for the state of `chat`. None if there is no room for it. Raises `OSError`.

        The least recently used states make room. The whole folder never takes more than the budget, nor more
        than half of the disk space that is free without it.
        """
        make_folder(self._path)
        self._remove_leftovers()
        path = self._path_of(mark, chat)
        entries = sorted(self._entries(), key=lambda each: each.used)
        for each in entries:
            if each.used > self._now():  # the clock went back: it gets old from now on
                self._touch(each.path)
        free = self._free(self._path)
        room = min(self._budget, (free + sum(each.size for each in entries)) // 2)
        if state.size > room or state.size > free:
            if not self._told:
                _say(f"a chat of {state.size:,} bytes is not saved: there is room for {min(room, free):,}")
            self._told = True
            return None
        others = [each for each in entries if each.path != path]
        left, count = sum(each.size for each in others), len(others)
        for old in others:
            if left + state.size > room or count >= MOST or old.used < self._now() - OLDEST:
                self._remove(old.path)
                left, count = left - old.size, count - 1
        return StateWriter(path, pieces(state))

    def forget(self, chat: str | None = None) -> DiskUsage:
        """Remove the states of `chat`, or all of them, unfinished ones included. Return their number.

        An unfinished one may be that of another engine, which then gives it up.
        """
        self._remove_leftovers()
        complete, unfinished = names_of_states(chat)
        for path in self._path.glob(unfinished):
            self._remove(path)
        gone = [each for each in self._entries() if each.path.match(complete)]
        for each in gone:
            self._remove(each.path)
        return DiskUsage(len(gone), sum(each.size for each in gone))

    def is_of(self, path: Path, chat: str) -> bool:
        """Return whether the file at `path` is a state of `chat`."""
        return path.match(names_of_states(chat)[0])

    def _path_of(self, mark: ModelMark, chat: str) -> Path:
        return self._path / f"{hashed(mark.group)}-{hashed(chat)}.state"

    def _head(self, entry: _Entry) -> tuple[StateHead, array[int]]:
        if entry not in self._heads:
            if len(self._heads) > MOST:
                self._heads.clear()
            self._heads[entry] = read_head(entry.path)
        return self._heads[entry]

    def _entries(self, group: str = "") -> Iterator[_Entry]:
        """Yield the states, or those of one group."""
        with suppress(OSError), os.scandir(self._path) as found:
            for each in found:
                if _NAME.fullmatch(each.name) and each.name.startswith(group):
                    with suppress(OSError):
                        facts = each.stat(follow_symlinks=False)
                        yield _Entry(Path(each.path), facts.st_size, facts.st_mtime, facts.st_ino)

    def _touch(self, path: Path) -> None:
        """Count a state as used now. It need not exist, and the folder need not be writable."""
        with suppress(OSError):
            os.utime(path, (self._now(), self._now()))

    def _leave(self, path: Path, reason: str) -> None:
        """Leave an unusable file where it is, give the reason in the log, and never read it again.

        Another engine may have removed it: that is no fault.
        """
        with suppress(FileNotFoundError):
            self._bad.add((path, path.lstat().st_ino))
            _say(f"{path.name} {reason}")

    @staticmethod
    def _remove(path: Path) -> None:
        with suppress(OSError):
            path.unlink()

    def _remove_leftovers(self) -> None:
        """Remove the files of engines that died while they wrote. A living one holds a lock."""
        for path in self._path.glob(".*.part"):
            with suppress(OSError), path.open("rb") as file:
                if abs(path.stat().st_mtime - self._now()) > _YOUNG:  # the clock may have gone back
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()


class StateWriter:
    """A state on its way to disk, piece by piece. It appears under its name when it is complete."""

    def __init__(self, path: Path, content: Iterator[Bytes]) -> None:
        """Raises `OSError`."""
        self._path = path
        self._content = content
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=".part", dir=path.parent)
        self._part = Path(name)
        self._file = os.fdopen(handle, "wb", buffering=0)
        with suppress(OSError):  # a disk of the network may have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)  # until it is closed, or this process ends

    def step(self) -> bool:
        """Write the next piece to the disk. Return whether the file is complete. Raises `OSError`."""
        piece = next(self._content, None)
        if piece is not None:
            rest = memoryview(piece)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())  # now, so that the end need not wait for the whole file
            return False
        self._part.replace(self._path)
        self._file.close()
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return True

    def drop(self) -> None:
        """Give up: no file is left. Does nothing if the file is complete."""
        if not self._file.closed:
            self._part.unlink(missing_ok=True)
            self._file.close()


def _say(words: str) -> None:
    print(f"saved states: {words}", file=sys.stderr, flush=True)
