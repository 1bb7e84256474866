"""The file: its place, who may read it, and its shape in numbered steps.

A rollback journal and `synchronous=FULL`: what is acknowledged is on the disk, also after a power cut and on
network file systems. (WAL would be faster, but versions before 3.51.3 can corrupt it:
https://sqlite.org/wal.html#walresetbug.) The file of a newer Outrider is read and never written.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from ..files import make_folder

BUSY = 10.0
"""Seconds that a write waits for another window's."""
STEPS = (
    """
    CREATE TABLE conversations (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        key TEXT NOT NULL UNIQUE,
        title TEXT NOT NULL,
        pinned INTEGER NOT NULL DEFAULT 0,
        deleted INTEGER NOT NULL DEFAULT 0,
        shown TEXT NOT NULL DEFAULT '',  -- key of the message that it goes on from
        sent_from TEXT NOT NULL DEFAULT '',  -- key of the first message that is sent to the model
        summary TEXT NOT NULL DEFAULT '',  -- of what stands before that; sent in its place
        settings TEXT NOT NULL DEFAULT '',  -- JSON: what this one does otherwise than config.toml says
        changed INTEGER NOT NULL DEFAULT 0  -- id of its latest message: the order of the history
    );
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        key TEXT NOT NULL UNIQUE,
        conversation INTEGER NOT NULL REFERENCES conversations ON DELETE CASCADE,
        parent TEXT NOT NULL,
        role TEXT NOT NULL,
        text TEXT NOT NULL,
        ending TEXT NOT NULL,
        main TEXT NOT NULL,
        draft TEXT NOT NULL,
        settings TEXT NOT NULL,
        statistics TEXT NOT NULL,
        written TEXT NOT NULL,
        removed INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX messages_of ON messages (conversation, removed);
    CREATE TABLE rounds (
        message INTEGER NOT NULL REFERENCES messages ON DELETE CASCADE,
        place INTEGER NOT NULL,
        rounds TEXT NOT NULL,  -- JSON: for each round the values of protocol.Round
        PRIMARY KEY (message, place)
    ) WITHOUT ROWID;
    CREATE VIRTUAL TABLE found USING fts5 (
        text, content = 'messages', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2'
    );
    CREATE TRIGGER messages_added AFTER INSERT ON messages BEGIN
        INSERT INTO found (rowid, text) VALUES (new.id, new.text);
    END;
    CREATE TRIGGER messages_gone AFTER DELETE ON messages BEGIN
        INSERT INTO found (found, rowid, text) VALUES ('delete', old.id, old.text);
    END;
    CREATE TRIGGER messages_changed AFTER UPDATE OF text ON messages BEGIN
        INSERT INTO found (found, rowid, text) VALUES ('delete', old.id, old.text);
        INSERT INTO found (rowid, text) VALUES (new.id, new.text);
    END;
    """,
    """
    -- JSON: the files that went with a prompt, each with the part of its text that it is
    ALTER TABLE messages ADD COLUMN files TEXT NOT NULL DEFAULT '';
    """,
)
"""What makes version n of the file of version n - 1."""


class Newer(Exception):
    """The file was written by a newer Outrider."""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """The file at `path`, made if need be, as nobody else can read it. Raises `sqlite3.Error`, `OSError`."""
    if not read_only:
        make_folder(path.parent)
        # Made before SQLite does: its journal takes the mode of the file.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}",
        uri=True,
        timeout=BUSY,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        set_up(connection, read_only=read_only)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def set_up(connection: sqlite3.Connection, *, read_only: bool = False) -> None:
    """What every connection must have."""
    for setting in ("cell_size_check", "foreign_keys", "secure_delete", "fullfsync"):
        connection.execute(f"PRAGMA {setting} = ON")
    connection.execute("PRAGMA synchronous = FULL")
    if not read_only:
        connection.execute("PRAGMA journal_mode = TRUNCATE")


def version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, path: Path | None = None) -> None:
    """Bring the file at `path` to our version, all of it or nothing, and keep what it was. Raises `Newer`."""
    before = version(connection)
    if before > len(STEPS):
        raise Newer(f"version {before}")
    if before == len(STEPS):
        return
    if before and path:
        with closing(connect(path.with_name(f"{path.stem}.version-{before}{path.suffix}"))) as copy:
            connection.backup(copy)
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another window may have done it meanwhile. `executescript` would commit what is open.
        for number in range(version(connection), len(STEPS)):
            for statement in _statements(STEPS[number]):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(STEPS)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """The statements of `script`, triggers in one piece."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
