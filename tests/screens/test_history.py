"""Chats that are kept: what the app writes while it runs, and the screen that finds them again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.chat import (
    answered,
    ask,
    chat,
    finished_answers,
    origins,
    outrider,
    places_in,
    stored,
    text,
    until,
)
from tests.support.exchanges import exchange, writer
from tests.support.paths import ROOT
from tests.support.rest import at_rest
from tests.support.screens.history import CHATS, NOW, SAID, Alone
from tests.support.terminal import python
from tui.chat.export import as_markdown, export
from tui.config import History
from tui.protocol import Origin
from tui.quantities import moment
from tui.screens.history import HistoryScreen
from tui.screens.line_input import LineScreen
from tui.store.changes import AddMessage, Change, DeleteConversation, SelectBranch, StartConversation, Turn
from tui.store.store import Store, StoredConversation

FAST = "scripted:sample?rate=2000&tokens=40"


# What the app writes


async def test_a_chat_is_there_again_with_where_each_token_came_from(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=FAST)
    async with app.run_test(size=(120, 40)) as pilot:
        await answered(pilot, "one\ntwo")
        await answered(pilot, "three")
        before = origins(app)
        note = text(app)
    (kept,) = stored(tmp_path)
    assert kept.title == "one"
    assert [turn.role for turn in kept.turns] == ["user", "assistant"] * 2
    assert [turn.parent for turn in kept.turns] == ["", *(turn.key for turn in kept.turns[:3])]
    answer = kept.turns[1]
    assert answer.ending in ("length", "stop")
    assert json.loads(answer.settings)["seed"] == 7
    assert answer.statistics is not None
    assert answer.statistics.rounds == len([each for each in answer.rounds if each.tokens])
    assert sum(len(each.tokens) for each in answer.rounds) == answer.statistics.tokens
    assert {Origin.DRAFT, Origin.MAIN} <= set(before[1][1])

    again = outrider(tmp_path, main=FAST)
    again._go_on = ""
    async with again.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: len(chat(again).panel.transcript.messages) == 4)
        assert origins(again) == before
        line = next(line for line in note.splitlines() if "tok/s" in line and "tokens" in line)
        await until(pilot, lambda: line.split("│")[0].strip() in text(again))
        await answered(pilot, "four")
    (kept,) = stored(tmp_path)
    assert [turn.text for turn in kept.turns[::2]] == ["one\ntwo", "three", "four"]
    assert kept.turns[4].parent == kept.turns[3].key


async def test_a_prompt_is_on_the_disk_before_the_engine_sees_it(tmp_path: Path) -> None:
    app = outrider(tmp_path, main="scripted:sample?load=30")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await ask(pilot, "kept at once")
        await until(pilot, lambda: places_in(tmp_path).chats.exists() and stored(tmp_path))
        assert chat(app).phase == "waiting"
        (kept,) = stored(tmp_path)
        assert [turn.text for turn in kept.turns] == ["kept at once"]


async def test_the_engine_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = outrider(tmp_path, main=FAST)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        waits, written = asyncio.Event(), asyncio.Event()

        async def settle() -> None:
            waits.set()
            await written.wait()

        monkeypatch.setattr(app._keeper, "settle", settle)
        await ask(pilot, "hello")
        await until(pilot, waits.is_set)
        assert len(chat(app).panel.transcript.messages) == 1
        written.set()
        await until(pilot, lambda: len(chat(app).panel.transcript.messages) == 2)


async def test_a_prompt_without_an_answer_goes_back_to_the_composer(tmp_path: Path) -> None:
    with closing(Store.open(places_in(tmp_path).chats)) as store:
        store.apply(exchange("c", 1, "a", "b"))
        store.apply([AddMessage("c", Turn("lost", "c-1-reply", "user", "the lost prompt"))])
    app = outrider(tmp_path, main=FAST)
    app._go_on = ""
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).panel.composer.text == "the lost prompt")
        assert len(chat(app).panel.transcript.messages) == 2
        await until(pilot, lambda: chat(app).phase == "ready")
        await pilot.press("enter")
        await until(pilot, lambda: len(chat(app).panel.transcript.messages) == 4)
        assert [each.content for each in chat(app).session.conversation.ask("x")][:3] == [
            "a",
            "b",
            "the lost prompt",
        ]


async def test_an_answer_that_is_broken_off_by_the_end_is_kept_as_far_as_it_came(tmp_path: Path) -> None:
    app = outrider(tmp_path, main="scripted:sample?rate=50&tokens=5000")
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        await ask(pilot, "go on for ever")
        await until(pilot, lambda: len(chat(app).panel.transcript.writer.text_of(1)) > 40)
        shown = chat(app).panel.transcript.writer.text_of(1)
    (kept,) = stored(tmp_path)
    assert kept.turns[1].text.startswith(shown.rstrip())
    assert kept.turns[1].ending == "cut"


async def test_nothing_is_kept_where_that_is_not_wanted(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=FAST, history=History(keep=False))
    async with app.run_test(size=(120, 40)) as pilot:
        await answered(pilot, "secret")
        await pilot.press("ctrl+o")
        await until(pilot, lambda: "secret" in text(app) and "Chats  1" in text(app))
        assert isinstance(app.screen, HistoryScreen)
    assert not list(tmp_path.glob("chats*"))


async def test_where_nothing_can_be_saved_the_chat_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.store.keeper.RETRY", 0.1)
    place = places_in(tmp_path).chats
    place.mkdir()
    app = outrider(tmp_path, main=FAST)
    async with app.run_test(size=(120, 40)) as pilot:
        await answered(pilot, "hello")
        assert "NOT SAVED" in text(app)
        assert app.unsaved
        place.rmdir()
        await until(pilot, lambda: "NOT SAVED" not in text(app))
        assert not app.unsaved
    (kept,) = stored(tmp_path)
    assert [turn.text for turn in kept.turns[::2]] == ["hello"]


_APP = """
import asyncio, json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.support.chat import outrider
from tui.chat.turn import TurnRunner
from tui.protocol import Origin
notes = os.open(sys.argv[2] + "/notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
heard, hear, save = "", TurnRunner._hear, TurnRunner._save

def note(what, value):
    os.write(notes, json.dumps([what, value]).encode() + b"\\n")

def hear_and_note(turn, event):
    global heard
    hear(turn, event)
    heard += "".join(text for text, origin in event.pieces if origin != Origin.REJECTED)
    note("due", turn._saving.when() - asyncio.get_running_loop().time())

def save_and_note(turn):
    save(turn)
    turn._keeper._submit(lambda told=heard: note("written", told))  # its thread has written all before this

TurnRunner._hear, TurnRunner._save = hear_and_note, save_and_note
outrider(Path(sys.argv[2]), main="scripted:sample?rate=500&tokens=100000").run()
"""
KILLS = int(os.environ.get("OUTRIDER_KILLS", "4"))
"""How often the app is killed. 200 take some minutes."""


def noted(folder: Path, what: str) -> list[Any]:
    """The values that the app noted as `what`, the first one first."""
    path = folder / "notes"
    whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
    return [value for name, value in map(json.loads, whole.splitlines()) if name == what]


def test_killed_while_an_answer_comes_no_more_than_a_quarter_second_of_it_is_lost(tmp_path: Path) -> None:
    """By the app's own clock: all that it hears is due to be written that soon, and what is written stays."""
    chance = random.Random(1)
    for trial in range(KILLS):
        writes = chance.randint(2, 8)
        with python(_APP, str(ROOT), str(tmp_path), rows=40, columns=120) as terminal:
            terminal.wait(b"ready")
            terminal.send(f"prompt {trial}\r".encode())
            terminal.wait(lambda: len(noted(tmp_path, "written")) >= writes)  # noqa: B023
            os.kill(terminal.pid, signal.SIGKILL)
            assert terminal.exit() == -signal.SIGKILL
        with closing(sqlite3.connect(places_in(tmp_path).chats)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        with closing(Store.open(places_in(tmp_path).chats)) as store:
            listed = store.listed()
            latest = store.read(listed[0].key)
        assert [each.title for each in listed] == [f"prompt {each}" for each in reversed(range(trial + 1))]
        assert latest is not None
        assert max(noted(tmp_path, "due")) <= 0.25
        said = noted(tmp_path, "written")[-1]
        assert len(said) > 20
        assert latest.turns[1].text.startswith(said)
        (tmp_path / "notes").unlink()


_WINDOW = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.support.chat import outrider
outrider(Path(sys.argv[2]), main="scripted:sample?rate=40&tokens=40").run()
"""
SECONDS = float(os.environ.get("OUTRIDER_SECONDS", "5"))
"""How long windows and writers go on."""


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Four processes that write as fast as they can. None outlives the test."""
    made = [writer(places_in(tmp_path).chats, f"w{number}", 1_000_000) for number in range(4)]
    yield made
    for each in made:
        with each:
            each.kill()


def test_two_windows_and_four_writers_at_once_lose_and_repeat_nothing(
    tmp_path: Path, writers: list[subprocess.Popen[bytes]]
) -> None:
    path = places_in(tmp_path).chats
    arguments = (str(ROOT), str(tmp_path))
    asked = 0
    with (
        python(_WINDOW, *arguments, rows=40, columns=120) as one,
        python(_WINDOW, *arguments, rows=40, columns=120) as other,
    ):
        for window in (one, other):
            window.wait(b"ready")
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            for name, window in (("one", one), ("other", other)):
                window.send(f"{name} {asked}\r".encode())
                window.wait(lambda: finished_answers(path, f"{name} 0") > asked)  # noqa: B023
            asked += 1
        for window in (one, other):
            window.send(b"\x11")
            assert window.exit() == 0
            assert b"NOT SAVED" not in window.output
    written = []
    for each in writers:
        each.kill()
        said, wrong = each.communicate(timeout=60)
        assert wrong == b""
        written.append(int(said.splitlines()[-1]) + 1)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with closing(Store.open(path)) as store:
        for name in ("one", "other"):
            chat = store.read(store.named(f"{name} 0") or "")
            assert chat is not None
            prompts = [turn.text for turn in chat.turns if turn.role == "user"]
            assert prompts == [f"{name} {number}" for number in range(asked)]
            assert all(turn.text and turn.ending == "stop" for turn in chat.turns[1::2])
        for number, count in enumerate(written):
            chat = store.read(f"w{number}")
            assert chat is not None
            prompts = [turn.text for turn in chat.turns[::2]]
            assert prompts[:count] == [f"prompt {each}" for each in range(count)]
            assert len(prompts) <= count + 1
    print(f"{asked} prompts in each window, {sum(written):,} of the writers")


# The screen


async def listed(pilot: Any) -> None:
    await until(pilot, lambda: pilot.app.rows("chats").current)


STATES: dict[str, tuple[tuple[Change, ...], tuple[str, ...]]] = {
    "chats": (CHATS, ("down", "down")),
    "found": (CHATS, tuple("saturday")),
    "not-found": (CHATS, tuple("nothing")),
    "none": ((), ()),
    "rename": (CHATS, ("ctrl+r",)),
}


@pytest.mark.parametrize("size", [(120, 40), (80, 24)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize(("changes", "keys"), STATES.values(), ids=STATES.keys())
def test_the_history_looks_as_it_should(
    tmp_path: Path,
    snap_compare: Any,
    monkeypatch: pytest.MonkeyPatch,
    changes: tuple[Change, ...],
    keys: tuple[str, ...],
    size: tuple[int, int],
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)

    async def settle(pilot: Any) -> None:
        pilot.app.screen.line.cursor_blink = False
        await at_rest(pilot)
        await pilot.press(*keys)
        if isinstance(pilot.app.screen, LineScreen):
            pilot.app.screen._line.cursor_blink = False
        await at_rest(pilot)

    assert snap_compare(Alone(tmp_path, changes), terminal_size=size, run_before=settle)


async def test_enter_ends_with_the_chat_under_the_cursor(tmp_path: Path) -> None:
    app = Alone(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await listed(pilot)
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: app.ended)
    assert app.ended == ["c2"]


async def test_the_chat_that_is_open_is_gone_back_to(tmp_path: Path) -> None:
    app = Alone(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await listed(pilot)
        await pilot.press("down", "enter")
        await until(pilot, lambda: app.ended)
    assert app.ended == [None]


async def test_what_is_typed_is_searched_in_titles_and_texts(tmp_path: Path) -> None:
    app = Alone(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await listed(pilot)
        await pilot.press(*"sintra")
        await until(pilot, lambda: [row.key for row in app.rows("chats")._rows] == ["c2"])
        await until(pilot, lambda: "on Sunday Sintra" in app.shown)
        await pilot.press("escape")
        await until(pilot, lambda: len(app.rows("chats")._rows) == 4)
        assert app.ended == []


async def test_rename_pin_delete_and_undo_by_keys_alone(tmp_path: Path) -> None:
    app = Alone(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await listed(pilot)
        await pilot.press("down", "ctrl+r")
        await until(pilot, lambda: isinstance(app.screen, LineScreen))
        await pilot.press(*["backspace"] * 40, *"Rayleigh", "enter")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen) and "Rayleigh" in app.shown)
        await pilot.press("ctrl+t")
        await until(pilot, lambda: [row.key for row in app.rows("chats")._rows][:2] == ["c3", "c0"])
        await pilot.press("ctrl+x")
        await until(pilot, lambda: [row.key for row in app.rows("chats")._rows] == ["c0", "c2", "c1"])
        await pilot.press("ctrl+x")
        await until(pilot, lambda: len(app.rows("chats")._rows) == 2)
        await pilot.press("ctrl+z", "ctrl+z", "ctrl+z")
        await until(pilot, lambda: len(app.rows("chats")._rows) == 4)
        assert app.keeper.deleted == frozenset()


async def test_a_chat_is_exported_beside_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "why-is-the-sky-blue.md").write_text("mine")
    app = Alone(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await listed(pilot)
        await pilot.press("down", "ctrl+e")
        written = tmp_path / "why-is-the-sky-blue-2.md"
        await until(pilot, written.exists)
    parts = ("# Why is the sky blue?", "## You", "Why is the sky blue?", "## Answer", SAID[3][1])
    assert written.read_text() == "\n\n".join(parts) + "\n"
    assert written.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "why-is-the-sky-blue.md").read_text() == "mine"


@pytest.mark.parametrize(
    "title", ["../../etc/passwd", "a/b\\c", "\x1b]52;c;eA==\x07", "...", "\u202egpj.exe", "x" * 500]
)
def test_no_title_leads_an_export_out_of_its_folder(tmp_path: Path, title: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    turns = (Turn("a", "", "user", "\x1b[2J?"),)
    path = export(StoredConversation("c", title, "a", turns), folder)
    assert path.parent == folder
    assert [each.name for each in tmp_path.rglob("*") if each.is_file()] == [path.name]
    assert "\x1b" not in path.read_text()


def test_an_export_has_the_branch_that_is_shown() -> None:
    turns = (
        Turn("a", "", "user", "question"),
        Turn("b", "a", "assistant", "first"),
        Turn("c", "a", "assistant", "second", main="Model"),
    )
    shown = as_markdown(StoredConversation("c", "t", "b", turns))
    assert "first" in shown
    assert "second" not in shown
    assert "## Model" in as_markdown(StoredConversation("c", "t", "c", turns))


async def test_hostile_titles_and_texts_are_cleaned(tmp_path: Path) -> None:
    hostile = "\x1b]52;c;eA==\x07[bold red]evil[/]\n\u202e"
    changes = (
        StartConversation("c", hostile),
        AddMessage("c", Turn("a", "", "user", hostile)),
        SelectBranch("c", "a"),
    )
    app = Alone(tmp_path, changes)
    async with app.run_test(size=(120, 40)) as pilot:
        await listed(pilot)
        await until(pilot, lambda: "1 message" in app.shown)
        assert "[bold red]evil[/]" in app.shown
        assert not any(sign in app.shown for sign in "\x1b\x07\u202e")


async def test_an_unreadable_store_says_so(tmp_path: Path) -> None:
    (tmp_path / "chats.db").mkdir()
    app = Alone(tmp_path, ())
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "cannot be read" in app.shown)
        assert "no chat yet" not in app.shown


async def test_deleting_the_chat_that_is_open_begins_a_new_one(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=FAST)
    async with app.run_test(size=(120, 40)) as pilot:
        await answered(pilot, "to be deleted")
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen) and "to be deleted" in text(app))
        await pilot.press("ctrl+x")
        await until(pilot, lambda: "no chat yet" in text(app))
        await pilot.press("escape")
        await until(pilot, lambda: not chat(app).panel.transcript.messages)
        await answered(pilot, "the next one")
    assert [each.title for each in stored(tmp_path)] == ["the next one"]


async def test_opening_another_chat_stops_the_answer_that_is_coming(tmp_path: Path) -> None:
    with closing(Store.open(places_in(tmp_path).chats)) as store:
        store.apply(exchange("c", 1, "an earlier one", "its answer"))
    app = outrider(tmp_path, main="scripted:sample?rate=50&tokens=5000")
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        await ask(pilot, "hello")
        await until(pilot, lambda: chat(app).phase == "answering")
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen) and "an earlier one" in text(app))
        await pilot.press("down", "enter")
        await until(pilot, lambda: [each[0] for each in origins(app)] == ["an earlier one", "its answer"])
        assert chat(app).phase == "ready"
    latest = stored(tmp_path)[0]
    assert (latest.title, latest.turns[1].ending) == ("hello", "cancelled")


