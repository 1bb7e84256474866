"""The command line: instant help, one line for each failure, and no module where it has no business."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests.support.imports import ENGINE_ONLY, loaded_after, modules
from tui.__main__ import _arguments
from tui.commands.options import parser

APP_ONLY = {
    "textual",
    "rich",
    "tui.app",
    "tui.screens",
    "tui.widgets",
    "tui.chat",
    "tui.client",
    "tui.themes",
    "tui.config",
    "tui.store",
    "tui.clean",
}
HEAVY = {"textual", "rich", "asyncio", "sqlite3", "tui.app", "platformdirs", "tomllib", "logging", "msgspec"}


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tui", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | environ,
    )


@pytest.mark.parametrize("arguments", [["--help"], ["ask", "--help"], ["doctor", "--help"], ["--version"]])
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    code = f"from tui.__main__ import main\ntry: main({arguments})\nexcept SystemExit as e: assert not e.code"
    assert not loaded_after(code) & (ENGINE_ONLY | HEAVY)


def test_the_chat_reaches_its_first_frame_before_anything_heavy_is_imported() -> None:
    code = "from tui.commands import chat\nchat.run = lambda arguments: 0\n"
    code += "from tui.__main__ import main\nmain([])"
    assert not loaded_after(code) & (ENGINE_ONLY | HEAVY | {"argparse"})


def test_the_chat_paints_before_it_imports_what_only_comes_later() -> None:
    """Other screens, the writing of chats, the death of an engine."""
    later = {
        "tui.screens.models",
        "tui.screens.history",
        "tui.store.store",
        "tui.client.exit_reason",
        "email",
    }
    assert not loaded_after("import tui.app") & later


def test_a_command_line_that_says_nothing_is_read_as_the_parser_would() -> None:
    assert vars(_arguments([])) == vars(parser().parse_args([]))


def test_the_app_side_never_imports_the_engine() -> None:
    names = modules(
        *("*.py", "commands/**/*.py", "config/*.py", "client/*.py", "screens/*.py", "widgets/**/*.py"),
        *("store/*.py", "terminal/*.py", "chat/*.py"),
    )
    assert {"tui.client.engine", "tui.commands.ask", "tui.commands.doctor", "tui.config.file"} <= set(names)
    assert not loaded_after("import " + ", ".join(names)) & (ENGINE_ONLY - {"jinja2"})


def test_the_engine_side_never_imports_the_app() -> None:
    # The worker takes its first argument for a folder of modules when it is imported.
    found = modules("engine/**/*.py")
    names = [name for name in found if name != "tui.engine.answer.template_worker"]
    assert {"tui.engine.server", "tui.engine.machine.hardware", "tui.engine.backends.llama_cpp"} <= set(names)
    assert not loaded_after("import " + ", ".join(names)) & APP_ONLY


def test_no_grammar_is_prepared_for_before_one_is_asked_for() -> None:
    code = "import tui.engine.server, tui.engine.session, tui.engine.backends.llama_cpp"
    assert not {"llguidance", "tui.engine.backends.constraint"} & loaded_after(code)


def test_help_says_what_can_be_done() -> None:
    told = run("--help")
    assert (told.returncode, told.stderr) == (0, "")
    for word in ("ask", "doctor", "--main", "--draft", "--draft-length", "--seed", "--theme", "exit codes"):
        assert word in told.stdout
    assert "examples:" in run("ask", "--help").stdout


def test_the_version_is_that_of_the_distribution() -> None:
    told = f"outrider {metadata.version('outrider')}\n"
    assert run("--version").stdout == told
    assert run("--version", "ask").stdout == told, "argparse says the same"


def test_the_version_is_told_without_a_parser() -> None:
    assert "argparse" not in loaded_after("from tui.__main__ import main\nassert not main(['--version'])")


@pytest.mark.parametrize("wrong", [["--nonsense"], ["askk"], ["--draft-length", "17"], ["--seed", "-1"]])
def test_wrong_usage_ends_with_two(wrong: list[str]) -> None:
    told = run(*wrong)
    assert told.returncode == 2
    assert told.stdout == ""
    assert "Traceback" not in told.stderr


def test_the_chat_without_a_terminal_says_so_in_one_line() -> None:
    told = run()
    assert told.returncode == 2
    assert told.stderr.startswith("outrider: ")
    assert told.stderr.count("\n") == 1


def test_the_engine_ends_when_nobody_speaks_to_it() -> None:
    told = run("engine")
    assert told.returncode == 0
    assert told.stdout.startswith('{"type":"hello"')


def test_a_missing_package_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "platformdirs.py").write_text("raise ModuleNotFoundError('x', name='platformdirs')")
    told = run("doctor", PYTHONPATH=os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", ""))))
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.startswith("outrider: platformdirs is not installed")
    assert told.stderr.count("\n") == 1


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]])
def test_closed_streams_lead_nowhere(closed: list[int]) -> None:
    """A daemon may start us so. Nothing that is opened later takes their place."""
    code = (
        f"import os, sys; [os.close(each) for each in {closed}]; "
        "os.execv(sys.executable, [sys.executable, '-m', 'tui', 'ask', '--main', 'scripted:echo', 'hi'])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    assert ran.returncode == 0
    assert ran.stdout.strip() == (b"" if 1 in closed else b"hi")
    assert b"Traceback" not in ran.stderr
