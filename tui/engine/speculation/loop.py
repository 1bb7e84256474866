"""Speculative decoding: draft, verify, accept.

A small draft model proposes a few tokens. The main model reads them all in one pass and chooses its own token
at each place. Proposed tokens that equal its choices are accepted: several tokens for about the price of one.
At the first difference the main model's own choice is taken. So every round adds at least one token, and
every token is the main model's choice.

Acceptance is equality. A choice depends only on the context, the seed and the index of the token in the
answer (see `sampling`). So the text is the same with one draft, with another and with none; a draft changes
only the time. Plain decoding is a round without a proposal.

A round has four phases, in `_one_round`. With d drafted tokens, p_i the main model's distribution behind the
first i of them, and g_i the shared noise at that place:

1. Draft: the proposers give x_1, ..., x_d, as long as the draft length policy wants more (see `policy`).
2. Verify: one pass over d + 1 rows gives the picks y_i = argmax(log p_(i-1) + g_(i-1)), i = 1, ..., d + 1.
3. Accept: a is the largest number with x_i = y_i for all i <= a. The round adds x_1, ..., x_a and y_(a+1).
4. Settle: the caches forget x_(a+1), ..., x_d.

So a round adds 1 + a tokens, on average 1 + sum over i of P(a >= i).

This module handles token ids. It knows no text, no file and no device, and imports nothing of ours.
Sources: Leviathan, Kalman, Matias, "Fast inference from transformers via speculative decoding", arXiv
2211.17192, for the phases and the average; Daliri, Musco, Suresh, arXiv 2408.07978, for acceptance by
equality under shared noise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple, Protocol


class Pick(NamedTuple):
    """A token chosen at one row of logits, with its probability under the sampling chain."""

    token: int
    probability: float


NO_PICK = Pick(-1, 0.0)
"""The pick where no token may follow. It may be behind drafted tokens that will be rejected."""


class NoValidToken(Exception):
    """No token may follow, although the answer is not complete."""


class Model(Protocol):
    """The part of a loaded model that speculation uses: a KV cache that can grow, choose and be cut back."""

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        ...

    @property
    def capacity(self) -> int:
        """Largest number of tokens that the cache can hold."""
        ...

    def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]:
        """Append `tokens` to the cache and choose the next token at each of the last `picks` of them."""
        ...

    def rewind(self, length: int) -> None:
        """Cut the cache back to its first `length` tokens; `length` may not exceed the cache's."""
        ...


class Proposal(Protocol):
    """The proposed tokens of one round. It decides when another token is not worth its cost."""

    tokens: list[int]
    looked_up: int
    """Number of `tokens`, from the left, that the lookup found; the others come from a draft model."""

    def may_read(self, unread: int) -> int:
        """Return how many of the `unread` context tokens a draft model may read now; 0 leaves it idle."""
        ...

    def wants_more(self) -> int:
        """Return how many tokens a draft model should produce before it adds them; 0 for none."""
        ...

    def add(self, token: int, confidence: float, *, looked_up: bool = False) -> bool:
        """Propose `token`. Return False if no further token is wanted.

        `confidence` is 0 to 1 and need only rise with the chance that the main model agrees. A draft's token
        is appended to `tokens` if it is worth verifying. A token of the lookup is appended to those that the
        lookup has found already, and is taken in its turn.
        """
        ...

    def close(self) -> None:
        """End the proposal: from now on `tokens` are the tokens to verify."""
        ...


class Proposer(Protocol):
    """Proposes tokens that may follow the context: a draft model or a lookup."""

    def propose(self, context: Sequence[int], proposal: Proposal) -> None:
        """Add tokens that may follow `context` and the tokens of `proposal`; it may add none."""
        ...

    def settle(self, context: Sequence[int]) -> None:
        """End the round: the text is now `context`. Forget all rejected tokens."""
        ...


class DraftLengthPolicy(Protocol):
    """The draft length policy: decides how many tokens a round drafts."""

    def start(self, most: int) -> None:
        """Begin an answer of at most so many tokens."""
        ...

    def plan(self, room: int, length: int | None = None) -> Proposal:
        """Return an empty proposal for the next round of at most `room` tokens.

        With `length` it takes exactly so many, if there is room and the proposers have them.
        """
        ...

    def observe(self, happened: Round) -> None:
        """Learn from the round that followed the last plan."""
        ...


