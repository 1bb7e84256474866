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
