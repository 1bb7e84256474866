"""The two keys that every terminal program has: ctrl+c ends what runs, ctrl+z gives the terminal back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from textual.geometry import Offset
from textual.selection import Selection

from tests.support.chat import answered, ask, chat, outrider, stored, text, told, until
from tests.support.terminal import Terminal
from tui.app import Outrider
from tui.chat.draft_race import Lap
from tui.config import Keys, Settings
from tui.screens.history import HistoryScreen
from tui.screens.models import ModelsScreen
from tui.screens.race import RaceScreen

FAST = "scripted:sample?rate=2000&tokens=20"
CREEPING = "scripted:sample?rate=4&tokens=500"
"""It writes as long as a test needs."""
COMMAND = f"{sys.executable} -m tui --main scripted:sample?rate=40&tokens=5000 --draft none".split()
# A shell with job control in a few lines: it says when its job is stopped, and any line brings that back.
SHELL = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
job = subprocess.Popen(sys.argv[1:], process_group=0)
while True:
    os.tcsetpgrp(0, job.pid)
    os.killpg(job.pid, signal.SIGCONT)
    _, status = os.waitpid(job.pid, os.WUNTRACED)
    os.tcsetpgrp(0, os.getpgrp())
    if not os.WIFSTOPPED(status):
        sys.exit(os.waitstatus_to_exitcode(status))
    print("JOB-IS-STOPPED", flush=True)
    sys.stdin.readline()
"""

STOPPED = b"JOB-IS-STOPPED\r\n"


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has no settings."""
    return {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}


async def answering(pilot: Any) -> None:
    screen = chat(pilot.app)
    await until(pilot, lambda: screen.phase == "ready")
    await ask(pilot, "one")
    await until(pilot, lambda: screen.phase == "answering")


# ctrl+c


async def test_ctrl_c_stops_the_answer_and_then_says_how_to_quit(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=CREEPING)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await answering(pilot)
        screen.panel.composer.insert("typed meanwhile")
        await pilot.press("ctrl+c")
        await until(pilot, lambda: screen.phase == "ready")
        last = screen.session.conversation.last
        assert last is not None and last.ending == "cancelled"
        assert "quits" not in told(app)
        await pilot.press("ctrl+c")
        await until(pilot, lambda: "Ctrl+Q quits." in told(app))
        assert screen.panel.composer.text == "typed meanwhile"


async def test_ctrl_c_names_the_key_that_quits_here(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=FAST)
    app._settings = Settings(models=app._settings.models, keys=Keys(bound=(("app.quit", "f10"),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        await pilot.press("ctrl+c")
        await until(pilot, lambda: "F10 quits." in told(app))
        assert "Ctrl+Q" not in told(app)


async def test_ctrl_c_copies_before_it_stops(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=CREEPING)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await answering(pilot)
        screen.panel.composer.insert("these words")
        await pilot.press("shift+home", "ctrl+c")
        await until(pilot, lambda: app.clipboard == "these words")
        assert screen.phase == "answering"
        await pilot.press("end")
        screen.selections = {screen.panel.transcript: Selection(Offset(0, 0), Offset(99, 0))}
        await pilot.press("ctrl+c")
        await until(pilot, lambda: app.clipboard == "one")
        assert screen.phase == "answering"
        await pilot.press("ctrl+c")
        await until(pilot, lambda: screen.phase == "ready")


async def test_ctrl_c_on_another_screen_stops_what_the_engine_does(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=CREEPING)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await answering(pilot)
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen))
        await pilot.press("ctrl+c")
        await until(pilot, lambda: screen.phase == "ready")
        assert isinstance(app.screen, HistoryScreen) and "Stopped." in told(app)
        await pilot.press("escape", "ctrl+r")
        await until(pilot, lambda: isinstance(app.screen, RaceScreen) and app.screen._coming)
        await pilot.press("ctrl+c")
        await until(pilot, lambda: app.screen is screen)
        await pilot.press("ctrl+l")
        await until(pilot, lambda: isinstance(app.screen, ModelsScreen))
        models = app.screen
        assert isinstance(models, ModelsScreen)
        models._race._show(Lap("a draft", 0.5, "prompt 1 of 3"))
        await pilot.press("ctrl+c")
        await until(pilot, lambda: models._race.lap is None)
        assert app.screen is models


# ctrl+z


def states_of_job(terminal: Terminal) -> list[str]:
    """The states of the processes in the shell's job. The engine has a session of its own."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "ppid=,pid=,pgid=,stat="], capture_output=True, text=True
    ).stdout
    processes = [line.split() for line in listed.splitlines()]
    (job,) = {pid for parent, pid, _, _ in processes if int(parent) == terminal.pid}
    return [state for _, _, group, state in processes if group == job]


