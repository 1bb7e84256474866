"""The order of the house: a test stands alone, and the product needs neither tests nor tools."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT, TESTS


def imported(source: str) -> Iterator[str]:
    """The modules that a program imports, and the names that it takes from them, with dots."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module or ''}.{each.name}" for each in node.names)


def programs(*folders: Path) -> Iterator[tuple[str, str]]:
    """The Python files below `folders`: path and text."""
    for folder in folders:
        for path in folder.rglob("*.py"):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def names_a_test(name: str) -> bool:
    """Whether a part of a dotted name is a test module. Below `tests` the last part may be one too."""
    *modules, last = name.split(".")
    if not modules or modules[0] == "tests":
        modules.append(last)
    return any(each.startswith("test_") for each in modules)


def test_no_module_imports_a_test() -> None:
    """Code of several tests lies in `tests/support/`: a test can then be moved, renamed and deleted alone."""
    found = {
        (path, name)
        for path, source in programs(TESTS, ROOT / "tools")
        for name in imported(source)
        if names_a_test(name)
    }
    assert found == set()


@pytest.mark.parametrize(
    ("source", "is_one"),
    [
        ("from tests.screens.test_history import stored", True),
        ("from tests.screens import test_history", True),
        ("from test_history import stored", True),
        ("import test_history", True),
        ("def later():\n    import tests.screens.test_history", True),
        ("from tests.support.chat import stored", False),
        ("from tools.bench.turns import test_of", False),
    ],
)
def test_an_import_of_a_test_is_found(source: str, is_one: bool) -> None:
    assert any(map(names_a_test, imported(source))) == is_one


def test_the_product_imports_neither_tests_nor_tools() -> None:
    found = {
        (path, name)
        for path, source in programs(ROOT / "tui")
        for name in imported(source)
        if name.partition(".")[0] in ("tests", "tools")
    }
    assert found == set()


SHARED = {
    "assistant": "the assistant of a Gemma 4 model, in each backend",
    "chat": "the chat: its command, its screen",
    "head": "the MTP head of a model, in each backend",
    "hidden": "the hidden rows of a main model, in each backend",
    "history": "earlier chats: the command that lists them, the screen",
    "hub": "the Hugging Face hub: the engine asks it, the client asks the engine, the screen shows it",
    "inspection": "probabilities inside an answer: computed, shown",
    "model": "a loaded model, in each backend",
    "models": "the models of this machine: the command, the screen",
    "session": "one side's state while a pair is loaded: the chat's, the engine's",
    "settings": "the settings: the values, the screen",
    "vocabulary": "the tokens of a model, in each backend",
}
"""Module names that several folders have, each with the one thing that it means there."""


def twice(names: list[str]) -> set[str]:
    return {name for name in names if names.count(name) > 1}


def test_no_public_class_has_the_name_of_another() -> None:
    """A class inside another is called by both names, as `Rows.Moved`."""
    public = [
        node.name
        for _, source in programs(ROOT / "tui")
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    assert len(public) > 200
    assert twice(public) == set()


def test_no_module_name_means_two_things() -> None:
    names = [Path(path).stem for path, _ in programs(ROOT / "tui")]
    assert twice([name for name in names if not name.startswith("__")]) == set(SHARED)
