"""The types that the rest of the protocol uses: the origin of a token, a round, the figures of an answer."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace


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
    HEAD = 5
    """Proposed by a head of the main model, and accepted by the main model."""


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


class Rounding(Struct, frozen=True):
    """How the main model's scores differ when several rows are computed in one call, as measured here."""

    deviation: Finite
    """Difference from single rows: root mean square, in standard deviations of a row. 0.0: the same bits."""
    exact: bool = False
    """Whether exact mode is on: every round has only rows with the same bits."""
    rows: Unsigned = 1
    """Most rows of a round in exact mode."""


class Statistics(Struct, frozen=True):
    """The figures of an answer. Seconds come from a monotonic clock; None means unknown."""

    prompt_tokens: Unsigned = 0
    prompt_reused: Unsigned = 0
    """Prompt tokens that were in the main model's cache already."""
    tokens: Unsigned = 0
    rounds: Unsigned = 0
    drafted: Unsigned = 0
    """Tokens proposed by the draft model and by the lookup."""
    accepted: Unsigned = 0
    looked_up: Unsigned = 0
    """Tokens of `drafted` that came from the lookup."""
    lookup_accepted: Unsigned = 0
    seconds: Finite = 0.0
    """Time of the answer from the round of its first token on; reading the prompt does not count."""
    draft_seconds: Finite = 0.0
    verify_seconds: Finite = 0.0
    time_to_first_token: Finite | None = None
    tokens_per_second: Finite | None = None
    plain_seconds: Finite | None = None
    """Estimated time of plain decoding for the same tokens. Each round counts the time of its verification,
    divided by the measured ratio of its number of rows to one row."""
    context_used: Unsigned = 0
    peak_memory: Unsigned | None = None
    """Peak memory of the engine's process so far, in bytes."""
    rounding: Rounding | None = None
    """The rounding of the main model, if it is known by now."""
    prompt_restored: Unsigned = 0
    """Prompt tokens of `prompt_reused` that a saved state brought for this answer."""

    @property
    def speed_up(self) -> float | None:
        """The speed of the answer by that of plain decoding; None if it is unknown or nothing was drafted.

        A round takes at least as long as one plain step. So the speed-up is at most the number of tokens per
        round; noise above that is cut off.
        """
        if not self.drafted or not self.plain_seconds or self.seconds <= 0:
            return None
        return min(self.plain_seconds / self.seconds, self.tokens / self.rounds)

    def plus(self, happened: TextRound) -> Statistics:
        """Return the figures with one more round. Those of the whole answer stay as they are."""
        plain = happened.plain_seconds
        return replace(
            self,
            tokens=self.tokens + len(happened.tokens),
            rounds=self.rounds + 1,
            drafted=self.drafted + happened.drafted,
            accepted=self.accepted + happened.accepted,
            looked_up=self.looked_up + happened.looked_up,
            lookup_accepted=self.lookup_accepted + min(happened.looked_up, happened.accepted),
            seconds=self.seconds + happened.seconds,
            draft_seconds=self.draft_seconds + happened.draft_seconds,
            verify_seconds=self.verify_seconds + happened.verify_seconds,
            plain_seconds=self.plain_seconds if plain is None else (self.plain_seconds or 0.0) + plain,
        )
