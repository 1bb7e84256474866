"""Patterns of wording: `{name}` is a class of synonyms, `(a|b|)` a choice, everything else is text.

A pattern can be read in two directions: `expand` draws one wording, `regex` recognises every wording.
This module knows no facts and reads no file.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

SLOT = "{}"
"""Stands in a frame for the phrase that fills it."""

MANY = 1000
"""Longer choices are not recognised."""

DOUBLED = frozenset(
    (
        "stop",
        "get",
        "put",
        "cut",
        "set",
        "run",
        "quit",
        "begin",
        "drop",
        "shut",
        "swap",
        "scrub",
        "skip",
        "grab",
        "scan",
        "plug",
        "rub",
        "tap",
        "let",
        "spot",
    )
)


@dataclass(frozen=True)
class Choice:
    """One of several sequences."""

    options: tuple[Sequence, ...]


Sequence = tuple["str | Choice", ...]


def gerund(verb: str) -> str:
    """The -ing form of a verb in its plain form."""
    if verb in DOUBLED:
        return f"{verb}{verb[-1]}ing"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) and verb != "be":
        return f"{verb[:-1]}ing"
    return f"{verb}ing"


class Grammar:
    """Parses patterns against a table of synonyms."""

    def __init__(self, synonyms: Mapping[str, list[str]]) -> None:
        self._synonyms = synonyms
        self._classes: dict[str, Choice] = {}
        self._parsed: dict[str, Sequence] = {}

    def parse(self, pattern: str) -> Sequence:
        """The pattern as a tree. Raises `ValueError` where brackets or classes do not fit."""
        if pattern not in self._parsed:
            sequence, rest = self._sequence(pattern)
            if rest:
                raise ValueError(f"unbalanced pattern: {pattern!r}")
            self._parsed[pattern] = sequence
        return self._parsed[pattern]

    def _sequence(self, text: str) -> tuple[Sequence, str]:
        found: list[str | Choice] = []
        while text and text[0] not in "|)":
            if text.startswith(SLOT):
                found.append(SLOT)
                text = text[len(SLOT) :]
            elif text[0] == "{":
                name, text = text[1:].split("}", 1)
                found.append(self._class(name))
            elif text[0] == "(":
                choice, text = self._choice(text[1:])
                found.append(choice)
            else:
                literal = re.match(r"[^{(|)]+", text)
                if literal is None:
                    raise ValueError(f"cannot read {text!r}")
                found.append(literal[0])
                text = text[literal.end() :]
        return tuple(found), text

    def _choice(self, text: str) -> tuple[Choice, str]:
        options = []
        while True:
            sequence, text = self._sequence(text)
            options.append(sequence)
            if not text:
                raise ValueError("a choice is not closed")
            closing, text = text[0], text[1:]
            if closing == ")":
                return Choice(tuple(options)), text

    def _class(self, name: str) -> Choice:
        if name not in self._classes:
            if name not in self._synonyms:
                raise ValueError(f"no synonyms named {name!r}")
            self._classes[name] = Choice(tuple(self.parse(word) for word in self._synonyms[name]))
        return self._classes[name]


def expand(sequence: Sequence, rng: random.Random) -> str:
    """Draw one wording; double spaces left by empty choices are closed."""
    return " ".join(_expand(sequence, rng).split())


def _expand(sequence: Sequence, rng: random.Random) -> str:
    return "".join(
        node if isinstance(node, str) else _expand(rng.choice(node.options), rng) for node in sequence
    )


def as_gerund(sequence: Sequence) -> Sequence:
    """The same wordings with their first word in the -ing form."""
    if not sequence:
        return sequence
    first = sequence[0]
    if isinstance(first, Choice):
        return (Choice(tuple(as_gerund(option) for option in first.options)), *sequence[1:])
    verb, space, rest = first.partition(" ")
    return (gerund(verb) + space + rest, *sequence[1:]) if verb else sequence


def regex(sequence: Sequence) -> str:
    """A regular expression for every wording; spaces are optional where choices may be empty.

    A choice of more than `MANY` is a list of made-up words, which nobody types; it matches nothing.
    """
    parts = []
    for node in sequence:
        if isinstance(node, Choice) and len(node.options) > MANY:
            parts.append("(?!)")
        elif isinstance(node, Choice):
            parts.append("(?:" + "|".join(regex(option) for option in node.options) + ")")
        else:
            parts.append(re.escape(node).replace(",", r"\s*,").replace(r"\ ", r"\s*"))
    return "".join(parts)
