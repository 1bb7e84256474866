"""A completion of the word that a person is typing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Suggestion:
    """A word, in place of the last `replaces` characters before the cursor. Foreign text."""

    text: str
    about: str = ""
    replaces: int = 0
    sends: bool = False
    """Whether nothing more has to be typed behind it."""
    shown: str = ""
    """What stands in the row; empty for the word itself."""
