"""A class has one noun and few methods, its own bases counted; a function is short."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
METHODS = 25
"""Most methods of a class, with those of its bases in this package, `__x__` and properties included."""
LINES = 40
"""Most lines of a function, from `def` to its end, its docstring included."""
MODULE = 400
"""Most lines of a module."""
SHOWN = (ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def trees() -> dict[str, ast.Module]:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted((ROOT / "tui").rglob("*.py"))
    }


@cache
def classes() -> dict[str, list[tuple[str, ast.ClassDef]]]:
    """The classes of the package by name, each with its module: two modules may have the same name."""
    found: dict[str, list[tuple[str, ast.ClassDef]]] = {}
    for module, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append((module, node))
    return found


def base_names(node: ast.ClassDef) -> Iterator[str]:
    for base in node.bases:
        base = base.value if isinstance(base, ast.Subscript) else base
        if isinstance(base, ast.Name | ast.Attribute):
            yield base.id if isinstance(base, ast.Name) else base.attr


def imported(module: str) -> set[str]:
    """The names that `module` imports from elsewhere in the package."""
    return {
        alias.asname or alias.name
        for node in ast.walk(trees()[module])
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("tui"))
        for alias in node.names
    }


def methods(module: str, node: ast.ClassDef) -> set[str]:
    """The names of the methods of a class and of its bases in the package. An overridden name counts once."""
    found = {each.name for each in node.body if isinstance(each, SHOWN)}
    for name in base_names(node):
        near = [each for each in classes().get(name, ()) if each[0] == module and each[1] is not node]
        far = classes().get(name, ()) if name in imported(module) else ()
        for other, base in near or far:
            found |= methods(other, base)
    return found


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def functions() -> Iterator[tuple[str, int]]:
    for module, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, SHOWN):
                yield f"{module}.{node.name}", lines_of(node)


@pytest.mark.parametrize("module", sorted(trees()))
def test_no_class_has_more_methods_than_one_noun_needs(module: str) -> None:
    nodes = [node for node in ast.walk(trees()[module]) if isinstance(node, ast.ClassDef)]
    assert {node.name: len(found) for node in nodes if len(found := methods(module, node)) > METHODS} == {}


def test_inherited_methods_count() -> None:
    ((module, node),) = classes()["Outrider"]
    assert {"__init__", "_display", "action_help"} <= methods(module, node)


def test_every_line_of_a_function_counts() -> None:
    (function,) = ast.parse('def short(\n    a: int,\n) -> int:\n    """A\n    B"""\n    return a\n').body
    assert isinstance(function, ast.FunctionDef) and lines_of(function) == 6


def test_no_function_is_longer_than_a_screen() -> None:
    assert {name for name, lines in functions() if lines > LINES} == set()


def test_no_module_is_longer_than_one_subject_needs() -> None:
    lengths = {path: path.read_text(encoding="utf-8").count("\n") for path in (ROOT / "tui").rglob("*.py")}
    assert {path.name: lines for path, lines in lengths.items() if lines > MODULE} == {}