def test_ctrl_z_gives_the_terminal_to_the_shell_and_fg_brings_everything_back(home: dict[str, str]) -> None:
    """The job is a shell that waits for the app, as `make run` does: it is stopped too."""
    job = ["sh", "-c", '"$@"; exit $?', "job", *COMMAND]
    with Terminal([sys.executable, "-c", SHELL, *job], env=home) as terminal:
        terminal.wait(lambda: "● ready" in terminal.screen())
        terminal.send(b"a story\r")
        terminal.wait(lambda: "● answering" in terminal.screen())
        terminal.send(b"half a prompt")
        terminal.wait(lambda: "half a prompt" in terminal.screen())
        for _ in range(2):
            terminal.send(b"\x1a")
            begin = len(terminal.output)
            terminal.wait(lambda begin=begin: STOPPED in terminal.output[begin:])  # type: ignore[misc]
            left = bytes(terminal.output[begin:]).partition(STOPPED)[0]
            assert b"\x1b[?1049l" in left and b"\x1b[?25h" in left
            terminal.wait(lambda: all(state.startswith("T") for state in states_of_job(terminal)))
            terminal.drain()
            after = bytes(terminal.output[begin:]).partition(STOPPED)[2]
            assert after == b"", "an app that is suspended draws nothing"
            begin = len(terminal.output)
            terminal.send(b"fg\n")
            for words in ("half a prompt", "● answering", "Speed now", "Quit"):
                terminal.wait(lambda words=words, begin=begin: words in terminal.screen(begin))  # type: ignore[misc]
        terminal.send(b"!")
        terminal.wait(lambda: "half a prompt!" in terminal.screen())
        terminal.send(b"\x11")
        assert terminal.exit() == 0


def test_ctrl_z_without_a_shell_says_so_and_goes_on(home: dict[str, str]) -> None:
    with Terminal(COMMAND, env=home) as terminal:
        terminal.wait(lambda: "● ready" in terminal.screen())
        terminal.send(b"\x1a")
        terminal.wait(lambda: "Nothing to go back to" in terminal.screen())
        terminal.send(b"still here")
        terminal.wait(lambda: "still here" in terminal.screen())
        terminal.send(b"\x11")
        assert terminal.exit() == 0


async def test_ctrl_z_takes_a_deletion_back_where_the_footer_says_so(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=FAST)
    async with app.run_test(size=(120, 40)) as pilot:
        await answered(pilot, "one")
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(app.screen, HistoryScreen) and "1 " in text(app))
        await until(pilot, lambda: "Chats  1" in text(app))
        await pilot.press("ctrl+x")
        await until(pilot, lambda: "Chats  0" in text(app))
        await pilot.press("ctrl+z")
        await until(pilot, lambda: "Chats  1" in text(app))
    assert [each.title for each in stored(tmp_path)] == ["one"]


async def test_what_was_typed_is_undone_by_a_key_of_its_own(tmp_path: Path) -> None:
    app: Outrider = outrider(tmp_path, main=FAST)
    async with app.run_test(size=(120, 40)) as pilot:
        composer = chat(app).panel.composer
        await until(pilot, lambda: composer.has_focus)
        await pilot.press(*"word")
        await pilot.press("ctrl+z")
        assert composer.text == "word"
        await pilot.press("ctrl+underscore")
        assert composer.text == ""
