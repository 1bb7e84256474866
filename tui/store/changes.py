"""What can happen to a conversation. Each may be written twice and does the same as once.

Conversations and messages go by keys that the app draws, so that a chat goes on where nothing can be written,
and is written in the same order when it can. They say nothing of a database.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from tui.protocol import Round, Statistics
from tui.protocol.pieces import said

Speaker = Literal["user", "assistant"]
Ending = Literal["", "stop", "length", "context", "cancelled", "cut"]
"""Why an answer ended, as `Reason`; "cut": its engine was lost; empty: nothing is known of an end."""


@dataclass(frozen=True)
class Attached:
    """A file that went with a prompt: which part of the prompt's text it is."""

    name: str
    """As it was typed."""
    start: int
    """In characters."""
    end: int


@dataclass(frozen=True)
class Turn:
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


@dataclass(frozen=True)
class Begin:
    """A conversation begins."""

    conversation: str
    title: str


@dataclass(frozen=True)
class Say:
    """A message is added, and the conversation shows it. A first prompt gives a title."""

    conversation: str
    turn: Turn


@dataclass(frozen=True)
class Hear:
    """More of the answer `message`."""

    message: str
    place: int
    """How many such came before."""
    rounds: tuple[Round, ...] = field(repr=False)


@dataclass(frozen=True)
class Close:
    """The answer `message` is all there."""

    message: str
    text: str
    ending: Ending
    statistics: Statistics | None


@dataclass(frozen=True)
class Show:
    """The conversation goes on from `message`."""

    conversation: str
    message: str


@dataclass(frozen=True)
class Leave:
    """What stands before `message` is not sent to the model any more; empty for all of it is."""

    conversation: str
    message: str
    summary: str = ""
    """What is sent in its place."""


@dataclass(frozen=True)
class Adjust:
    """The conversation is answered otherwise than the settings say: a JSON object, or empty."""

    conversation: str
    settings: str


@dataclass(frozen=True)
class Remove:
    """Messages out of sight, and out of the file when the app ends; or back again."""

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
    """Out of sight, and out of the file when the app ends; or back again."""

    conversation: str
    deleted: bool = True


Change = Begin | Say | Hear | Close | Show | Leave | Adjust | Remove | Rename | Pin | Delete


def text_of(rounds: Iterable[Round]) -> str:
    """The text that `rounds` brought."""
    return said(piece for each in rounds for piece in each.pieces)
