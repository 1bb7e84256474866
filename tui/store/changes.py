"""The changes of a conversation, as values. A change that is written twice has the same effect as once.

The app makes the keys of conversations and messages. So a chat can go on while nothing can be written, and
its changes are written later in the same order. This module knows no database.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from tui.protocol import Statistics, TextRound
from tui.protocol.pieces import said
from tui.protocol.terms import Unsigned

Speaker = Literal["user", "assistant"]
Ending = Literal["", "stop", "length", "context", "cancelled", "cut"]
"""Reason for the end of an answer, as `Reason`. "cut": the engine was lost. Empty: unknown."""


class Attached(Struct, frozen=True):
    """A file that was attached to a prompt, and its part of the prompt's text."""

    name: str
    """The name as the user typed it."""
    start: Unsigned
    """Index of its first character in the text."""
    end: Unsigned


class Turn(Struct, frozen=True):
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
    rounds: tuple[TextRound, ...] = ()
    """The rounds of an answer, with the origin of every token."""
    written: str = ""
    """Time in UTC, ISO 8601. It is only shown, and orders nothing."""
    files: tuple[Attached, ...] = ()
    """The attached files in order, at the end of the prompt's text."""


class StartConversation(Struct, frozen=True):
    """Begin a conversation."""

    conversation: str
    title: str


class AddMessage(Struct, frozen=True):
    """Add a message and show it. A first prompt gives the title."""

    conversation: str
    turn: Turn


class AppendRounds(Struct, frozen=True):
    """Append rounds to the answer `message`."""

    message: str
    place: int
    """Number of such changes before this one."""
    rounds: tuple[TextRound, ...]


class FinishAnswer(Struct, frozen=True):
    """Complete the answer `message`."""

    message: str
    text: str
    ending: Ending
    statistics: Statistics | None


class SelectBranch(Struct, frozen=True):
    """Show the branch that ends at `message`, and continue there."""

    conversation: str
    message: str


class TrimContext(Struct, frozen=True):
    """Stop sending the messages before `message` to the model; empty sends all again."""

    conversation: str
    message: str
    summary: str = ""
    """The text that is sent in their place."""


class SetOverrides(Struct, frozen=True):
    """Set this conversation's own settings: a JSON object, or empty for none."""

    conversation: str
    settings: str


class RemoveMessages(Struct, frozen=True):
    """Hide messages, or show them again. Hidden ones leave the file when the app ends."""

    messages: tuple[str, ...]
    removed: bool = True


class RenameConversation(Struct, frozen=True):
    conversation: str
    title: str


class PinConversation(Struct, frozen=True):
    conversation: str
    pinned: bool


class DeleteConversation(Struct, frozen=True):
    """Hide a conversation, or show it again. A hidden one leaves the file when the app ends."""

    conversation: str
    deleted: bool = True


Change = (
    StartConversation
    | AddMessage
    | AppendRounds
    | FinishAnswer
    | SelectBranch
    | TrimContext
    | SetOverrides
    | RemoveMessages
    | RenameConversation
    | PinConversation
    | DeleteConversation
)


def text_of(rounds: Iterable[TextRound]) -> str:
    """Return the text of `rounds`."""
    return said(piece for each in rounds for piece in each.pieces)
