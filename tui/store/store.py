"""Conversations in SQLite: takes changes and returns values. One connection, used by the thread of
`keeper.py`.

Text is stored exactly as the model wrote it. The screens clean it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from msgspec import convert, to_builtins
from msgspec.structs import asdict, replace

from ..protocol import Statistics, TextRound
from . import changes
from .changes import AddMessage, Attached, Change, Turn, text_of
from .database import Newer, connect, migrate, set_up, transaction
from .recovery import check, is_damage, salvage, set_aside

T = TypeVar("T")

MOST = 500
"""Most conversations in a search result."""
LOOK = 1_000
_LOOKS = 8
_HITS = 2_000
"""Newest matching messages that a search examines."""


@dataclass(frozen=True)
class Listed:
    """A conversation in the history. Not trusted text."""

    key: str
    title: str
    pinned: bool
    messages: int
    written: str
    """Time of its latest message in UTC, ISO 8601."""
    hit: str = ""
    """The words found, with a few words around them; empty if they are in the title."""


@dataclass(frozen=True)
class StoredConversation:
    """A whole conversation: every branch, in the order of writing."""

    key: str
    title: str
    shown: str
    """Key of the last message of the shown branch."""
    turns: tuple[Turn, ...]
    sent_from: str = ""
    """Key of the first message that is sent to the model; empty for all."""
    summary: str = ""
    """The text sent in place of the messages before `sent_from`."""
    settings: str = ""
    """This conversation's own settings, as in `SetOverrides`."""


@dataclass(frozen=True)
class Preview:
    """The first messages of the shown branch. Not trusted text."""

    said: tuple[tuple[str, str], ...]
    """(role, text), each text at most `LOOK` characters long."""
    messages: int
    """Number of messages on that branch."""
    main: str
    """Main model of its last answer; empty if unknown."""


