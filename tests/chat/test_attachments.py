"""Files by @path: what is found, what is rejected and why, what the model is given and what is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.chat import ask, chat, outrider, stored, text, told, until
from tui.chat import attachments
from tui.chat.attachments import File, NotAttached
from tui.store import Turn


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "work"
    (place / "src").mkdir(parents=True)
    (place / "notes.txt").write_text("one\ntwo\n")
    (place / "my file.md").write_text("```\ncode\n```\n")
    (place / ".hidden").write_text("x")
    (place / "src" / "main.py").write_bytes(b"\xef\xbb\xbfprint()\r\n")
    (place / "picture.png").write_bytes(b"\x89PNG\x00\xff")
    (place / "zeros").write_bytes(b"a\0b")
    (place / "big.txt").write_bytes(b"x" * (attachments.MOST + 1))
    return place


@pytest.mark.parametrize(
    ("prompt", "names"),
    [
        ("see @notes.txt", ["notes.txt"]),
        ("see @notes.txt, please", ["notes.txt"]),
        ('both @"my file.md" and @src/main.py', ["my file.md", "src/main.py"]),
        ("@notes.txt @notes.txt", ["notes.txt"]),
        ("mail me@notes.txt", []),
        ("@someone said @", []),
    ],
)
def test_the_files_of_a_prompt_are_found(folder: Path, prompt: str, names: list[str]) -> None:
    assert [file.name for file in attachments.files_of(prompt, folder)] == names


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("src", "is a folder"),
        ("picture.png", "is not text"),
        ("zeros", "is not text"),
        ("big.txt", "larger than 1 MB"),
        ("pipe", "is not a file"),
    ],
)
def test_what_is_no_text_is_rejected_with_the_reason(folder: Path, name: str, why: str) -> None:
    if name == "pipe":
        import os

        os.mkfifo(folder / "pipe")
    with pytest.raises(NotAttached, match=why):
        attachments.files_of(f"look at @{name}", folder)


def test_a_path_that_is_nowhere_is_named_and_a_word_is_not(folder: Path) -> None:
    hostile = f"@{'x' * 5000} @~nobody/x @a\0b"
    assert attachments.files_of(hostile, folder) == []
    assert attachments.missing("@gone.txt @src/gone @someone @notes.txt.", folder) == ["gone.txt", "src/gone"]


def test_the_model_gets_the_text_and_the_prompt_comes_back_as_it_was_typed(folder: Path) -> None:
    prompt = 'compare @"my file.md" with @src/main.py'
    files = attachments.files_of(prompt, folder)
    whole, attached = attachments.with_files(prompt, files)
    turn = Turn("k", "", "user", whole, files=attached)
    assert "File `my file.md`:\n````md\n```\ncode\n```\n````" in whole, "the fence is longer than any in it"
    assert "File `src/main.py`:\n```py\nprint()\n```" in whole
    assert attachments.typed(turn) == prompt
    assert attachments.names(turn) == ["my file.md", "src/main.py"]
    assert attachments.folded(turn) == f"{prompt}\n\n▤ my file.md  3 lines\n\n▤ src/main.py  1 line"
    whole, attached = attachments.with_files("x", [File("e", "")])
    empty = Turn("k", "", "user", whole, files=attached)
    assert attachments.folded(empty) == "x\n\n▤ e  0 lines" and attachments.typed(empty) == "x"


def test_text_that_looks_like_a_file_is_text(folder: Path) -> None:
    forged, _ = attachments.with_files("look:", attachments.files_of("@notes.txt", folder))
    turn = Turn("k", "", "user", forged)
    assert attachments.folded(turn) == attachments.typed(turn) == forged
    assert attachments.names(turn) == []


def test_files_that_may_not_be_meant_are_doubted(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "outside.txt").write_text("x")
    (tmp_path / ".netrc").write_text("x")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("x")
    (folder / "link").symlink_to(tmp_path / ".netrc")
    (folder / ".link").symlink_to(folder / "notes.txt")
    doubts = {
        "notes.txt": "",
        "src/main.py": "",
        "src/../notes.txt": "",
        f"../{folder.name}/notes.txt": "",
        str(folder / "notes.txt"): "",
        ".hidden": "hidden",
        ".link": "hidden",
        ".git/config": "hidden",
        "../outside.txt": "outside this folder",
        str(tmp_path / "outside.txt"): "outside this folder",
        "link": "outside this folder, hidden",
        "../.netrc": "outside this folder, hidden",
    }
    found = attachments.files_of(" ".join(f"@{name}" for name in doubts), folder)
    assert {each.name: each.doubt for each in found} == doubts


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("see @", ["@src/", "@big.txt ", '@"my file.md" ', "@notes.txt ", "@picture.png ", "@zeros "]),
        ("@no", ["@notes.txt "]),
        ("@NO", ["@notes.txt "]),
        ("@.h", ["@.hidden "]),
        ("@src/", ["@src/main.py "]),
        ('@"my f', ['@"my file.md" ']),
        ("see @notes.txt and", []),
        ("me@no", []),
        ("@gone/", []),
        ("@~nobody/x", []),
    ],
)
def test_paths_are_completed(folder: Path, typed: str, words: list[str]) -> None:
    found = attachments.suggestions(typed, folder)
    assert [each.text for each in found] == words
    for each in found:
        assert typed[len(typed) - each.replaces :].startswith("@")


async def test_in_the_chat_a_file_is_completed_counted_sent_and_folded(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    app = outrider(tmp_path, main="scripted:echo")
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        composer = screen.panel.composer
        await pilot.press(*"see @no")
        await until(pilot, lambda: screen.panel.suggestions.is_open)
        await pilot.press("tab")
        assert composer.text == "see @notes.txt "
        await until(pilot, lambda: "notes.txt" in text(app) and "tokens ─" in text(app))
        await pilot.press("enter")
        await until(pilot, lambda: screen.phase == "ready" and len(screen.panel.transcript.messages) == 2)
        assert "▤ notes.txt  2 lines" in text(app)
        assert "one\ntwo" in screen.panel.transcript.writer.text_of(1), "the model was given the text"
        await pilot.press("tab", "up", "e")
        await until(pilot, lambda: composer.text == "see @notes.txt ")
        await pilot.press("escape")
        await ask(pilot, "look at @picture.png")
        await until(pilot, lambda: "picture.png is not text" in told(app))
        assert composer.text == "look at @picture.png", "nothing was sent"
        composer.clear()
        await ask(pilot, "@gone.txt?")
        await until(pilot, lambda: "There is no file gone.txt" in told(app))
        await until(pilot, lambda: screen.phase == "ready")
    (kept,) = stored(tmp_path)
    assert "File `notes.txt`" in kept.turns[0].text


async def test_a_file_that_the_context_cannot_hold_is_known_before_it_is_sent(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "long.txt").write_text("word " * 20_000)
    app = outrider(tmp_path, main="scripted:echo")
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        loaded = screen.session.connection.loaded
        assert loaded is not None
        await pilot.press(*"@long.txt ")
        await until(pilot, lambda: f"too many, the context holds {loaded.context_length:,}" in text(app))
        screen.panel.composer.clear()
        await pilot.press(*"@notes.txt ")
        await until(pilot, lambda: "tokens ─" in text(app) and "too many" not in text(app))
        screen.session.meter._context = loaded.context_length - 2
        await pilot.press("x")
        await until(pilot, lambda: "too many, 2 of the context are left" in text(app))
