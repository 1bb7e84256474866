"""What can happen to a conversation. Each may be written twice and does the same as once.

Conversations and messages go by keys that the app draws, so that a chat goes on where nothing can be written,
and is written in the same order when it can. They say nothing of a database.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from tui.protocol import Round, Statistics
from tui.protocol.pieces import said
from tui.protocol.terms import Unsigned

Speaker = Literal["user", "assistant"]
Ending = Literal["", "stop", "length", "context", "cancelled", "cut"]
"""Why an answer ended, as `Reason`; "cut": its engine was lost; empty: nothing is known of an end."""


class Attached(Struct, frozen=True):
    """A file that went with a prompt: which part of the prompt's text it is."""

    name: str
    """As it was typed."""
    start: Unsigned
    """In characters."""
    end: Unsigned


class Turn(Struct, frozen=True):
    """One message of a conversation: a node of its tree."""

    key: str
    parent: str
    """The key of the message that it follows; empty for a first one."""
    role: Speaker
    text: str = ""
    """Of an answer that comes, nothing yet."""
    ending: Ending = ""
    main: str = ""
    """Names of the models that answered; foreign text."""
    draft: str = ""
    settings: str = ""
    """How an answer was asked for, as a JSON object: seed, sampling chain, `thinking`, `effort`."""
    statistics: Statistics | None = None
    rounds: tuple[Round, ...] = ()
    """How every token of an answer came."""
    written: str = ""
    """When, in UTC, as ISO 8601. For people: it orders nothing."""
    files: tuple[Attached, ...] = ()
    """Those that went with a prompt, in their order; they stand at the end of its text."""


class Begin(Struct, frozen=True):
    """A conversation begins."""

    conversation: str
    title: str


class Say(Struct, frozen=True):
    """A message is added, and the conversation shows it. A first prompt gives a title."""

    conversation: str
    turn: Turn


class Hear(Struct, frozen=True):
    """More of the answer `message`."""

    message: str
    place: int
    """How many such came before."""
    rounds: tuple[Round, ...]


class Close(Struct, frozen=True):
    """The answer `message` is all there."""

    message: str
    text: str
    ending: Ending
    statistics: Statistics | None


class Show(Struct, frozen=True):
    """The conversation goes on from `message`."""

    conversation: str
    message: str


class Leave(Struct, frozen=True):
    """What stands before `message` is not sent to the model any more; empty for all of it is."""

    conversation: str
    message: str
    summary: str = ""
    """What is sent in its place."""


class Adjust(Struct, frozen=True):
    """The conversation is answered otherwise than the settings say: a JSON object, or empty."""

    conversation: str
    settings: str


class Remove(Struct, frozen=True):
    """Messages out of sight, and out of the file when the app ends; or back again."""

    messages: tuple[str, ...]
    removed: bool = True


class Rename(Struct, frozen=True):
    conversation: str
    title: str


class Pin(Struct, frozen=True):
    conversation: str
    pinned: bool


class Delete(Struct, frozen=True):
    """Out of sight, and out of the file when the app ends; or back again."""

    conversation: str
    deleted: bool = True


Change = Begin | Say | Hear | Close | Show | Leave | Adjust | Remove | Rename | Pin | Delete


def text_of(rounds: Iterable[Round]) -> str:
    """The text that `rounds` brought."""
    return said(piece for each in rounds for piece in each.pieces)
