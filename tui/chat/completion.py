"""A completion of the word that a person is typing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Suggestion:
    """A word to put in place of the last `replaces` characters before the cursor. Foreign text."""

    text: str
    about: str = ""
    replaces: int = 0
    sends: bool = False
    """Whether the text is complete with it, so that it can be sent at once."""
    shown: str = ""
    """The text of the row; empty for the word itself."""
