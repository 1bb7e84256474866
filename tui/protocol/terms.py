"""The words that the rest of the protocol is made of: where a token came from, and how a round went.

The app's first paint needs these, and of the rest of the protocol nothing.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Literal, NamedTuple


class Origin(IntEnum):
    """Where a piece of text came from."""

    PLAIN = 0
    """The main model, in a round in which nothing was drafted (and all text that no model wrote)."""
    DRAFT = 1
    """Proposed by the draft model, accepted by the main model."""
    MAIN = 2
    """The main model's own token, in a round in which something was drafted."""
    REFUSED = 3
    """Proposed, and refused: not part of the answer."""
    LOOKUP = 4
    """Found by n-gram lookup earlier in the conversation, accepted by the main model."""


Signed = Annotated[int, "may be negative"]
"""A whole number of an event that is no count."""

CacheType = Literal["f16", "q8_0"]
"""Of the numbers in a KV cache: 16 bits, or 8 and a scale for every 32 of them."""

BackendName = Literal["auto", "llama.cpp", "mlx"]
"""The library that runs a model; "auto" goes by what stands at its path."""

PromptForm = Literal["template", "chatml", "text"]
"""How a model is given a conversation: by its own chat template; by ChatML, where it has no template but
ChatML's tokens; as text that it continues, where it has neither. The last is a base model."""

Thinking = Literal["auto", "on", "off"]
"""Whether a model is to think before it answers; "auto" leaves it to its chat template."""

Effort = Literal["auto", "minimal", "low", "medium", "high", "max"]
"""How much it is to think, where its chat template knows that."""

Reason = Literal["stop", "length", "context", "cancelled"]
"""Why an answer ended: end of generation or a stop string, `max_tokens`, a full context, the user."""

Role = Literal["system", "user", "assistant"]


class Round(NamedTuple):
    """One round of drafting and verification, with its text cut at character borders.

    `pieces` are (text, origin) pairs in reading order. Text may lag behind `tokens` where a character
    or a possible stop string is not complete yet. Refused pieces stand where they were refused. There are
    many of them: as a tuple it goes without the names of its fields, on the pipe and in the store.
    """

    pieces: tuple[tuple[str, Signed], ...]
    tokens: tuple[int, ...]
    drafted: int
    looked_up: int
    """How many of the drafted tokens, the first ones, came from the lookup."""
    accepted: int
    seconds: float
    """From the end of the round before to its own end; they add up to `Statistics.seconds`."""
    draft_seconds: float
    verify_seconds: float
    context_used: int
    plain_seconds: float | None = None
    """What plain decoding would have taken for its tokens at this moment; None is not known."""
