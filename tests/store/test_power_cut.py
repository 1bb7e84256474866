"""A power cut at any moment: what was acknowledged is there, and the file is whole.

SQLite writes through a file system of ours that notes each write and each sync. A state of the disk after a
cut is then made: everything that was synced, and of what was not any part, torn at sectors.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.support.exchanges import exchange
from tui.store.database import migrate, set_up
from tui.store.store import Store

SECTOR = 512
STATES = 300
TURNS = 30


@dataclass(frozen=True)
class Write:
    file: str
    offset: int
    data: bytes


@dataclass(frozen=True)
class Truncate:
    file: str
    size: int


@dataclass(frozen=True)
class Sync:
    file: str


@dataclass(frozen=True)
class Acknowledged:
    turn: int


Step = Write | Truncate | Sync | Acknowledged


class Disk(apsw.VFS):
    """Passes everything on to the real one, and notes it."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        super().__init__("cut", "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return File(self, name, flags)


class File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self.steps = disk.steps
        self.name = Path(name.filename() if isinstance(name, apsw.URIFilename) else name or "").name
        super().__init__("", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        self.steps.append(Write(self.name, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self.steps.append(Truncate(self.name, size))
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self.steps.append(Sync(self.name))
        super().xSync(flags)


def recorded(path: Path, synchronous: str) -> list[Step]:
    """All that was written and synced while a chat of `TURNS` turns was kept; empty is as the app has it."""
    disk = Disk()
    connection: Any = apsw.Connection(str(path), vfs="cut")
    with closing(connection):
        set_up(connection)
        if synchronous:
            connection.execute(f"PRAGMA synchronous = {synchronous}")
        migrate(connection, path)
        disk.steps.append(Sync(path.name))
        store, parent = Store(connection), ""
        for turn in range(TURNS):
            store.apply(exchange("c", turn, f"prompt {turn}", "word " * 100, parent))
            disk.steps.append(Acknowledged(turn))
            parent = f"c-{turn}-reply"
    disk.unregister()
    return disk.steps


def after_a_cut(steps: list[Step], chance: random.Random) -> dict[str, bytes]:
    """What the files hold."""
    synced = {step.file: place for place, step in enumerate(steps) if isinstance(step, Sync)}
    files: dict[str, bytearray] = {}
    for place, step in enumerate(steps):
        if isinstance(step, Write | Truncate):
            certain = place < synced.get(step.file, -1)
            for piece in sectors(step) if not certain else (step,):
                if certain or chance.random() < 0.5:
                    apply(piece, files.setdefault(step.file, bytearray()))
    return {name: bytes(data) for name, data in files.items()}


def sectors(step: Write | Truncate) -> Iterator[Write | Truncate]:
    if isinstance(step, Truncate):
        yield step
        return
    for begin in range(0, len(step.data), SECTOR):
        yield Write(step.file, step.offset + begin, step.data[begin : begin + SECTOR])


def apply(step: Write | Truncate, data: bytearray) -> None:
    if isinstance(step, Truncate):
        del data[step.size :]
    else:
        data.extend(bytes(max(0, step.offset + len(step.data) - len(data))))
        data[step.offset : step.offset + len(step.data)] = step.data


def lost(folder: Path, synchronous: str) -> tuple[int, int]:
    """In how many of `STATES` states something acknowledged was lost, and in how many the file was broken."""
    (folder / "chats.db").touch()
    steps = recorded(folder / "chats.db", synchronous)
    begun = next(place for place, step in enumerate(steps) if isinstance(step, Acknowledged))
    chance = random.Random(7)
    missing = broken = 0
    for state in range(STATES):
        where = folder / str(state)
        where.mkdir()
        cut = steps[: chance.randrange(begun, len(steps)) + 1]
        for name, data in after_a_cut(cut, chance).items():
            (where / name).write_bytes(data)
        said = max((step.turn for step in cut if isinstance(step, Acknowledged)), default=-1)
        with closing(Store.open(where / "chats.db")) as store:
            found = store.read("c")
            missing += found is None or len(found.turns) < 2 * (said + 1)
            broken += bool(store.remark)
        with closing(sqlite3.connect(where / "chats.db")) as connection:
            broken += connection.execute("PRAGMA integrity_check").fetchone() != ("ok",)
    return missing, broken


def test_what_was_acknowledged_survives_a_power_cut(tmp_path: Path) -> None:
    assert lost(tmp_path, "") == (0, 0)


@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
def test_this_test_would_notice(tmp_path: Path, synchronous: str) -> None:
    missing, _ = lost(tmp_path, synchronous)
    assert missing > 0
