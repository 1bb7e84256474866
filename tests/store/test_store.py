"""Conversations on disk: what was acknowledged is there, whatever happens, and nobody else can read it."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.exchanges import exchange, round_of, writer
from tui.chat.trace import drafted_by_head
from tui.protocol import Origin, Rounding, Statistics, TextRound
from tui.store import database
from tui.store.changes import (
    AddMessage,
    AppendRounds,
    Attached,
    DeleteConversation,
    FinishAnswer,
    PinConversation,
    RenameConversation,
    SelectBranch,
    StartConversation,
    Turn,
)
from tui.store.keeper import Keeper, Unreadable
from tui.store.recovery import salvage
from tui.store.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outrider" / "chats.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with closing(Store.open(path)) as store:
        yield store


def whole(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("PRAGMA integrity_check")] == ["ok"]


# What is written is what is read


def test_a_conversation_comes_back_as_it_was(store: Store) -> None:
    store.apply(exchange("c", 1, "What is it?", "It is."))
    found = store.read("c")
    assert found is not None
    assert (found.title, found.shown) == ("What is it?", "c-1-reply")
    ask, reply = found.turns
    assert (ask.role, ask.text, ask.parent) == ("user", "What is it?", "")
    assert (reply.role, reply.text, reply.parent, reply.ending) == ("assistant", "It is.", "c-1-ask", "stop")
    assert (reply.main, reply.draft, reply.settings) == ("main", "draft", '{"seed": 7}')
    assert reply.rounds == (round_of("It is.", "no"),)
    assert reply.statistics == Statistics(tokens=2, tokens_per_second=50.0)
    assert store.read("another") is None


def test_the_files_of_a_prompt_come_back_with_it(store: Store) -> None:
    files = (Attached("a b.md", 4, 20), Attached("日本.txt", 20, 30))
    store.apply([StartConversation("c", "x"), AddMessage("c", Turn("k", "", "user", "x" * 30, files=files))])
    found = store.read("c")
    assert found is not None and found.turns[0].files == files


def test_an_answer_tells_whether_a_head_or_a_draft_model_drafted_it(store: Store) -> None:
    """An answer of an earlier version names the draft model for both: it still opens."""
    rounds = {
        by: (TextRound((("yes", int(by)), ("no", 3), ("!", 2)), (1, 2), 2, 0, 1, 0.1, 0.0, 0.1, 9),)
        for by in (Origin.DRAFT, Origin.HEAD)
    }
    store.apply([StartConversation("c", "t"), AddMessage("c", Turn("a", "", "user", "Is it?"))])
    for by, record in rounds.items():
        store.apply(
            [AddMessage("c", Turn(by.name, "a", "assistant", "yes!")), AppendRounds(by.name, 0, record)]
        )
    found = store.read("c")
    assert found is not None
    kept = {turn.key: turn.rounds for turn in found.turns if turn.role == "assistant"}
    assert kept == {by.name: record for by, record in rounds.items()}
    assert [drafted_by_head(kept[by.name]) for by in rounds] == [False, True]


def test_a_chat_opens_in_the_form_in_which_the_first_version_wrote_it(store: Store) -> None:
    """Spaces between items, missing last items and half characters included."""
    said, heard = Turn("a", "", "user", "read @é.md text"), Turn("b", "a", "assistant", "half")
    store.apply(
        [StartConversation("c", "t"), AddMessage("c", said), AddMessage("c", heard), AppendRounds("b", 0, ())]
    )
    files = r'[{"name": "\u00e9\udcff.md", "start": 5, "end": 15}]'
    statistics = (
        '{"prompt_tokens": 0, "tokens": 3, "seconds": 0.75, "time_to_first_token": null, '
        '"peak_memory": 1099511627776, "rounding": {"deviation": 0.25, "exact": true, "rows": 3}}'
    )
    rounds = (
        r'[[[["half \ud83d",1],["no",3]],[5,1152921504606846976],4,2,1,0.25,0.125,0.0625,99],'
        r'[[["\u00e9",0]],[7],0,0,0,0.5,0.0,0.5,100,0.75]]'
    )
    store._connection.execute("UPDATE messages SET files = ? WHERE key = 'a'", (files,))
    store._connection.execute("UPDATE messages SET statistics = ? WHERE key = 'b'", (statistics,))
    store._connection.execute("UPDATE rounds SET rounds = ?", (rounds,))
    found = store.read("c")
    assert found is not None
    ask, reply = found.turns
    assert ask.files == (Attached("é\udcff.md", 5, 15),)
    assert reply.statistics == Statistics(
        tokens=3, seconds=0.75, peak_memory=2**40, rounding=Rounding(0.25, True, 3)
    )
    assert reply.rounds == (
        TextRound((("half \ud83d", 1), ("no", 3)), (5, 2**60), 4, 2, 1, 0.25, 0.125, 0.0625, 99),
        TextRound((("é", 0),), (7,), 0, 0, 0, 0.5, 0.0, 0.5, 100, 0.75),
    )


@pytest.mark.parametrize(
    "kept",
    [
        "{",
        "[1]",
        "[" * 100_000,
        '[{"name": 3, "start": 0, "end": 1}]',
        '[{"name": "a", "start": 0}]',
        '[{"name": "a", "start": -1, "end": 2}]',
        '[{"name": "a", "start": 2, "end": 99}]',
        '[{"name": "a", "start": 3, "end": 2}]',
        '[{"name": "a", "start": 2, "end": 4}, {"name": "b", "start": 3, "end": 5}]',
    ],
    ids=lambda kept: kept[:24],
)
def test_files_that_cannot_be_are_none(store: Store, kept: str) -> None:
    store.apply([StartConversation("c", "x"), AddMessage("c", Turn("k", "", "user", "x" * 30))])
    store._connection.execute("UPDATE messages SET files = ?", (kept,))
    found = store.read("c")
    assert found is not None and found.turns[0].files == () and found.turns[0].text == "x" * 30


def test_changes_written_twice_are_written_once(store: Store) -> None:
    changes = [
        *exchange("c", 1, "a", "b"),
        RenameConversation("c", "t"),
        PinConversation("c", True),
        SelectBranch("c", "c-1-ask"),
    ]
    store.apply(changes)
    once = store.read("c"), store.listed()
    store.apply(changes)
    assert (store.read("c"), store.listed()) == once


def test_an_answer_that_never_ended_has_the_text_that_came(path: Path, store: Store) -> None:
    changes = exchange("c", 1, "a", "unlikely word")
    store.apply(changes[:-1])
    found = store.read("c")
    assert found is not None
    assert (found.turns[1].text, found.turns[1].ending) == ("unlikely word", "")
    assert not store.listed("unlikely")
    with closing(Store.open(path)) as later:
        assert [each.key for each in later.listed("unlikely")] == ["c"]


def test_a_text_that_was_completed_too_early_is_completed_again(path: Path) -> None:
    """A second window starts while the first one still hears the answer, and then the first one is killed."""
    first = Store.open(path)
    first.apply(exchange("c", 1, "Why?", "half of it")[:-1])
    Store.open(path).close()
    first.apply([AppendRounds("c-1-reply", 1, (round_of(" and the rest"),))])
    first.close()
    again = Store.open(path)
    found = again.read("c")
    again.close()
    assert found is not None and found.turns[1].text == "half of it and the rest"


def test_branches_keep_their_order_and_the_one_that_is_shown(store: Store) -> None:
    store.apply(exchange("c", 1, "a", "b"))
    store.apply(exchange("c", 2, "edited", "other", parent="c-1-reply"))
    store.apply([SelectBranch("c", "c-1-reply")])
    found = store.read("c")
    assert found is not None
    assert [turn.key for turn in found.turns] == ["c-1-ask", "c-1-reply", "c-2-ask", "c-2-reply"]
    assert found.shown == "c-1-reply"


def test_a_preview_shows_the_branch_that_is_shown(store: Store) -> None:
    store.apply(exchange("c", 1, "first?", "one"))
    store.apply([
        AddMessage("c", Turn("other", "c-1-ask", "assistant", main="other main")),
        FinishAnswer("other", "another", "stop", None),
        *exchange("c", 2, "second?", "two", parent="c-1-reply"),
        SelectBranch("c", "c-2-reply"),
    ])  # fmt: skip
    found = store.preview("c")
    assert found.said == (("user", "first?"), ("assistant", "one"), ("user", "second?"), ("assistant", "two"))
    assert (found.messages, found.main) == (4, "main")
    store.apply([SelectBranch("c", "other")])
    found = store.preview("c")
    assert [text for _, text in found.said] == ["first?", "another"]
    assert (found.messages, found.main) == (2, "other main")
    store.apply([SelectBranch("c", "gone")])
    assert store.preview("c").said == ()


def test_a_preview_is_no_longer_than_it_needs_to_be(store: Store) -> None:
    store.apply(exchange("c", 0, "x" * 5_000, "y"))
    for number in range(1, 30):
        store.apply(exchange("c", number, "?", "!", parent=f"c-{number - 1}-reply"))
    found = store.preview("c")
    assert len(found.said[0][1]) == 1_000 and len(found.said) == 8
    assert found.messages == 60


def test_half_characters_and_nul_are_no_obstacle(store: Store) -> None:
    store.apply(exchange("c", 1, "a\x00\ud800b", "\udfff\x1b[2J"))
    found = store.read("c")
    assert found is not None
    assert found.turns[0].text == "a\x00?b"
    assert store.listed()[0].title == "a\x00?b"


# The history


def test_the_history_goes_by_sequence_and_never_by_clock(store: Store) -> None:
    for number, year in enumerate((2030, 1999, 2020)):
        chat = f"c{number}"
        store.apply(
            [
                StartConversation(chat, chat),
                AddMessage(chat, Turn(chat, "", "user", "x", written=f"{year}-01-01")),
            ]
        )
    assert [each.key for each in store.listed()] == ["c2", "c1", "c0"]
    assert store.named() == "c2"
    store.apply([PinConversation("c0", True)])
    assert [each.key for each in store.listed()] == ["c0", "c2", "c1"]
    store.apply([DeleteConversation("c2")])
    assert [each.key for each in store.listed()] == ["c0", "c1"]
    assert store.named() == "c1"
    assert store.named("c0") == "c0"
    store.apply([DeleteConversation("c2", deleted=False)])
    assert store.named() == "c2"


def test_a_chat_in_which_nothing_was_said_is_not_listed(store: Store) -> None:
    store.apply([StartConversation("c", "empty")])
    assert store.listed() == []


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("naive", ["c1"]),
        ("NAÏVE bayes", ["c1"]),
        ("bay", ["c1"]),
        ("ride", ["c2"]),
        ("title c3", []),
        ("renamed", ["c3"]),
        ("50%", ["c3"]),
        ('" OR *', []),
        ("text:", []),
        ("ne(a", []),
    ],
)
def test_search_finds_words_in_texts_and_titles(store: Store, words: str, found: list[str]) -> None:
    store.apply(exchange("c1", 1, "Explain a naïve Bayes", "It counts."))
    store.apply(exchange("c2", 1, "Outriders", "They ride ahead."))
    store.apply([*exchange("c3", 1, "x", "y"), RenameConversation("c3", "Renamed 50% of it")])
    assert [each.key for each in store.listed(words)] == found


def test_a_hit_is_shown_with_the_words_around_it(store: Store) -> None:
    store.apply(exchange("c", 1, "x", "one two three " * 20 + "needle and thread " + "four five " * 20))
    hit = store.listed("needle")[0].hit
    assert "three needle and" in hit
    assert len(hit) < 120


# Who may read it


def test_files_are_their_owners_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        with closing(Store.open(path)) as store:
            store.apply(exchange("c", 1, "a", "b"))
            modes = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_no_byte_of_what_was_deleted_stays(path: Path, store: Store) -> None:
    secret = "xylophonically"
    store.apply(exchange("kept", 1, "hello", "there"))
    store.apply(exchange("c", 1, f"a {secret}", f"{secret} " * 500))
    assert secret.encode() in path.read_bytes()
    store.purge(["c", "kept"])
    assert store.read("c") is not None, "it was not deleted"
    store.apply([DeleteConversation("c")])
    store.purge(["c"])
    left = b"".join(each.read_bytes() for each in path.parent.iterdir())
    assert secret.encode() not in left
    assert store.read("kept") is not None


# The file


def test_a_newer_file_is_read_and_never_written(path: Path) -> None:
    with closing(Store.open(path)) as store:
        store.apply(exchange("c", 1, "a", "b"))
        store._connection.execute(f"PRAGMA user_version = {len(database.STEPS) + 1}")
    before = path.read_bytes()
    with closing(Store.open(path)) as store:
        assert "newer" in store.read_only
        assert store.read("c") is not None
        with pytest.raises(sqlite3.OperationalError):
            store.apply([RenameConversation("c", "x")])
    assert path.read_bytes() == before


def test_an_older_file_is_migrated_whole_or_not_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Store.open(path)) as store:
        store.apply(exchange("c", 1, "a", "b"))
    steps = database.STEPS
    wrong = "ALTER TABLE conversations ADD COLUMN color TEXT;\nINSERT INTO nowhere VALUES (1);\n"
    monkeypatch.setattr(database, "STEPS", (*steps, wrong))
    with pytest.raises(sqlite3.OperationalError):
        Store.open(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(steps),)
        assert "color" not in str(connection.execute("SELECT sql FROM sqlite_schema").fetchall())
    monkeypatch.setattr(database, "STEPS", (*steps, wrong.partition("\n")[0]))
    with closing(Store.open(path)) as store:
        assert store.read("c") is not None
    copy = path.with_name(f"chats.version-{len(steps)}.db")
    assert whole(copy)
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_damaged_file_of_the_first_version_is_saved_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "STEPS", database.STEPS[:1])
    with closing(database.connect(path)) as connection:
        database.migrate(connection)
        connection.execute("INSERT INTO conversations (key, title, shown, changed) VALUES ('c', 'x', 'k', 1)")
        connection.execute(
            "INSERT INTO messages VALUES (1, 'k', 1, '', 'user', 'kept', '', '', '', '', '', '', 0)"
        )
    monkeypatch.undo()
    with closing(database.connect(path.with_name("new.db"))) as connection:
        database.migrate(connection)
        assert salvage(path, connection) == 1
        (found,) = Store(connection).read("c").turns  # type: ignore[union-attr]
    assert (found.text, found.files) == ("kept", ())


def test_damaged_files_are_set_aside_and_what_is_readable_is_saved(tmp_path: Path) -> None:
    path = tmp_path / "chats.db"
    with closing(Store.open(path)) as store:
        for number in range(150):
            store.apply(exchange(f"c{number}", 1, f"prompt {number} " * 20, f"answer {number} " * 60))
    good, chance = path.read_bytes(), random.Random(5)
    pages = len(good) // 4096
    saved = []
    for trial in range(40):
        folder = tmp_path / str(trial)
        folder.mkdir()
        broken = bytearray(good)
        # Pages in the second half: the first ones hold what leads to all others.
        for page in chance.sample(range(pages // 2, pages), 2):
            broken[page * 4096 : page * 4096 + 4096] = chance.randbytes(4096)
        if trial % 8 == 7:
            del broken[chance.randrange(pages // 2, pages) * 4096 :]
        hurt = folder / "chats.db"
        hurt.write_bytes(broken)
        began = time.monotonic()
        with closing(Store.open(hurt)) as store:
            listed = store.listed()
            complete = [each for each in listed if (found := store.read(each.key)) and len(found.turns) == 2]
            store.apply(exchange("new", 1, "goes", "on"))
            if store.remark:
                assert (folder / "chats.damaged-1.db").read_bytes() == broken
        assert time.monotonic() - began < 3
        assert whole(hurt)
        saved.append(len(complete))
    print(saved)
    assert sorted(saved)[len(saved) // 20] >= 50
    assert max(saved) > 140


def test_a_file_that_is_no_database_is_set_aside(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"\0" * 64_560)
    with closing(Store.open(path)) as store:
        store.apply(exchange("c", 1, "a", "b"))
    assert (path.parent / "chats.damaged-1.db").read_bytes() == b"\0" * 64_560


def test_a_locked_file_is_not_a_damaged_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY", 0.05)
    with closing(Store.open(path)), closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError):
            Store.open(path)
    assert [each.name for each in path.parent.iterdir() if "damaged" in each.name] == []


# The thread


async def test_what_settled_is_on_the_disk(path: Path) -> None:
    keeper = Keeper(path)
    keeper.add(*exchange("c", 1, "a", "b"))
    await keeper.settle()
    with closing(Store.open(path)) as other:
        assert other.read("c") is not None
    assert (keeper.fault, keeper.unsaved) == ("", 0)
    await keeper.close()


async def test_what_was_deleted_goes_for_good_when_the_app_ends(path: Path) -> None:
    keeper = Keeper(path)
    keeper.add(
        *exchange("c", 1, "a", "b"),
        *exchange("back", 1, "a", "b"),
        DeleteConversation("c"),
        DeleteConversation("back"),
    )
    keeper.add(DeleteConversation("back", deleted=False))
    await keeper.close()
    with closing(Store.open(path)) as later:
        assert later.read("c") is None
        assert later.read("back") is not None


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """A disk on which no file gets larger than `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


async def test_on_a_full_disk_the_chat_goes_on_and_is_written_when_it_can_be(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.store.keeper.RETRY", 0.05)
    said: list[str] = []
    keeper = Keeper(path, lambda: said.append(keeper.fault))
    keeper.add(*exchange("before", 1, "a", "b"))
    await keeper.settle()
    with at_most(path.stat().st_size):
        keeper.add(*exchange("c", 1, "a" * 50_000, "b" * 50_000))
        await keeper.settle()
        assert keeper.fault
        assert keeper.unsaved == 5
        with closing(Store.open(path)) as other:
            assert other.read("before") is not None
            assert other.read("c") is None
    async with asyncio.timeout(60):
        while keeper.fault:
            await asyncio.sleep(0.02)
    assert keeper.unsaved == 0
    found = await keeper.ask(lambda store: store.read("c"))
    assert found is not None
    assert said[-1] == ""
    assert len(said) == 2
    await keeper.close()


async def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    keeper = Keeper(tmp_path / "file" / "chats.db")
    keeper.add(*exchange("c", 1, "a", "b"))
    await keeper.settle()
    assert keeper.fault
    with pytest.raises(Unreadable, match=r".+"):
        await keeper.ask(lambda store: store.listed())
    await keeper.close()
    assert keeper.unsaved == 5


async def test_a_chat_deleted_in_another_window_is_said_to_be_unsaved(path: Path) -> None:
    keeper = Keeper(path)
    keeper.add(*exchange("c", 1, "a", "b"), *exchange("d", 1, "a", "b"))
    await keeper.settle()
    with closing(Store.open(path)) as other:
        other.apply([DeleteConversation("c")])
        other.purge(["c"])
    keeper.add(*exchange("c", 2, "more", "of it", parent="c-1-reply"))
    keeper.add(*exchange("d", 2, "more", "of it", parent="d-1-reply"))
    await keeper.settle()
    assert "deleted in another window" in keeper.fault
    found = await keeper.ask(lambda store: store.read("d"))
    assert found is not None
    assert len(found.turns) == 4
    await keeper.close()


# Killed at any moment, and several at once


def test_four_writers_at_once_lose_and_repeat_nothing(path: Path) -> None:
    count = 60
    writers = [writer(path, f"w{number}", count) for number in range(4)]
    for each in writers:
        said, wrong = each.communicate(timeout=60)
        assert (wrong, said.splitlines()[-1:]) == (b"", [str(count - 1).encode()])
    assert whole(path)
    with closing(Store.open(path)) as store:
        for number in range(4):
            found = store.read(f"w{number}")
            assert found is not None
            assert [turn.text for turn in found.turns[::2]] == [f"prompt {each}" for each in range(count)]


def test_killed_at_any_moment_nothing_that_was_acknowledged_is_lost(path: Path) -> None:
    chance = random.Random(3)
    for trial in range(12):
        child = writer(path, f"k{trial}", 100_000)
        assert child.stdout is not None
        assert child.stdout.readline() == b"0\n"
        time.sleep(chance.random() * 0.1)
        child.kill()
        acknowledged = int((child.communicate()[0].splitlines() or [b"0"])[-1])
        assert whole(path)
        with closing(Store.open(path)) as store:
            found = store.read(f"k{trial}")
            assert found is not None
            assert len(found.turns) >= 2 * (acknowledged + 1)
