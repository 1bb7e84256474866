"""The changes of a conversation, as values. A change that is written twice has the same effect as once.

The app makes the keys of conversations and messages. So a chat can go on while nothing can be written, and
its changes are written later in the same order. This module knows no database.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from tui.protocol import Round, Statistics
from tui.protocol.pieces import said

Speaker = Literal["user", "assistant"]
Ending = Literal["", "stop", "length", "context", "cancelled", "cut"]
"""Reason for the end of an answer, as `Reason`. "cut": the engine was lost. Empty: unknown."""


@dataclass(frozen=True)
class Attached:
    """A file that was attached to a prompt, and its part of the prompt's text."""

    name: str
    """The name as the user typed it."""
    start: int
    """Index of its first character in the text."""
    end: int


@dataclass(frozen=True)
class Turn:
    """One message of a conversation, a node of its tree."""

    key: str
    parent: str
    """Key of the message before it; empty for a first message."""
    role: Speaker
    text: str = ""
    """Its text; empty for an answer that has just begun."""
    ending: Ending = ""
    main: str = ""
    """Name of the main model that answered. Not trusted text."""
    draft: str = ""
    settings: str = ""
    """Settings of an answer as a JSON object: seed, sampling chain, `thinking`, `effort`."""
    statistics: Statistics | None = None
    rounds: tuple[Round, ...] = ()
    """The rounds of an answer, with the origin of every token."""
    written: str = ""
    """Time in UTC, ISO 8601. It is only shown, and orders nothing."""
    files: tuple[Attached, ...] = ()
    """The attached files in order, at the end of the prompt's text."""


@dataclass(frozen=True)
class Begin:
    """Begin a conversation."""

    conversation: str
    title: str


@dataclass(frozen=True)
class Say:
    """Add a message and show it. A first prompt gives the title."""

    conversation: str
    turn: Turn


@dataclass(frozen=True)
class Hear:
    """Append rounds to the answer `message`."""

    message: str
    place: int
    """Number of such changes before this one."""
    rounds: tuple[Round, ...] = field(repr=False)


@dataclass(frozen=True)
class Close:
    """Complete the answer `message`."""

    message: str
    text: str
    ending: Ending
    statistics: Statistics | None


@dataclass(frozen=True)
class Show:
    """Show the branch that ends at `message`, and continue there."""

    conversation: str
    message: str


@dataclass(frozen=True)
class Leave:
    """Stop sending the messages before `message` to the model; empty sends all again."""

    conversation: str
    message: str
    summary: str = ""
    """The text that is sent in their place."""


@dataclass(frozen=True)
class Adjust:
    """Set this conversation's own settings: a JSON object, or empty for none."""

    conversation: str
    settings: str


@dataclass(frozen=True)
class Remove:
    """Hide messages, or show them again. Hidden ones leave the file when the app ends."""

    messages: tuple[str, ...]
    removed: bool = True


@dataclass(frozen=True)
class Rename:
    conversation: str
    title: str


@dataclass(frozen=True)
class Pin:
    conversation: str
    pinned: bool


@dataclass(frozen=True)
class Delete:
    """Hide a conversation, or show it again. A hidden one leaves the file when the app ends."""

    conversation: str
    deleted: bool = True


Change = Begin | Say | Hear | Close | Show | Leave | Adjust | Remove | Rename | Pin | Delete


def text_of(rounds: Iterable[Round]) -> str:
    """Return the text of `rounds`."""
    return said(piece for each in rounds for piece in each.pieces)
