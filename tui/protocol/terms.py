"""The small types that the rest of the protocol uses, such as the origin of a token and a round."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct


class Origin(IntEnum):
    """The origin of a piece of text."""

    PLAIN = 0
    """The main model's token of a round without drafted tokens; also text that no model wrote."""
    DRAFT = 1
    """Proposed by the draft model and accepted by the main model."""
    MAIN = 2
    """The main model's own token of a round with drafted tokens."""
    REJECTED = 3
    """Proposed and rejected: not part of the answer."""
    LOOKUP = 4
    """Proposed by the lookup from earlier text, and accepted by the main model."""


LIMIT: Final = 1 << 63
"""All numbers of events are smaller than this, so that their sums and products stay finite."""

Unsigned = Annotated[int, Meta(ge=0, le=LIMIT - 1)]
"""A count."""

Signed = Annotated[int, Meta(ge=-LIMIT, le=LIMIT - 1)]
"""A whole number that may be negative, because it is no count."""

Finite = Annotated[float, Meta(gt=float(-LIMIT), lt=float(LIMIT))]
"""A number that is neither NaN nor infinite."""

PromptForm = Literal["template", "chatml", "text"]
"""The form in which a model gets a conversation. "template": its own chat template. "chatml": ChatML, because
it has no template but the tokens of ChatML. "text": text that it continues, because it has neither; such a
model is a base model."""

HeadKind = Literal["", "mtp", "eagle3", "assistant"]
"""The head in a file: "mtp" (multi-token prediction), "eagle3", "assistant" (Gemma 4); "" for none."""

Reason = Literal["stop", "length", "context", "cancelled"]
"""The reason why an answer ended: an end token or a stop string, `max_tokens`, a full context, the user."""

Stage = Literal["headers", "load", "answer", "policy"]
"""The stage that finds a reason not to draft: the comparison of two files, the load of a pair, an answer, or
the draft length policy."""

Role = Literal["system", "user", "assistant"]


class Tagged(Struct, frozen=True, tag=str.lower, tag_field="type"):
    """A command or an event. Its line is an object with its name in lower case as `type`."""


class TextRound(Struct, frozen=True, array_like=True):
    """One round of drafting and verification, with its text cut at character borders.

    `pieces` are (text, origin) pairs in reading order. The text may lag behind `tokens` while a character or
    a possible stop string is incomplete. Rejected pieces stand where they were rejected. An answer has many
    rounds: each is written as an array, without the names of its fields, on the pipe and in the store.
    """

    pieces: tuple[tuple[str, Signed], ...]
    tokens: tuple[Unsigned, ...]
    drafted: Unsigned
    looked_up: Unsigned
    """Number of drafted tokens, from the first on, that came from the lookup."""
    accepted: Unsigned
    seconds: Finite
    """Time from the end of the round before to the end of this one. The sum is `Statistics.seconds`."""
    draft_seconds: Finite
    verify_seconds: Finite
    context_used: Unsigned
    plain_seconds: Finite | None = None
    """Estimated time of plain decoding for the tokens of this round, at this moment; None if unknown."""
