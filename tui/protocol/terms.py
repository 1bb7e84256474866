"""The small types that the rest of the protocol uses, such as the origin of a token and a round.

The app's first paint needs these, and nothing else of the protocol.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Literal, NamedTuple


class Origin(IntEnum):
    """The origin of a piece of text."""

    PLAIN = 0
    """The main model's token of a round without drafted tokens; also text that no model wrote."""
    DRAFT = 1
    """Proposed by the draft model and accepted by the main model."""
    MAIN = 2
    """The main model's own token of a round with drafted tokens."""
    REFUSED = 3
    """Proposed and rejected: not part of the answer."""
    LOOKUP = 4
    """Proposed by the lookup from earlier text, and accepted by the main model."""


Signed = Annotated[int, "may be negative"]
"""A whole number that may be negative, because it is no count."""

CacheType = Literal["f16", "q8_0"]
"""The number format of a KV cache: 16 bits, or 8 bits and a scale for every 32 numbers."""

BackendName = Literal["auto", "llama.cpp", "mlx"]
"""The library that runs a model; "auto" chooses it by the file or folder."""

PromptForm = Literal["template", "chatml", "text"]
"""The form in which a model gets a conversation. "template": its own chat template. "chatml": ChatML, because
it has no template but the tokens of ChatML. "text": text that it continues, because it has neither; such a
model is a base model."""

Thinking = Literal["auto", "on", "off"]
"""Whether a model should think before it answers; "auto" leaves this to its chat template."""

Effort = Literal["auto", "minimal", "low", "medium", "high", "max"]
"""How much a model should think, if its chat template knows that."""

Reason = Literal["stop", "length", "context", "cancelled"]
"""The reason why an answer ended: an end token or a stop string, `max_tokens`, a full context, the user."""

Role = Literal["system", "user", "assistant"]


class Round(NamedTuple):
    """One round of drafting and verification, with its text cut at character borders.

    `pieces` are (text, origin) pairs in reading order. The text may lag behind `tokens` while a character or
    a possible stop string is incomplete. Rejected pieces stand where they were rejected. An answer has many
    rounds: a tuple is written without the names of its fields, on the pipe and in the store.
    """

    pieces: tuple[tuple[str, Signed], ...]
    tokens: tuple[int, ...]
    drafted: int
    looked_up: int
    """Number of drafted tokens, from the first on, that came from the lookup."""
    accepted: int
    seconds: float
    """Time from the end of the round before to the end of this one. The sum is `Statistics.seconds`."""
    draft_seconds: float
    verify_seconds: float
    context_used: int
    plain_seconds: float | None = None
    """Estimated time of plain decoding for the tokens of this round, at this moment; None if unknown."""