class Store:
    """The conversations of one file."""

    def __init__(self, connection: sqlite3.Connection, *, read_only: str = "", remark: str = "") -> None:
        """`read_only` is the reason against writing, `remark` a remark for the user; else empty."""
        self._connection = connection
        self.read_only = read_only
        self.remark = remark

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open or create the store at `path`. Raises `sqlite3.Error` and `OSError`.

        A damaged file is set aside, and its readable part copied into a new one.
        """
        remark = ""
        try:
            connection = _opened(path)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            aside = set_aside(path)
            connection = _opened(path)
            saved = salvage(aside, connection)
            remark = f"The chat file was damaged: {saved:,} messages were saved. The old file is now {aside}."
        except Newer:
            return cls(connect(path, read_only=True), read_only="a newer Outrider wrote the chats here")
        store = cls(connection, remark=remark)
        store._mend()
        return store

    @classmethod
    def in_memory(cls) -> Store:
        """Return a store that ends with the program and touches no disk."""
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        set_up(connection)
        migrate(connection)
        return cls(connection)

    def close(self) -> None:
        self._connection.close()

    # Writing

    def apply(self, batch: Iterable[Change]) -> None:
        """Write all changes of `batch`, or none. Raises `sqlite3.Error`.

        Raises `sqlite3.IntegrityError` if a change concerns a conversation that is gone.
        """
        with transaction(self._connection):
            for change in batch:
                if isinstance(change, AddMessage):
                    self._add(change)
                else:
                    self._connection.execute(_WRITE[type(change)], _values(change))

    def _add(self, change: AddMessage) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        turn = replace(change.turn, written=change.turn.written or now)
        values = _values(turn) | {"conversation": change.conversation}
        self._connection.execute(_ADD, values)
        self._connection.execute(_SHOW, values)

    def purge(self, conversations: Sequence[str], messages: Sequence[str] = ()) -> None:
        """Erase chats and messages that are still deleted; no byte of them stays in the file."""
        with transaction(self._connection):
            for key in messages:
                self._connection.execute("DELETE FROM messages WHERE key = ? AND removed", (key,))
            for key in conversations:
                self._connection.execute("DELETE FROM conversations WHERE key = ? AND deleted", (key,))
            self._connection.execute("INSERT INTO found (found) VALUES ('optimize')")

    def _mend(self) -> None:
        """Complete answers whose end was never written, so that a search finds their text."""
        open_ones = self._connection.execute(
            "SELECT id, length(text) FROM messages WHERE role = 'assistant' AND ending = ''"
        ).fetchall()
        for number, known in open_ones:
            text = text_of(self._rounds(number))
            if len(text) > known:  # another window may have gone on since the last start
                self._connection.execute("UPDATE messages SET text = ? WHERE id = ?", (text, number))

    # Reading

    def listed(self, words: str = "", *, pinned_first: bool = True) -> list[Listed]:
        """Return conversations with `words`, latest first, at most `MOST`."""
        order = _PINNED if pinned_first else _LATEST
        if not words.split():
            return [_listed(row) for row in self._connection.execute(_COLUMNS + order)]
        hits = dict(self._hits(words))
        values = {"keys": json.dumps(list(hits)), "title": _like(words)}
        found = self._connection.execute(_COLUMNS + _AMONG + order, values)
        return [_listed(row, hits.get(row[0], "")) for row in found]

    def _hits(self, words: str) -> list[tuple[str, str]]:
        """Return keys of conversations with `words` in a message, and a passage of it; the newest last."""
        phrase = " ".join(f'"{word}"' for word in words.replace('"', " ").split())
        if not phrase:
            return []
        return self._connection.execute(_FOUND, (f"{phrase}*", _HITS)).fetchall()[::-1]

    def read(self, key: str) -> StoredConversation | None:
        """Return the conversation `key`, deleted or not; None if there is none."""
        row = self._connection.execute(
            "SELECT id, title, shown, sent_from, summary, settings FROM conversations WHERE key = ?", (key,)
        ).fetchone()
        if row is None:
            return None
        number, title, shown, *rest = row
        turns = self._connection.execute(_TURNS, (number,)).fetchall()
        return StoredConversation(key, title, shown, tuple(self._turn(*turn) for turn in turns), *rest)

    def preview(self, key: str) -> Preview:
        """Return the first messages of the conversation `key`."""
        path = self._connection.execute(_PATH, (key,)).fetchall()
        first = [number for number, _ in path[:_LOOKS]]
        rows = (self._connection.execute(_LOOKED, (LOOK, number)).fetchone() for number in first)
        return Preview(tuple(rows), len(path), next((main for _, main in reversed(path) if main), ""))

    def named(self, words: str = "") -> str | None:
        """Return the key of a conversation: `words` is its key, or words in it; the latest one counts."""
        row = self._connection.execute(
            "SELECT key FROM conversations WHERE NOT deleted AND key = ?", (words.strip(),)
        ).fetchone()
        found = [row[0]] if row else [each.key for each in self.listed(words, pinned_first=False)]
        return found[0] if found else None

    def _turn(self, number: int, statistics: str, files: str, *rest: Any) -> Turn:
        turn = Turn(*rest)
        if turn.role == "user":
            return replace(turn, files=_files(files, len(turn.text)))
        rounds = self._rounds(number)
        text = turn.text or text_of(rounds)
        return replace(turn, text=text, rounds=rounds, statistics=_read(statistics, Statistics))

    def _rounds(self, message: int) -> tuple[TextRound, ...]:
        rows = self._connection.execute(
            "SELECT rounds FROM rounds WHERE message = ? ORDER BY place", (message,)
        )
        # Unreadable ones are left out: their text is stored with the answer.
        return tuple(each for (text,) in rows for each in _read(text, tuple[TextRound, ...]) or ())


def _opened(path: Path) -> sqlite3.Connection:
    connection = connect(path)
    try:
        check(connection)
        migrate(connection, path)
    except BaseException:  # whatever ends the opening: nobody else could close the file
        connection.close()
        raise
    return connection


def _values(record: Change | Turn) -> dict[str, Any]:
    """Return the fields of a record as SQLite stores them: texts, numbers, and all else as JSON."""
    return {name: _stored(value) for name, value in asdict(record).items()}


def _stored(value: Any) -> str | int:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")  # without lone surrogates
    if isinstance(value, int):
        return value
    return json.dumps(value, default=to_builtins, separators=(",", ":"))  # half of a character stays one


_WRITE: dict[type, str] = {
    changes.StartConversation: """
        INSERT INTO conversations (key, title) VALUES (:conversation, :title) ON CONFLICT DO NOTHING
    """,
    changes.AppendRounds: """
        INSERT INTO rounds VALUES ((SELECT id FROM messages WHERE key = :message), :place, :rounds)
        ON CONFLICT DO NOTHING
    """,
    changes.FinishAnswer: """
        UPDATE messages SET text = :text, ending = :ending, statistics = :statistics WHERE key = :message
    """,
    changes.SelectBranch: "UPDATE conversations SET shown = :message WHERE key = :conversation",
    changes.TrimContext: """
        UPDATE conversations SET sent_from = :message, summary = :summary WHERE key = :conversation
    """,
    changes.SetOverrides: "UPDATE conversations SET settings = :settings WHERE key = :conversation",
    changes.RemoveMessages: """
        UPDATE messages SET removed = :removed WHERE key IN (SELECT value FROM json_each(:messages))
    """,
    changes.RenameConversation: "UPDATE conversations SET title = :title WHERE key = :conversation",
    changes.PinConversation: "UPDATE conversations SET pinned = :pinned WHERE key = :conversation",
    changes.DeleteConversation: "UPDATE conversations SET deleted = :deleted WHERE key = :conversation",
}
"""How a change is written. Its fields have the names of the values."""

# A conversation that is gone gives NULL as its id, which belongs to no message.
_ADD = """
INSERT INTO messages
    (key, conversation, parent, role, text, ending, main, draft, settings, statistics, written, files)