@dataclass(frozen=True, slots=True)
class Round:
    """One complete round. Colors, acceptance and every statistic derive from it."""

    drafted: tuple[int, ...]
    looked_up: int
    """Number of `drafted` tokens, from the left, that the lookup found; the others are the draft's."""
    accepted: int
    """Number of `drafted` tokens, from the left, that equal the main model's choices."""
    correction: Pick | None
    """The main model's own token behind the accepted ones; None if the answer ended before it."""
    draft_seconds: float
    verify_seconds: float
    seconds: float
    """Time of the whole round, drafting and verification included."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """The tokens that the round adds to the answer."""
        own = () if self.correction is None else (self.correction.token,)
        return self.drafted[: self.accepted] + own


def generate(
    main: Model,
    proposer: Proposer,
    context: list[int],
    *,
    policy: DraftLengthPolicy,
    end_tokens: Collection[int],
    max_tokens: int,
    clock: Callable[[], float] = perf_counter,
) -> Iterator[Round]:
    """Continue `context` in place, one round at a time, until an end token, `max_tokens` or a full cache.

    `context` must not be empty, and `main` must hold a prefix of it; all but its last token should be in
    the cache already (see `prefill`). To stop, do not ask for the next round. Raises `NoValidToken` after
    the last possible round.
    """
    limit = len(context) + max_tokens
    policy.start(max_tokens)
    while len(context) < limit and len(context) <= main.capacity:
        room = min(limit - len(context) - 1, main.capacity - len(context))
        happened = _one_round(main, proposer, policy.plan(room), context, end_tokens, clock)
        policy.observe(happened)
        yield happened
        if happened.tokens and happened.tokens[-1] in end_tokens:
            return
        if happened.correction is None:
            raise NoValidToken


def _one_round(
    main: Model,
    proposer: Proposer,
    proposal: Proposal,
    context: list[int],
    end_tokens: Collection[int],
    clock: Callable[[], float],
) -> Round:
    """Append the tokens of one round to `context`, and leave the caches one token behind it."""
    # 1. Draft: the proposers fill the proposal until the policy stops them.
    started = clock()
    proposer.propose(context, proposal)
    proposal.close()
    drafted = _through_end(proposal.tokens, end_tokens)
    # 2. Verify: one call chooses the main model's token at every place, and one behind them all.
    proposed = clock()
    picks = main.extend(context[main.length :] + drafted, picks=len(drafted) + 1)
    verified = clock()
    # 3. Accept: the equal tokens, then the main model's own token, unless the answer ends before it.
    accepted = _agreement(drafted, picks)
    ended = accepted > 0 and drafted[accepted - 1] in end_tokens
    correction = None if ended or picks[accepted] == NO_PICK else picks[accepted]
    context += drafted[:accepted]
    if correction is not None:
        context.append(correction.token)
    # 4. Settle: cut rejected tokens out of the caches. The last token is read in the next round.
    main.rewind(len(context) - 1)
    proposer.settle(context)
    looked_up = min(proposal.looked_up, len(drafted))
    timing = proposed - started, verified - proposed, clock() - started
    return Round(tuple(drafted), looked_up, accepted, correction, *timing)


def _through_end(drafted: list[int], end_tokens: Collection[int]) -> list[int]:
    """Return `drafted` up to and including its first end token: nothing can follow one."""
    for i, token in enumerate(drafted):
        if token in end_tokens:
            return drafted[: i + 1]
    return drafted


def _agreement(drafted: Sequence[int], picks: Sequence[Pick]) -> int:
    """Count the leading drafted tokens that equal the main model's picks."""
    for i, token in enumerate(drafted):
        if token != picks[i].token:
            return i
    return len(drafted)


def prefill(
    model: Model,
    context: Sequence[int],
    *,
    end: Callable[[int], int],
    cancelled: Callable[[], bool],
    progress: Callable[[int, int], None],
) -> bool:
    """Read all but the last token of `context` into the cache, call by call.

    `end` gives the end of the call that begins at a token. `progress(done, total)` counts the tokens that
    were not cached. Return False if `cancelled` became true in between.
    """
    first, total = model.length, len(context) - 1
    while model.length < total:
        if cancelled():
            return False
        model.extend(context[model.length : min(end(model.length), total)], picks=0)
        progress(model.length - first, total - first)
    return True
