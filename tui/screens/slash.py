"""Commands that are typed: a slash, a name, and perhaps what follows it. It knows none and runs none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tui.protocol.marks import SWITCHES
from tui.widgets.suggestions import Suggestion

Choice = tuple[str, str]
"""A value, and a few words about it."""


@dataclass(frozen=True)
class SlashCommand:
    """Something that is done by `/name value`."""

    name: str
    about: str
    run: Callable[[str], object]
    """Given the value, stripped; it may return something to wait for."""
    takes: str = ""
    """What follows the name, in a word; empty for nothing."""
    choices: Callable[[], Sequence[Choice]] = tuple


def parse(text: str) -> tuple[str, str] | None:
    """(name, value) of a prompt that is a command; None for any other, a path and a comment of C too."""
    if not text.startswith("/") or text.startswith("//"):
        return None
    name, _, value = text[1:].partition(" ")
    if f"/{name}" in SWITCHES:  # a model is told so, whether it thinks
        return None
    return (name, value.strip()) if name and not set(name) & set("\n/*") else None


def suggestions(before: str, commands: Sequence[SlashCommand]) -> list[Suggestion]:
    """What a command, typed as far as `before`, could become."""
    if not before.startswith("/") or "\n" in before or before in SWITCHES:
        return []
    name, space, value = before[1:].partition(" ")
    if not space:
        found = [each for each in commands if each.name.startswith(name)]
        found += [each for each in commands if name in each.name and each not in found]
        return [
            Suggestion(
                f"/{each.name}" + (" " if each.takes else ""),
                each.about,
                len(before),
                sends=not each.takes,
                shown=f"/{each.name}" + (f" {each.takes}" if each.takes else ""),
            )
            for each in found
        ]
    command = next((each for each in commands if each.name == name), None)
    if command is None:
        return []
    return [
        Suggestion(choice, about, len(value), sends=True)
        for choice, about in command.choices()
        if choice.lower().startswith(value.lower())
    ]
