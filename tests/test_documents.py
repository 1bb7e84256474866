"""The documents are true as far as a program can tell: links, the map of modules, keys, options, commands."""

from __future__ import annotations

import argparse
import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tui.commands.options import parser

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/*.md"))]
FOR_USERS = [ROOT / "README.md", ROOT / "docs" / "guide.md", ROOT / "docs" / "how-it-works.md"]


def prose(page: Path) -> str:
    """`page` without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of code of `page` in this language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return [block for name, block in found if name == language]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the headings of `page`."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path) if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_document_leads_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A title, of words …\n[a](#a-title-of-words-) [b](#gone) [c](gone.md) [d](page.md#gone)\n"
    )
    assert list(broken_links(page)) == ["#gone", "gone.md", "page.md#gone"]


def test_every_file_that_a_document_names_is_there() -> None:
    """Paths in backquotes, from the root or from one of the folders that all readers know."""
    folders = [ROOT, ROOT / "tui", ROOT / "tui" / "engine", ROOT / "tests"]
    named = {
        name
        for page in PAGES
        for name in re.findall(r"`([\w.]+(?:/[a-z_0-9.]+)+\.(?:py|toml))`", prose(page))
    }
    assert len(named) > 30
    assert [name for name in sorted(named) if not any((folder / name).exists() for folder in folders)] == []


def test_the_map_names_every_module_once() -> None:
    """CONTRIBUTING.md has a line for each folder, and the names of its modules before what they are for."""
    (drawn,) = [block for block in blocks(ROOT / "CONTRIBUTING.md", "") if block.startswith("tui/")]
    folder, mapped = "", []
    for line in drawn.splitlines():
        if line.startswith("tui/"):
            folder = line.split()[0]
        elif names := re.match(r"  ((?:\w+\.py )+)", line):
            mapped += [folder + name for name in names[1].split()]
    modules = (path.relative_to(ROOT).as_posix() for path in (ROOT / "tui").rglob("*.py"))
    assert sorted(mapped) == sorted(path for path in modules if not path.endswith("/__init__.py"))


def test_every_key_that_a_document_names_is_a_key_of_the_app() -> None:
    keys = set(re.findall(r"`([^`]+)`", (ROOT / "docs" / "keys.md").read_text(encoding="utf-8")))
    named = {
        key
        for page in FOR_USERS
        for key in re.findall(r"`((?:Ctrl|Shift|Alt)\+\w+|F\d+|Esc|Tab|Enter)`", prose(page))
    }
    assert len(named) > 12
    assert named - keys == set()


def test_every_option_and_command_that_a_document_names_exists() -> None:
    options, commands = _options_and_commands()
    for page in FOR_USERS:
        shell = "\n".join(blocks(page, "sh"))
        examples = [line.partition("#")[0] for line in shell.splitlines() if re.match(r"\S*outrider ", line)]
        quoted = re.findall(r"`([^`]*)`", prose(page))
        named = {
            option for text in (*examples, *quoted) for option in re.findall(r"(?<!\S)--[a-z][\w-]+", text)
        }
        assert named - options == set()
        called = {word[1] for line in examples if (word := re.match(r"\S*outrider ([a-z]+)", line))}
        assert called - commands == set()


def _options_and_commands() -> tuple[set[str], set[str]]:
    """All that the parser takes."""
    whole = parser()
    (subcommands,) = [each for each in whole._actions if isinstance(each, argparse._SubParsersAction)]
    parsers = [whole, *subcommands.choices.values()]
    options = {text for each in parsers for action in each._actions for text in action.option_strings}
    return options, set(subcommands.choices)


def clauses(text: str) -> list[str]:
    """The words that begin a clause such as "what it costs", which stands for "its cost"."""
    return re.findall(r"\b(?:what|whatever|whoever|whichever|of which|how far)\b", text, flags=re.I)


MOST_CLAUSES = 0.003
"""Such clauses for each word: they tire people who read English as a second language."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_documents_name_their_nouns(page: Path) -> None:
    text = prose(page)
    assert len(clauses(text)) <= MOST_CLAUSES * len(text.split()), clauses(text)


def docstrings(source: str) -> Iterator[str]:
    """The docstrings of modules, classes and functions, and those below attributes."""
    for node in ast.walk(ast.parse(source)):
        for child in ast.iter_child_nodes(node):
            match child:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield text


DOCSTRINGS = {
    path.relative_to(ROOT).as_posix(): list(docstrings(path.read_text(encoding="utf-8")))
    for path in sorted((ROOT / "tui").rglob("*.py"))
}


def test_the_docstrings_name_their_nouns() -> None:
    words = sum(len(text.split()) for texts in DOCSTRINGS.values() for text in texts)
    found = [(path, text) for path, texts in DOCSTRINGS.items() for text in texts for _ in clauses(text)]
    assert words > 40_000
    assert len(found) < MOST_CLAUSES * words, found


def test_a_clause_of_a_docstring_is_found() -> None:
    source = (
        '"""A b."""\nx = 1\n"""What x is."""\ndef f() -> None:\n    """How far to go, of which some."""\n'
    )
    assert [clauses(text) for text in docstrings(source)] == [[], ["What"], ["How far", "of which"]]


FOREIGN = {"apply_chat_template", "except", "type_traits"}
"""Names of Python and of other projects that our texts mention in backquotes."""


def names_of(source: str) -> Iterator[str]:
    """Every name that a program uses or defines, and the words of its short texts."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case (
                ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name))
            ):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.alias(name=name, asname=other):
                yield from (*name.split("."), other or "")
            case ast.ImportFrom(module=str(module)):
                yield from module.split(".")
            case ast.Constant(value=str(text)) if re.fullmatch(r"[\w.]+", text):
                yield from text.split(".")


def unknown(text: str, known: set[str]) -> list[str]:
    """The names in backquotes in `text`, with or without dots, that are not `known`."""
    quoted = re.findall(r"`([A-Za-z_][\w.]*)`", text)
    return [name for name in quoted if not (name in known or known.issuperset(name.rstrip(".").split(".")))]


def test_every_name_that_a_text_mentions_is_a_name_of_the_code() -> None:
    """In docstrings and in CONTRIBUTING.md, a renamed class or module is renamed too."""
    known = {*dir(builtins), *FOREIGN, *(path.name for path in ROOT.iterdir())}
    for path in (path for folder in ("tui", "tests", "tools") for path in (ROOT / folder).rglob("*.py")):
        known |= {path.name, path.stem, path.parent.name, *names_of(path.read_text(encoding="utf-8"))}
    texts = {**DOCSTRINGS, "CONTRIBUTING.md": [prose(ROOT / "CONTRIBUTING.md")]}
    found = [(path, name) for path, each in texts.items() for text in each for name in unknown(text, known)]
    assert found == []


def test_an_unknown_name_in_a_text_is_found() -> None:
    known = set(names_of("from a.b import c\nclass D:\n    e: int = f(g=h.i)\n"))
    text = "`a.b` `D.e` `i` `J` `D.k` `l()` `a b`"
    assert unknown(text, known) == ["J", "D.k"]


def test_the_readme_calls_make_as_it_is() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    calls = re.findall(r"^make ([\w-]+)", "\n".join(blocks(ROOT / "README.md", "sh")), flags=re.M)
    assert calls == ["run", "test"]
    assert all(re.search(rf"^{target}:", makefile, flags=re.M) for target in calls)
