"""The database file: its path, its permissions, and its schema in numbered steps.

It uses a rollback journal and `synchronous=FULL`. An acknowledged change is on the disk, also after a power
cut and on network file systems. (WAL would be faster, but versions before 3.51.3 can corrupt the file:
https://sqlite.org/wal.html#walresetbug.) The file of a newer Outrider is read and never written.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ..files import make_folder

BUSY = 10.0
"""Seconds that a write waits for another window's write."""
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
"""Scripts. Script n makes version n of the file from version n - 1."""


class Newer(Exception):
    """The file was written by a newer Outrider."""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the file at `path`, or create it for its owner only. Raises `sqlite3.Error`, `OSError`."""
    if not read_only:
        make_folder(path.parent)
        # Created before SQLite does it, because SQLite's journal takes the mode of the file.
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
    """Set the options that every connection needs."""
    for setting in ("cell_size_check", "foreign_keys", "secure_delete", "fullfsync"):
        connection.execute(f"PRAGMA {setting} = ON")
    connection.execute("PRAGMA synchronous = FULL")
    if not read_only:
        connection.execute("PRAGMA journal_mode = TRUNCATE")


def version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, path: Path | None = None) -> None:
    """Bring the file at `path` to our version, all or nothing. Keep a copy of the old one. Raises `Newer`."""
    before = version(connection)
    if before > len(STEPS):
        raise Newer(f"version {before}")
    if before == len(STEPS):
        return
    if before and path:
        with closing(connect(path.with_name(f"{path.stem}.version-{before}{path.suffix}"))) as copy:
            connection.backup(copy)
    with transaction(connection):
        # Another window may have done it meanwhile. `executescript` would commit the open transaction.
        for number in range(version(connection), len(STEPS)):
            for statement in _statements(STEPS[number]):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(STEPS)}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Keep all changes of the block, or none if it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:  # whatever ends the block: an open transaction would lock the file
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of `script`, each trigger in one piece."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
