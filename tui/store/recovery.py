"""Detects a damaged file, sets it aside unchanged, and copies the readable part."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

_TABLES = {"conversations": "id", "messages": "id", "rounds": "message, place"}
"""Tables, each with the columns that order its rows."""
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_ORPHANS = """
INSERT INTO conversations (id, key, title, changed)
SELECT conversation, lower(hex(randomblob(8))), 'Recovered chat', max(id) FROM messages
WHERE conversation NOT IN (SELECT id FROM conversations) GROUP BY conversation
"""


def is_damage(error: sqlite3.Error) -> bool:
    """Return whether `error` means a damaged file, and not merely one out of reach."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _DAMAGE


def check(connection: sqlite3.Connection) -> None:
    """Raise `sqlite3.DatabaseError` if the file is damaged."""
    if (said := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        error = sqlite3.DatabaseError(str(said))
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


def set_aside(path: Path) -> Path:
    """Move a damaged file aside, unchanged. Return its new path."""
    number = 1
    while (aside := path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")).exists():
        number += 1
    path.rename(aside)
    journal = Path(f"{path}-journal")
    if journal.exists():
        journal.rename(f"{aside}-journal")
    return aside


def salvage(damaged: Path, connection: sqlite3.Connection) -> int:
    """Copy the readable part of a damaged file. Return the number of messages."""
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("BEGIN IMMEDIATE")
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"{damaged.absolute().as_uri()}?mode=ro", uri=True)) as source,
    ):
        source.execute("PRAGMA writable_schema = ON")  # without this, nothing of a truncated file can be read
        for table, order in _TABLES.items():
            columns = [name for name in _columns(connection, table) if name in _columns(source, table)]
            values = ", ".join("?" * len(columns))
            into = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({values})"
            for row in _readable(source, table, columns, order):
                with suppress(sqlite3.Error):
                    connection.execute(into, row)
    connection.execute(_ORPHANS)
    connection.execute("DELETE FROM rounds WHERE message NOT IN (SELECT id FROM messages)")
    connection.execute("COMMIT")
    connection.execute("PRAGMA foreign_keys = ON")
    return int(connection.execute("SELECT count(*) FROM messages").fetchone()[0])


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """Return the columns of a table. Older files have fewer."""
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def _readable(
    source: sqlite3.Connection, table: str, columns: list[str], order: str
) -> Iterator[tuple[object, ...]]:
    """Yield the rows before the first damaged page and after the last; those between are found by id."""
    select = f"SELECT {', '.join(columns)} FROM {table}"
    ends: list[tuple[int, ...]] = []
    width = order.count(",") + 1
    for direction in ("", " DESC"):
        by = ", ".join(name + direction for name in order.split(", "))
        seen: tuple[int, ...] = ()
        try:
            for row in source.execute(f"{select} ORDER BY {by}"):
                seen = tuple(row[:width])
                yield row
            return
        except sqlite3.Error:
            ends.append(seen)
    if width == 1 and all(ends):
        for number in range(ends[0][0] + 1, ends[1][0]):
            with suppress(sqlite3.Error):
                yield from source.execute(f"{select} WHERE id = ?", (number,))
