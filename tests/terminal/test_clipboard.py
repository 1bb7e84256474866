"""A copy goes where it can be pasted from, and it is said where that is."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.terminal import Terminal
from tui.terminal import clipboard

TEXT = "Grüße,\n\tand 'quotes' $(id)\n"


def tool(folder: Path, name: str, status: int = 0) -> Path:
    """A program that keeps what it is given, and ends so."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\ncat > {folder / name}.got\nexit {status}\n")
    (folder / name).chmod(0o755)
    return folder / f"{name}.got"


def test_the_desktops_own_tool_comes_first_and_the_next_one_where_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool(tmp_path / "bin", "xclip", 1)
    got = tool(tmp_path / "bin", "xsel")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert clipboard.give(TEXT, clipboard.ways({"DISPLAY": ":0"}))
    assert got.read_text() == TEXT


@pytest.mark.parametrize(
    ("name", "environ", "coding"),
    [
        ("clip.exe", {"WSL_DISTRO_NAME": "Ubuntu"}, "utf-16"),
        ("wl-copy", {"WAYLAND_DISPLAY": "w"}, "utf-8"),
        ("pbcopy", {"HOME": "/x"}, "utf-8"),
    ],
)
def test_each_tool_is_given_the_coding_that_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, environ: dict[str, str], coding: str
) -> None:
    got = tool(tmp_path / "bin", name)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    words = "å 中 ├ 😀 می\u200cخواهم plain"
    assert clipboard.give(words, clipboard.ways(environ, lambda each: name if each == name else None))
    data = got.read_bytes()
    assert data.decode(coding) == words
    assert data.startswith(b"\xff\xfe") == (coding == "utf-16"), "clip.exe wants little endian with its mark"


def test_over_ssh_the_desktop_is_another_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tmp_path / "bin", "xclip")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert list(clipboard.ways({"DISPLAY": ":0"})) == [[("xclip", "-selection", "clipboard")]]
    assert list(clipboard.ways({"DISPLAY": ":0", "SSH_CONNECTION": "1 2 3 4"})) == []
    assert not clipboard.give(TEXT, clipboard.ways({"SSH_CONNECTION": "1 2 3 4"}))


def test_in_tmux_it_is_in_the_buffer_besides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got = tool(tmp_path / "bin", "wl-copy")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    socket = str(tmp_path / "tmux")
    subprocess.run(["tmux", "-S", socket, "-f", "/dev/null", "new-session", "-d", "sleep 60"], check=True)
    try:
        monkeypatch.setenv("TMUX", f"{socket},1,0")
        assert clipboard.give(TEXT, clipboard.ways({"WAYLAND_DISPLAY": "w", "TMUX": socket}))
        shown = subprocess.run(
            ["tmux", "-S", socket, "show-buffer"], capture_output=True, text=True, check=True
        )
        assert shown.stdout == TEXT == got.read_text()
    finally:
        subprocess.run(["tmux", "-S", socket, "kill-server"], check=True)


@pytest.mark.parametrize(
    ("environ", "takes"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "xterm-kitty", "SSH_CONNECTION": "1 2 3 4"}, True),
        ({"TERM": "linux"}, False),
        ({"TERM": "screen", "STY": "1.pts"}, False),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, False),
        ({"TERM": "xterm-256color", "VTE_VERSION": "7600"}, False),
    ],
)
def test_osc_52_is_for_terminals_that_may_take_it(environ: dict[str, str], takes: bool) -> None:
    assert clipboard.takes_osc52(environ) == takes


@pytest.mark.parametrize("term", ["xterm-256color", "linux"])
def test_a_copied_answer_is_in_the_terminal_or_in_a_file(tmp_path: Path, term: str) -> None:
    env: dict[str, str | None] = {
        name: str(tmp_path) for name in ("HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")
    }
    env |= dict.fromkeys(("DISPLAY", "WAYLAND_DISPLAY", "VTE_VERSION", "STY", "TERM_PROGRAM"))
    command = [sys.executable, "-m", "tui", "--main", "scripted:echo", "--draft", "none"]
    with Terminal(command, env=env | {"TERM": term}) as terminal:
        terminal.wait(b"ready")
        terminal.send(b"one two three\r")
        terminal.wait(b"tok/s")
        terminal.send(b"/copy\r")
        if term == "linux":
            file = tmp_path / "outrider" / "copied.txt"
            terminal.wait(lambda: file.exists() and file.read_text())
            copied = file.read_text()
            assert file.stat().st_mode & 0o777 == 0o600
            terminal.wait(lambda: "There is no clipboard here" in terminal.screen())
        else:
            terminal.wait(b"Copied: ")
            copied = base64.b64decode(
                terminal.output.partition(b"\x1b]52;c;")[2].partition(b"\a")[0]
            ).decode()
        assert copied.strip() == "one two three"
        terminal.send(b"\x11")
        assert terminal.exit() == 0