# The command


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "tui", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@pytest.mark.skipif(sys.platform == "darwin", reason="its folder does not go by XDG_DATA_HOME")
def test_chats_are_listed_and_searched_on_the_command_line(tmp_path: Path) -> None:
    told = run(tmp_path, "history")
    assert (told.returncode, told.stderr) == (0, "")
    assert "there is none yet" in told.stdout
    assert list(tmp_path.iterdir()) == [], "looking makes no file"
    with closing(Store.open(tmp_path / "outrider" / "chats.db")) as store:
        store.apply(CHATS)
        store.apply([DeleteConversation("c3")])
    lines = run(tmp_path, "history").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["c0", "c2", "c1"]
    (found,) = json.loads(run(tmp_path, "history", "--json", "alfama").stdout)
    assert (found["key"], found["title"]) == ("c2", "Plan a weekend in Lisbon")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("2026-11-28T09:30:00", "09:30"),
        ("2026-11-27T23:59:00", "yesterday"),
        ("2026-11-23T10:00:00", "Monday"),
        ("2026-11-12T10:00:00", "12 Nov"),
        ("2025-03-02T10:00:00", "2025-03-02"),
        ("2027-01-01T10:00:00", "2027-01-01"),
        ("", "–"),
        ("soon", "–"),
    ],
)
def test_a_moment_is_said_as_people_say_it(written: str, shown: str) -> None:
    assert moment(written, NOW) == shown
