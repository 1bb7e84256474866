"""Errors: one tree, drawn as it is; and each failure of the engine as a sentence with the next step."""

from __future__ import annotations

import ast
import builtins
import re
import subprocess
import sys
from collections.abc import Iterator
from errno import EACCES, ENOMEM
from pathlib import Path

import pytest

from tui import errors
from tui.client import EngineDied
from tui.commands import FAILED, USAGE, run
from tui.commands.options import parser
from tui.commands.setup import UsageError
from tui.config import ConfigError
from tui.engine.backends import ModelError
from tui.engine.library.gguf import BadModelFile
from tui.engine.sentences import MAKE_ROOM, failure
from tui.errors import OutriderError
from tui.protocol import Failed

ROOT = Path(__file__).parents[1]

PRIVATE = {
    "tui.engine.library.fetch.Unwanted": "ends a download that was given up",
    "tui.engine.library.fetch._Fault": "one try of a download failed",
    "tui.engine.library.fetch._TokenRejected": "carries an error past a second try",
    "tui.engine.speculation.loop.NoValidToken": "the heart imports no other module",
    "tui.engine.speculation.sampling.InvalidLogits": "the heart imports no other module",
    "tui.engine.answer.template_worker.TemplateRejected": "its process imports nothing of ours",
    "tui.engine.states.state_file.BadStateFile": "removes the file, and the prompt is read as usual",
    "tui.store.database.Newer": "opens the file for reading only",
    "tui.widgets.transcript.formulas._NotSimpleError": "shows a formula as it was written",
}
"""Exceptions outside of the tree: nobody sees them. Each with its reason."""

WALK = """
import importlib, sys
for module in sys.argv[1:]:
    importlib.import_module(module)
from tui.errors import OutriderError
def walk(kind, depth):
    print("  " * depth + kind.__name__, kind.__module__)
    for each in kind.__subclasses__():
        walk(each, depth + 1)
walk(OutriderError, 0)
"""


def branches(lines: list[str]) -> set[tuple[str, ...]]:
    """Each class of a tree of indented lines: its ancestors' names, its own and its module."""
    path: list[str] = []
    found = set()
    for line in lines:
        name, module, *_ = line.split()
        path[(len(line) - len(line.lstrip())) // 2 :] = [name]
        found.add((*path, module))
    return found


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn = [line for line in str(errors.__doc__).splitlines() if re.match(r" *\w+ +tui\.", line)]
    modules = {place.rpartition(".")[0] for place, _ in exceptions_of_ours()} - {
        "tui.engine.answer.template_worker"
    }
    real = subprocess.run(
        [sys.executable, "-c", WALK, *modules],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        check=True,
    )
    assert branches(drawn) == branches(real.stdout.splitlines())
    assert len(drawn) == len(branches(drawn)) > 20


def exceptions_of_ours() -> Iterator[tuple[str, set[str]]]:
    """Every class that is an exception by the names of its bases, and the names of all its ancestors."""
    classes: list[tuple[str, str, set[str]]] = []
    for path in (ROOT / "tui").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                classes.append((module, node.name, {ast.unparse(base) for base in node.bases}))

    def with_ancestors(names: set[str]) -> set[str]:
        above = names.union(*(bases for _, name, bases in classes if name in names))
        return above if above == names else with_ancestors(above)

    for module, name, bases in classes:
        above = with_ancestors(bases)
        kinds = [kind for each in above if isinstance(kind := getattr(builtins, each, None), type)]
        if any(issubclass(kind, BaseException) for kind in kinds):
            yield f"{module}.{name}", above


def test_every_exception_that_a_person_may_see_is_in_the_tree() -> None:
    found = dict(exceptions_of_ours())
    assert "tui.client.call.EngineDied" in found
    outside = {place for place, above in found.items() if "OutriderError" not in above}
    assert outside == {*PRIVATE, "tui.errors.OutriderError"}


BROAD = re.compile(r"\s*except(:|.*\b(Base)?Exception\b)")


def broad_without_reason(source: str) -> list[str]:
    """The lines that catch every error and name no reason."""
    return [line.strip() for line in source.splitlines() if BROAD.match(line) and "  # " not in line]


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("except Exception:", True),
        ("    except (OSError, BaseException) as error:", True),
        ("except:", True),
        ("except Exception:  # the process edge", False),
        ("except OSError:", False),
    ],
)
def test_an_except_that_catches_every_error_is_found(line: str, is_found: bool) -> None:
    assert bool(broad_without_reason(line)) == is_found


def test_every_except_that_catches_every_error_names_its_reason() -> None:
    files = sorted((ROOT / "tui").rglob("*.py"))
    found = {str(path.relative_to(ROOT)): broad_without_reason(path.read_text("utf-8")) for path in files}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_a_kind_of_error_may_have_a_usual_hint() -> None:
    assert BadModelFile("it is empty").hint == BadModelFile.hint
    assert ModelError("no").hint == ""
    assert ModelError("no", "Choose another.").line == "no. Choose another."


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        (ModelError("it is full", "Load again."), "It is full.", "Load again."),
        (BadModelFile("the file is empty"), "The file is empty.", BadModelFile.hint),
        (OSError(EACCES, "Permission denied", "/m.gguf"), "[Errno 13] Permission denied: '/m.gguf'.", ""),
        (OSError(ENOMEM, "Cannot allocate memory"), "The system gave no more memory or threads: ", MAKE_ROOM),
        (KeyError("main"), "KeyError: 'main'.", "This is a bug: please report it."),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_failure_of_the_engine_is_a_sentence_with_the_next_step(
    error: Exception, message: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = failure(7, error)
    assert failed == Failed(7, failed.message, hint)
    assert failed.message.startswith(message)
    assert failed.message.endswith(".")
    assert ("Error" in capsys.readouterr().err) is not isinstance(error, OutriderError)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UsageError("no such host"), USAGE, "no such host"),
        (EngineDied("The engine was killed", "Try again."), FAILED, "The engine was killed. Try again."),
        (ConfigError("config.toml is larger than 1 MB"), FAILED, "config.toml is larger than 1 MB."),
    ],
    ids=["usage", "engine", "other"],
)
def test_every_error_ends_a_command_with_one_line(
    error: Exception,
    status: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(arguments: object) -> int:
        raise error

    monkeypatch.setattr("tui.commands.history.run", fail)
    assert run(parser().parse_args(["history"])) == status
    assert capsys.readouterr().err == f"outrider: {line}\n"
