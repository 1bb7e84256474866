"""Who imports whom, beyond the contracts of pyproject.toml: no circle, and no screen that is none."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import grimp
import pytest


@cache
def graph() -> grimp.ImportGraph:
    """All imports of the package, also those inside functions and those for types alone."""
    return grimp.build_graph("tui", include_external_packages=True, cache_dir=None)


def circles(graph: grimp.ImportGraph, modules: set[str]) -> Iterator[set[str]]:
    """The groups of `modules` in which each imports each in the end."""
    left = set(modules)
    while left:
        start = left.pop()
        below = graph.find_upstream_modules(start) & modules
        circle = {name for name in below if start in graph.find_upstream_modules(name)}
        left -= circle
        if circle:
            yield circle | {start}


def test_no_module_imports_itself_in_the_end() -> None:
    ours = {name for name in graph().modules if name.startswith("tui.")}
    assert len(ours) > 200
    assert list(circles(graph(), ours)) == []


def test_a_circle_is_found() -> None:
    made = grimp.ImportGraph()
    for importer, imported in (("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")):
        made.add_import(importer=importer, imported=imported)
    assert list(circles(made, set(made.modules))) == [{"a", "b", "c"}]


@pytest.mark.parametrize("name", sorted(graph().find_children("tui.screens")))
def test_a_module_among_the_screens_draws(name: str) -> None:
    imported = graph().find_modules_directly_imported_by(name)
    assert any(each == "textual" or each.startswith("tui.widgets.") for each in imported)


@pytest.mark.parametrize("name", sorted(graph().find_children("tui.chat")))
def test_a_module_of_the_chat_imports_nothing_that_draws(name: str) -> None:
    imported = graph().find_upstream_modules(name)
    assert not {
        each for each in imported if each == "textual" or each.startswith(("tui.screens", "tui.widgets"))
    }