VALUES
    (:key, (SELECT id FROM conversations WHERE key = :conversation), :parent, :role, :text, :ending, :main,
    :draft, :settings, :statistics, :written, :files)
ON CONFLICT (key) DO NOTHING
"""
_SHOW = """
UPDATE conversations SET shown = :key, changed = max(changed, (SELECT id FROM messages WHERE key = :key))
WHERE key = :conversation
"""
_COLUMNS = """
SELECT key, title, pinned,
    (SELECT count(*) FROM messages WHERE conversation = conversations.id AND NOT removed),
    coalesce((SELECT written FROM messages WHERE id = changed), '')
FROM conversations WHERE NOT deleted AND changed
"""
_AMONG = "AND (key IN (SELECT value FROM json_each(:keys)) OR title LIKE :title ESCAPE '\\')"
_LATEST = f" ORDER BY changed DESC LIMIT {MOST}"
_PINNED = f" ORDER BY pinned DESC, changed DESC LIMIT {MOST}"
_FOUND = """
SELECT conversations.key, snippet(found, 0, '', '', '…', 12)
FROM found JOIN messages ON messages.id = found.rowid JOIN conversations ON conversations.id = conversation
WHERE found MATCH ? AND NOT removed ORDER BY found.rowid DESC LIMIT ?
"""
_PATH = """
WITH RECURSIVE path (id, parent, main, text) AS (
    SELECT messages.id, parent, main, text <> '' FROM messages JOIN conversations ON messages.key = shown
    WHERE conversations.key = ? AND conversation = conversations.id AND NOT removed
    UNION ALL
    SELECT messages.id, messages.parent, messages.main, messages.text <> '' FROM messages
    JOIN path ON messages.key = path.parent WHERE messages.id < path.id  -- no circle, whatever the file holds
)
SELECT id, main FROM path WHERE text ORDER BY id
"""
_LOOKED = "SELECT role, substr(text, 1, ?) FROM messages WHERE id = ?"
_TURNS = """
SELECT id, statistics, files, key, parent, role, text, ending, main, draft, settings FROM messages
WHERE conversation = ? AND NOT removed ORDER BY id
"""


def _listed(row: tuple[str, str, int, int, str], hit: str = "") -> Listed:
    key, title, pinned, messages, written = row
    return Listed(key, title, bool(pinned), messages, written, hit)


def _like(words: str) -> str:
    escaped = words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return "%" + "%".join(escaped.split()) + "%"


def _files(text: str, length: int) -> tuple[Attached, ...]:
    """Return the attached files; none if one is invalid or lies outside a text of that length."""
    found = _read(text, tuple[Attached, ...]) or ()
    ends = [0, *(at for each in found for at in (each.start, each.end)), length]
    return found if ends == sorted(ends) else ()


def _read(text: str, kind: type[T]) -> T | None:
    """None if it cannot be read."""
    try:
        return convert(json.loads(text), kind) if text else None
    except (ValueError, RecursionError):
        return None
