"""Typed commands: a slash, a name, and perhaps a value. This module knows no command and runs none."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tui.protocol.marks import SWITCHES

from .completion import Suggestion

ALIASES: Final[Mapping[str, str]] = {
    "system": "system_prompt",
    "temp": "temperature",
    "clear": "new",
    "exit": "quit", "bye": "quit",
    "retry": "again", "regen": "again", "regenerate": "again",
    "model": "models",
    "chats": "history",
    "config": "settings",
    "compact": "summarize", "summarise": "summarize",
    "keys": "help",
    "save": "export",
}  # fmt: skip
"""Names of commands in other programs, and their names here."""

Choice = tuple[str, str]
"""A value, and a few words about it."""


@dataclass(frozen=True)
class SlashCommand:
    """A command that a person types as `/name value`."""

    name: str
    about: str
    run: Callable[[str], object]
    """Takes the value, stripped; it may return an awaitable."""
    takes: str = ""
    """The value in a word; empty for none."""
    choices: Callable[[], Sequence[Choice]] = tuple


def parse(text: str) -> tuple[str, str] | None:
    """Return (name, value) if a prompt is a command, else None. A path and a comment of C are no commands."""
    if not text.startswith("/") or text.startswith("//"):
        return None
    name, _, value = text[1:].partition(" ")
    if f"/{name}" in SWITCHES:  # models read this to decide whether they think
        return None
    return (name, value.strip()) if name and not set(name) & set("\n/*") else None


def find(name: str, commands: Iterable[SlashCommand]) -> SlashCommand | None:
    """Return the command that `name` means, here or in other programs, in any spelling."""
    named = {_folded(each.name): each for each in commands}
    wanted = _folded(name)
    return named.get(wanted) or named.get(_folded(ALIASES.get(wanted, "")))


def nearest(name: str, commands: Iterable[SlashCommand]) -> SlashCommand | None:
    """Return the command that is most like the typing error `name`; None if none is."""
    named = {_folded(each.name): each for each in commands}
    named |= {alias: named[known] for alias, each in ALIASES.items() if (known := _folded(each)) in named}
    close = difflib.get_close_matches(_folded(name), named, 1) if name else []
    begun = [each for each in named if len(name) > 1 and each.startswith(_folded(name))]
    return named[[*close, *begun][0]] if close or begun else None


def _folded(name: str) -> str:
    return name.lower().replace("_", "-")


def suggestions(before: str, commands: Sequence[SlashCommand]) -> list[Suggestion]:
    """Return the possible completions of the command that is typed as far as `before`."""
    if not before.startswith("/") or "\n" in before or before in SWITCHES:
        return []
    name, space, value = before[1:].partition(" ")
    if not space:
        begun = [each for each in commands if _folded(each.name).startswith(_folded(name))]
        known = [find(alias, commands) for alias in ALIASES if name and alias.startswith(name.lower())]
        found = [*begun, *(each for each in known if each)]
        found += [each for each in commands if _folded(name) in _folded(each.name)]
        return [
            Suggestion(
                f"/{each.name}" + (" " if each.takes else ""),
                each.about,
                len(before),
                sends=not each.takes,
                shown=f"/{each.name}" + (f" {each.takes}" if each.takes else ""),
            )
            for each in dict.fromkeys(found)
        ]
    command = find(name, commands)
    if command is None:
        return []
    return [
        Suggestion(choice, about, len(value), sends=True)
        for choice, about in command.choices()
        if choice.lower().startswith(value.lower())
    ]
