"""Speculative decoding: draft, verify, accept.

A small draft model proposes a few tokens; the main model reads them all in one pass and says, at each
place, which token it would have chosen itself. As far as the two agree, several tokens have been won for
the price of about one. At the first disagreement the main model's own choice stands, so every round
brings at least one token, and every token is the main model's choice.

Acceptance is equality. A choice depends on the context, on the seed and on the index of the token in the
answer, and on nothing else (see `sampling`). The text is therefore the same with a draft, with another
draft and with none; a draft changes only how soon it comes. Drafting nothing is plain decoding.

This module handles token ids. It knows no text, no file and no device, and imports nothing of ours.
Source of the scheme: Leviathan, Kalman, Matias, arXiv 2211.17192; shared noise: Daliri, Musco, Suresh,
arXiv 2408.07978.
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


NOTHING = Pick(-1, 0.0)
"""Stands where no token may follow. It may well be behind drafted tokens that will be refused."""


class NothingFollows(Exception):
    """No token may follow the answer, and it is not complete either."""


class Model(Protocol):
    """What speculation needs of a loaded model: a KV cache that can grow, choose and be cut back."""

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        ...

    @property
    def capacity(self) -> int:
        """Most tokens that the cache can hold."""
        ...

    def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]:
        """Run `tokens` behind the cache and choose the next token at each of the last `picks` of them."""
        ...

    def rewind(self, length: int) -> None:
        """Cut the cache back to its first `length` tokens; `length` may not exceed the cache's."""
        ...


class Proposal(Protocol):
    """The tokens proposed for one round, as they gather; it says when another is not worth its cost."""

    tokens: list[int]
    looked_up: int
    """How many of `tokens`, from the left, an n-gram lookup found; the others are a draft model's."""

    def may_read(self, unread: int) -> int:
        """How many of the `unread` tokens of the context a draft model may read now; 0 leaves it idle."""
        ...

    def wants_more(self) -> int:
        """How many more tokens a draft model should pay for before it tells of any; 0 for none."""
        ...

    def add(self, token: int, confidence: float, *, looked_up: bool = False) -> bool:
        """Propose `token`. False if no other is wanted behind it.

        `confidence` is 0 to 1 and need only rise with the chance that the main model agrees. A draft's
        token goes behind `tokens`, if it is worth verifying; a lookup's goes behind those that it has found
        already, and is taken when it is its turn.
        """
        ...

    def close(self) -> None:
        """Nobody has more to say: `tokens` is then what is verified."""
        ...


class Proposer(Protocol):
    """Who rides ahead: anything that can guess how the context goes on."""

    def propose(self, context: Sequence[int], proposal: Proposal) -> None:
        """Add tokens that may follow `context` and what `proposal` holds already; none is allowed."""
        ...

    def settle(self, context: Sequence[int]) -> None:
        """The round is over and `context` is what stands; forget whatever was proposed beyond it."""
        ...


class Pace(Protocol):
    """How far to ride ahead."""

    def start(self) -> None:
        """An answer begins."""
        ...

    def plan(self, room: int, length: int | None = None) -> Proposal:
        """An empty proposal for the next round; it may take at most `room` tokens, and if `length` is given,
        exactly so many where there is room and somebody has them."""
        ...

    def observe(self, happened: Round) -> None:
        """The round that the last plan led to."""
        ...


@dataclass(frozen=True, slots=True)
class Round:
    """All that happened in one round; colours, acceptance and every statistic derive from it."""

    drafted: tuple[int, ...]
    looked_up: int
    """How many of `drafted`, from the left, an n-gram lookup found; the others are the draft model's."""
    accepted: int
    """How many of `drafted`, from the left, the main model chose too."""
    correction: Pick | None
    """The main model's own token behind the accepted ones; None if the answer ended before it."""
    draft_seconds: float
    verify_seconds: float
    seconds: float
    """The whole round, drafting and verification included."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """What the round adds to the answer."""
        own = () if self.correction is None else (self.correction.token,)
        return self.drafted[: self.accepted] + own


def generate(
    main: Model,
    proposer: Proposer,
    context: list[int],
    *,
    pace: Pace,
    end_tokens: Collection[int],
    max_tokens: int,
    clock: Callable[[], float] = perf_counter,
) -> Iterator[Round]:
    """Continue `context` in place, one round at a time, until an end token, `max_tokens` or a full cache.

    `context` must not be empty, and `main` must hold a prefix of it; all but its last token should be in
    the cache already (see `prefill`). Stop between two rounds by not asking for the next. Raises
    `NothingFollows` behind the last round that could be.
    """
    limit = len(context) + max_tokens
    pace.start()
    while len(context) < limit and len(context) <= main.capacity:
        started = clock()
        room = min(limit - len(context) - 1, main.capacity - len(context))
        proposal = pace.plan(room)
        proposer.propose(context, proposal)
        proposal.close()
        drafted = _through_end(proposal.tokens, end_tokens)
        proposed = clock()
        picks = main.extend(context[main.length :] + drafted, picks=len(drafted) + 1)
        verified = clock()
        accepted = _agreement(drafted, picks)
        ended = accepted > 0 and drafted[accepted - 1] in end_tokens
        correction = None if ended or picks[accepted] == NOTHING else picks[accepted]
        context += drafted[:accepted]
        if correction is not None:
            context.append(correction.token)
        main.rewind(len(context) - 1)
        proposer.settle(context)
        happened = Round(
            tuple(drafted),
            min(proposal.looked_up, len(drafted)),
            accepted,
            correction,
            proposed - started,
            verified - proposed,
            clock() - started,
        )
        pace.observe(happened)
        yield happened
        if correction is None and not ended:
            raise NothingFollows
        if context[-1] in end_tokens:
            return


def _through_end(drafted: list[int], end_tokens: Collection[int]) -> list[int]:
    """`drafted` up to and including its first end token: nothing can follow one."""
    for i, token in enumerate(drafted):
        if token in end_tokens:
            return drafted[: i + 1]
    return drafted


def _agreement(drafted: Sequence[int], picks: Sequence[Pick]) -> int:
    """How many leading drafted tokens equal the main model's picks."""
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
    """Bring all but the last token of `context` into the cache, call by call.

    `end` says where the call ends that begins at a token. `progress(done, total)` counts the tokens that were
    not cached. False if `cancelled` said so in between.
    """
    first, total = model.length, len(context) - 1
    while model.length < total:
        if cancelled():
            return False
        model.extend(context[model.length : min(end(model.length), total)], picks=0)
        progress(model.length - first, total - first)
    return True
