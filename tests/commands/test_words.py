"""What is typed behind `outrider`: a question needs no command, and a mistyped word is not asked."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tui.__main__ import _arguments


def understood(line: str) -> tuple[str | None, list[str]]:
    found = _arguments(shlex.split(line))
    return found.command, getattr(found, "prompt", [])


def rejected(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said of a command line that is not run, in its one line."""
    with pytest.raises(SystemExit) as ended:
        _arguments(shlex.split(line))
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1
    return told.err


@pytest.mark.parametrize(
    ("line", "prompt"),
    [
        ('"What is a draft?"', ["What is a draft?"]),
        ("hello", ["hello"]),
        ("what is a draft", ["what", "is", "a", "draft"]),
        ('--main x "a question"', ["a question"]),
        ("--seed 3 --json --main=x why", ["why"]),
        ("--json why", ["why"]),
        ("why --json --temperature 0", ["why"]),
        ("--temperature 0 why", ["why"]),
        ("-- --json is what", ["--json", "is", "what"]),
        ("help me with python", ["help", "me", "with", "python"]),
        ("list three rivers", ["list", "three", "rivers"]),
        ("task me with something hard", ["task", "me", "with", "something", "hard"]),
        ('"Is /etc/passwd a file?"', ["Is /etc/passwd a file?"]),
    ],
)
def test_a_question_needs_no_command(line: str, prompt: list[str]) -> None:
    assert understood(line) == ("ask", prompt)


def test_options_before_and_behind_a_question_hold() -> None:
    found = _arguments(shlex.split('--main x --seed 3 "a question" --json'))
    assert (found.command, found.main, found.seed, found.json) == ("ask", "x", 3, True)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("", None),
        ("--main x", None),
        ("--continue", None),
        ("--continue quicksort", None),
        ("models llama", "models"),
        ("ask models", "ask"),
        ("--main x bench --quick", "bench"),
        ("engine", "engine"),
    ],
)
def test_commands_and_the_chat_stay_what_they_are(line: str, command: str | None) -> None:
    assert understood(line)[0] == command


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("askk", "outrider ask"),
        ('askk "a question"', "outrider ask"),
        ("docter", "outrider doctor"),
        ("model llama", "outrider models"),
        ("Bench", "outrider bench"),
        ("histroy", "outrider history"),
        ("help", "outrider --help"),
        ("list", "outrider models"),
        ("run llama", "outrider --main MODEL"),
        ("chat", "outrider"),
        ("download x/y", "outrider pull MODEL"),
    ],
)
def test_what_is_like_a_command_is_not_asked(
    line: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = rejected(line, capsys)
    assert f"`{meant}`" in said
    assert f'outrider ask "{shlex.split(line)[0]}"' in said, "how to ask it all the same"


def test_an_empty_question_is_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    """As of a shell's variable that is not set."""
    said = rejected('""', capsys)
    assert "the question is empty" in said and "folder" not in said


def test_a_file_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "folder").mkdir()
    assert "notes.txt is a file" in rejected("notes.txt", capsys)
    assert "outrider --main folder" in rejected("folder", capsys)
    assert "outrider --main gone.gguf" in rejected("gone.gguf", capsys)
    assert understood("notes") == ("ask", ["notes"])
    assert understood("notes.txt says what")[0] == "ask"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--contine", "--contine is not known here; did you mean --continue? `outrider --help`"),
        ("ask --tempreature 1 x", "did you mean --temperature? `outrider ask --help`"),
        ("bench --qiuck", "did you mean --quick?"),
        ("ask --main", "argument --main: expected one argument. `outrider ask --help`"),
        ("--zzz", "--zzz is not known here. `outrider --help`"),
    ],
)
def test_a_wrong_option_is_one_line_with_what_was_meant(
    line: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in rejected(line, capsys)


def test_a_question_is_answered_without_a_command(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "tui", "--main", "scripted:echo", "--draft", "none", "say these words"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"XDG_CONFIG_HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)},
    )
    assert told.returncode == 0
    assert "say these words" in told.stdout
