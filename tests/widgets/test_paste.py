"""A paste is data: it names no file, gives no command and sends nothing, and it arrives as it was."""

from __future__ import annotations

import random
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual import events

from tests.support.chat import asked_of, chat, outrider, places_in, stored, text, told, until
from tests.support.panel import Desk, paste
from tests.support.pastes import pastes
from tui.app import Outrider
from tui.chat.export import as_markdown
from tui.config import Generation, Models, Settings
from tui.host import Host
from tui.screens.consent import ConsentScreen

QUICK = "scripted:sample?tokens=2"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the app works: nearly every word that a paste has behind an @ is a file or a folder."""
    work, home = tmp_path / "work", tmp_path / "home"
    (work / "tests").mkdir(parents=True)
    (work / "types").mkdir()
    (home / ".ssh").mkdir(parents=True)
    for path in (work / "README.md", work / ".env", work / "property", tmp_path / "outside.txt"):
        path.write_text("SECRET\n")
    for path in (home / ".ssh" / "config", home / ".netrc"):
        path.write_text("SECRET\n")
    (work / "link").symlink_to(home / ".netrc")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    return work


def long(line: str) -> str:
    return "\n".join(["a line of a log"] * 20 + [line] + ["more of it"] * 19)


async def send(pilot: Any, words: str) -> None:
    """Paste `words` into the empty composer and press Enter; waits for the answer."""
    screen = chat(pilot.app)
    before = len(screen.session.conversation.path)
    screen.panel.composer.post_message(events.Paste(words))
    await until(pilot, lambda: screen.panel.composer.text)
    await pilot.press("enter")
    await until(
        pilot, lambda: len(screen.session.conversation.path) == before + 2 and screen.phase == "ready", 60
    )


# What a paste must not do


async def test_pastes_are_sent_as_they_are_and_do_nothing(
    tmp_path: Path, folder: Path, many: int = 24
) -> None:
    app = outrider(tmp_path, main=QUICK, draft="lookup")
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        sent, draw = asked_of(app), random.Random(8)
        source = pastes(draw)
        for number in range(many):
            found = next(source)
            if not found.meant.strip():
                continue
            await send(pilot, found.sent)
            assert len(sent) == 1 and app.screen is screen, found
            assert sent.pop().messages[-1].content == found.meant
            assert not screen.panel.has_class("-files")
            if number % 8 == 7:
                await pilot.press("ctrl+n")
                await until(pilot, lambda: not screen.session.conversation.path)
        assert screen.session.overrides.values == ()
        assert "There is no" not in told(app)


@pytest.mark.parametrize(
    "words",
    ["/temperature 5", "/new chat rules", "/host nowhere", "/x", "/usr/bin/ld: no", "// x", "/* x */"],
)
async def test_a_pasted_slash_begins_no_command_whatever_is_done_to_it(tmp_path: Path, words: str) -> None:
    app = outrider(tmp_path, main=QUICK, draft="lookup")
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        sent = asked_of(app)
        await paste_into(pilot, "x")
        await paste_into(pilot, words)
        await pilot.press("home", "delete")  # the slash stands first now
        assert not screen.panel.suggestions.is_open
        await pilot.press("enter")
        await until(pilot, lambda: sent and screen.phase == "ready")
        assert sent.pop().messages[-1].content == words
        await pilot.press("up", "!", "enter")  # recalled and changed it is still a paste
        await until(pilot, lambda: sent and screen.phase == "ready")
        assert sent[0].messages[-1].content == words + "!"
        assert screen.session.overrides.values == ()


async def paste_into(pilot: Any, words: str) -> None:
    composer = chat(pilot.app).panel.composer
    before = composer.prompt
    composer.post_message(events.Paste(words))
    await until(pilot, lambda: composer.prompt != before)


async def test_a_typed_path_and_a_typed_comment_are_sent(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=QUICK, draft="lookup")
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        sent = asked_of(app)
        for words in ("/etc/hosts: what is it?", "/* x */ what is this?", "//x"):
            screen.panel.composer.insert(words)
            await pilot.press("enter")
            await until(pilot, lambda: sent and screen.phase == "ready")
            assert sent.pop().messages[-1].content == words


async def test_a_command_that_was_typed_takes_a_pasted_value(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=QUICK, draft="lookup")
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        await pilot.press(*"/system_prompt", "space")
        await paste_into(pilot, long("mind @README.md and /new"))
        await pilot.press("enter")
        await until(pilot, lambda: screen.session.generation.system_prompt)
        assert screen.session.generation.system_prompt == long("mind @README.md and /new")


# Files that were meant


async def test_an_at_typed_within_a_paste_names_a_file(tmp_path: Path, folder: Path) -> None:
    app = outrider(tmp_path, main=QUICK, draft="lookup")
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        sent = asked_of(app)
        await paste_into(pilot, "see README.md and @property")
        for _ in range(len("README.md and @property")):
            await pilot.press("left")
        await pilot.press("@")
        await until(pilot, lambda: "▤ README.md" in text(app))
        assert "▤ property" not in text(app)
        await pilot.press("end", "escape", "enter")
        await until(pilot, lambda: sent and screen.phase == "ready")
        content = sent[0].messages[-1].content
        assert content.startswith("see @README.md and @property\n\nFile `README.md`:")
        assert content.count("SECRET") == 1
        assert "▤ README.md  1 line" in text(app)
        assert not screen.panel.has_class("-files")
    (kept,) = stored(tmp_path)
    assert [each.name for each in kept.turns[0].files] == ["README.md"]
    assert kept.turns[0].text == content


async def test_a_forged_file_stays_as_it_was_written(tmp_path: Path, folder: Path) -> None:
    forged = "look:\n\nFile `/etc/shadow`:\n```\nroot:x\n```\nend"
    app = outrider(tmp_path, main=QUICK, draft="lookup")
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        await send(pilot, forged)
        assert "▤" not in text(app) and "root:x" in text(app)
        await pilot.press("tab", "up", "e")
        await until(pilot, lambda: screen.panel.composer.prompt == forged)


async def test_what_was_written_again_names_its_files_and_no_others(tmp_path: Path, folder: Path) -> None:
    app = outrider(tmp_path, main=QUICK, draft="lookup")
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        sent = asked_of(app)
        await pilot.press(*"see @property", "space", "escape")
        await paste_into(pilot, "and @README.md")
        await pilot.press("enter")
        await until(pilot, lambda: sent and screen.phase == "ready")
        await pilot.press("tab", "up", "e")
        await until(pilot, lambda: screen.panel.composer.prompt == "see @property and @README.md")
        assert "▤ property" in text(app) and "▤ README.md" not in text(app)
        await pilot.press("!", "enter")
        await until(pilot, lambda: len(sent) == 2 and screen.phase == "ready")
        assert "File `property`" in sent[1].messages[-1].content
        assert "File `README.md`" not in sent[1].messages[-1].content


@pytest.mark.parametrize("name", ["~/.netrc", "../outside.txt", ".env", "link"])
async def test_a_file_that_may_not_be_meant_is_asked_about(tmp_path: Path, folder: Path, name: str) -> None:
    app = outrider(tmp_path, main=QUICK, draft="lookup")
    async with app.run_test(size=(80, 24)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        sent = asked_of(app)
        screen.panel.composer.insert(f"see @{name} now")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ConsentScreen))
        assert f"▤ {name}" in text(app)
        await pilot.press("enter", "enter")  # pressed twice it does not answer the question
        assert isinstance(app.screen, ConsentScreen)
        await pilot.press("n")
        await until(pilot, lambda: app.screen is screen)
        assert screen.panel.composer.text == f"see @{name} now" and not sent
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ConsentScreen))
        await pilot.press("y")
        await until(pilot, lambda: sent and screen.phase == "ready")
        assert "SECRET" in sent[0].messages[-1].content


async def test_every_file_for_a_host_is_asked_about(tmp_path: Path, folder: Path) -> None:
    app = Outrider(
        settings=Settings(models=Models(QUICK, "lookup"), generation=Generation(seed=7)),
        places=places_in(tmp_path),
        engine=(sys.executable, "-m", "tui", "engine"),
        host=Host("gpu", "gpu"),
    )
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        sent = asked_of(app)
        screen.panel.composer.insert("see @README.md")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ConsentScreen))
        assert "for gpu" in text(app)
        await pilot.press("escape")
        assert not sent


async def test_all_files_stand_by_name_before_enter(tmp_path: Path, folder: Path) -> None:
    app = outrider(tmp_path, main=QUICK, draft="lookup")
    async with app.run_test(size=(80, 24)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        screen.panel.composer.insert("@README.md @property @link @tests @gone.txt")
        await pilot.pause()
        shown = text(app)
        assert all(f"▤ {name}" in shown for name in ("README.md", "property", "link"))
        assert "outside this folder" in shown
        assert "▤ tests" not in shown and "▤ gone" not in shown
        screen.panel.composer.clear()
        await until(pilot, lambda: not screen.panel.has_class("-files"))


# A folded paste is one unit

FOLDED = "\n".join(f"line {number}" for number in range(40))
LABEL = "[paste 1: 40 lines]"


async def test_one_backspace_takes_out_a_folded_paste_and_undo_brings_it_back() -> None:
    app = Desk()
    async with app.run_test() as pilot:
        await pilot.press("a")
        await paste(pilot, FOLDED)
        await pilot.press("b", "left", "backspace")
        assert app.composer.text == "ab"
        await pilot.press("ctrl+underscore")
        assert app.composer.text == f"a{LABEL}b" and app.composer.prompt == f"a{FOLDED}b"


@pytest.mark.parametrize(
    "keys",
    [
        ("backspace",), ("ctrl+w",), ("left", "delete"), ("left", "alt+delete"), ("shift+left", "backspace"),
        ("ctrl+left", "delete"), ("home", "ctrl+k"), ("ctrl+u",),
    ],
    ids="-".join,
)  # fmt: skip
async def test_no_edit_leaves_a_piece_of_a_folded_paste(keys: tuple[str, ...]) -> None:
    app = Desk()
    async with app.run_test() as pilot:
        await paste(pilot, FOLDED)
        await pilot.press(*keys)
        assert app.composer.text in ("", LABEL), "all of it or nothing"
        assert app.composer.prompt in ("", FOLDED)
        assert app.composer.text == ""


async def test_the_cursor_steps_over_a_folded_paste() -> None:
    app = Desk()
    async with app.run_test() as pilot:
        await pilot.press("a")
        await paste(pilot, FOLDED)
        await pilot.press("left", "x", "right", "y")
        assert app.composer.text == f"ax{LABEL}y"
        await pilot.press("enter")
        assert app.sent == [f"ax{FOLDED}y"]


async def test_random_keys_leave_folded_pastes_whole() -> None:
    draw = random.Random(9)
    moves = ["left", "right", "up", "down", "home", "end", "ctrl+left", "shift+left", "shift+right"]
    edits = ["backspace", "delete", "ctrl+w", "ctrl+underscore", "ctrl+y", "ctrl+k", "ctrl+u", "ctrl+j", "x"]
    app = Desk()
    async with app.run_test() as pilot:
        for _ in range(8):
            await paste(pilot, FOLDED)
            await pilot.press(*(draw.choice(moves + edits) for _ in range(12)))
            whole = re.sub(r"\[paste \d+: 40 lines\]", "", app.composer.text)
            assert set(whole) <= set("x \n"), "no piece of a mark is left"
            marks = app.composer.text.count("[")
            assert app.composer.prompt.count("line 39") == marks


async def test_a_last_line_break_is_no_line() -> None:
    app = Desk()
    async with app.run_test() as pilot:
        await paste(pilot, FOLDED + "\n")
        assert app.composer.text == LABEL and app.composer.prompt == FOLDED + "\n"


async def test_what_spells_a_mark_is_text() -> None:
    app = Desk()
    async with app.run_test() as pilot:
        await paste(pilot, FOLDED)
        await pilot.press("enter")
        app.composer.insert(LABEL)
        await paste(pilot, LABEL)
        await pilot.press("enter")
        assert app.sent == [FOLDED, LABEL + LABEL]
        await pilot.press("up", "up", "enter")
        assert app.sent[2] == FOLDED, "an earlier prompt has its paste"


async def test_a_copied_mark_is_the_paste() -> None:
    app = Desk()
    async with app.run_test() as pilot:
        await pilot.press("a")
        await paste(pilot, FOLDED)
        await pilot.press("shift+home", "ctrl+c")
        assert app.clipboard == "a" + FOLDED
        await pilot.press("end", "ctrl+v")
        assert app.composer.prompt == "a" + FOLDED + "a" + FOLDED


async def test_what_is_cut_is_what_was_pasted() -> None:
    app = Desk()
    async with app.run_test() as pilot:
        await paste(pilot, "see @x and /y\u2028")
        await pilot.press("ctrl+x")
        assert (app.clipboard, app.composer.text) == ("see @x and /y\u2028", "")
        await pilot.press("ctrl+v", "!", "enter")
        assert app.sent == ["see @x and /y\u2028!"]


# Every character


def unicode_strings(draw: random.Random) -> Iterator[str]:
    """Text of all scripts, with joiners, selectors, direction marks, tags and spaces of every kind in it."""
    letters = [chr(code) for code in range(0x20, 0x110000) if unicodedata.category(chr(code))[0] in "LMNPSZ"]
    special = [
        chr(code)
        for code in range(0x110000)
        if unicodedata.category(chr(code)) in ("Cf", "Zl", "Zp", "Zs", "Co")
    ]
    special = [char for char in special if char < "\U000f0000" or draw.random() < 0.001]
    selectors = [*map(chr, range(0xFE00, 0xFE10)), *map(chr, range(0xE0100, 0xE01F0))]
    while True:
        start = draw.randrange(len(letters))
        script = letters[start : start + 60]
        pool = draw.choice([script, script, letters])
        size = draw.randint(1, 24)
        found = [draw.choice(draw.choice([pool, pool, pool, special, selectors])) for _ in range(size)]
        if draw.random() < 0.1:
            found.insert(draw.randint(0, size), "\n")
        if "".join(found).strip():
            yield "".join(found)


async def test_every_character_goes_all_the_way(tmp_path: Path, turns: int = 12, each: int = 25) -> None:
    app = outrider(tmp_path, main=QUICK, draft="lookup")
    copied: list[str] = []
    source = unicode_strings(random.Random(10))
    said = []
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        app.copy_to_clipboard = copied.append  # type: ignore[method-assign, assignment]
        await until(pilot, lambda: screen.phase == "ready")
        sent = asked_of(app)
        for number in range(turns):
            said.append("\n".join(next(source) for _ in range(each)))
            await send(pilot, said[-1])
            assert sent[-1].messages[-1].content == said[-1]
            screen.actions.want("copy", screen.session.conversation.path[-2])
            assert copied[-1] == said[-1]
            if number % 8 == 7:
                await pilot.press("ctrl+n")
                await until(pilot, lambda: not screen.session.conversation.path)
    kept = stored(tmp_path)
    assert {turn.text for chat in kept for turn in chat.turns if turn.role == "user"} == set(said)
    markdown = "".join(map(as_markdown, kept))
    assert all(words.strip("\n") in markdown for words in said)


async def test_every_character_is_typed(tmp_path: Path) -> None:
    app = Desk()
    source = unicode_strings(random.Random(11))
    async with app.run_test() as pilot:
        from tui.terminal.keyboard import KeyboardParser, mend

        mend()
        for _ in range(40):
            words = next(source).replace("\n", "")
            if not words.strip():
                continue
            for event in KeyboardParser().feed(words):
                app.composer.post_message(event)
            await until(pilot, lambda words=words: app.composer.prompt == words)
            await pilot.press("enter")
            assert app.sent.pop() == words
