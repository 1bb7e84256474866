"""The person's own editor has the terminal to itself, the engine goes on, and the text comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.chat import chat, outrider, parts_written, places_in, until
from tests.support.paths import ROOT
from tests.support.terminal import Terminal, python
from tui.screens.editor import EditorFailed, command

APP = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.support.chat import outrider
outrider(Path(sys.argv[2]), main="scripted:sample?rate=20&tokens=5000", draft="lookup").run()
"""
EDITOR = """#!/bin/sh
echo EDITOR-IS-OPEN
until [ -e "$0.closes" ]; do sleep 0.05; done
printf ' and more' >> "$1"
echo EDITOR-IS-DONE
exit {status}
"""


def app_with(folder: Path, status: int) -> Terminal:
    editor = folder / "editor"
    editor.write_text(EDITOR.format(status=status))
    editor.chmod(0o700)
    return python(APP, str(ROOT), str(folder), rows=30, columns=100, env={"VISUAL": str(editor)})


def test_the_editor_is_alone_on_the_terminal_while_an_answer_comes(tmp_path: Path) -> None:
    with app_with(tmp_path, 0) as terminal:
        terminal.wait(b"ready")
        terminal.send(b"go on\r")
        terminal.wait(b"answering")
        terminal.send(b"half a thought")
        terminal.wait(lambda: "half a thought" in terminal.screen())
        terminal.send(b"\x1b[19~")
        terminal.wait(b"EDITOR-IS-OPEN\r\n")
        before = parts_written(places_in(tmp_path).chats)
        terminal.wait(lambda: parts_written(places_in(tmp_path).chats) > before + 2)  # the answer goes on
        (tmp_path / "editor.closes").touch()
        terminal.wait(b"EDITOR-IS-DONE")
        meanwhile = terminal.output.partition(b"EDITOR-IS-OPEN\r\n")[2].partition(b"EDITOR-IS-DONE")[0]
        assert meanwhile == b"", "nothing of the app's reached the terminal"
        terminal.wait(lambda: "half a thought and more" in terminal.screen())
        terminal.wait(lambda: "answering" in terminal.screen())
        terminal.send(b"\x11")
        assert terminal.exit() == 0


def test_an_editor_that_fails_leaves_the_text_as_it_was(tmp_path: Path) -> None:
    with app_with(tmp_path, 3) as terminal:
        terminal.wait(b"ready")
        (tmp_path / "editor.closes").touch()
        terminal.send(b"precious\x1b[19~")
        terminal.wait(b"EDITOR-IS-DONE")
        # The path of the editor has any length, so the message may break between any two words.
        terminal.wait(lambda: any(two in terminal.screen() for two in ("ended with", "status 3")))
        assert "precious" in terminal.screen()
        assert "and more" not in terminal.screen()


def test_which_editor_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert command({"VISUAL": "code --wait", "EDITOR": "vi"}) == ["code", "--wait"]
    assert command({"EDITOR": "emacs -nw"}) == ["emacs", "-nw"]
    with pytest.raises(EditorFailed, match="cannot be read"):
        command({"EDITOR": "vi '"})
    monkeypatch.setattr(
        "tui.screens.editor.shutil.which", lambda name: "/usr/bin/vi" if name == "vi" else None
    )
    assert command({}) == ["vi"]
    monkeypatch.setattr("tui.screens.editor.shutil.which", lambda name: None)
    with pytest.raises(EditorFailed, match="no editor"):
        command({})


async def test_where_the_terminal_cannot_be_handed_over_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISUAL", "true")
    app = outrider(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        chat(app).panel.composer.insert("kept")
        await pilot.press("f8")

        def said() -> Any:
            return any("handed over" in str(each.message) for each in app._notifications)

        await until(pilot, said)
        assert chat(app).panel.composer.text == "kept"
