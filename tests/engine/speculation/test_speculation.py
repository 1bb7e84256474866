"""The loop: same seed, same text, whoever drafts; and exact bookkeeping of both caches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from tui.engine.speculation.estimates import Costs
from tui.engine.speculation.loop import Model, Pick, Proposal, Proposer, Round, generate, prefill
from tui.engine.speculation.policy import AdaptiveLength, FixedLength
from tui.engine.speculation.proposals import FixedProposal
from tui.engine.speculation.proposers import DraftModel, NullProposer, ProposersInTurn
from tui.engine.speculation.sampling import Chain, Sampler

VOCABULARY = 48
END = 47
PROMPT = [3, 1, 4, 1, 5]
LENGTHS = [0, 1, 2, 3, 8, 16]


class TableModel:
    """A model whose logits depend on all the tokens in its cache, and so on every mistake made there."""

    def __init__(self, sampler: Sampler, *, flaw: float = 0.0, capacity: int = 4096) -> None:
        """`flaw` mixes in other logits: a draft that is wrong more often the larger it is."""
        self.tokens: list[int] = []
        self.capacity = capacity
        self.evaluated = 0
        self._sampler = sampler
        self._flaw = flaw

    @property
    def length(self) -> int:
        return len(self.tokens)

    def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]:
        assert picks <= len(tokens)
        assert self.length + len(tokens) <= self.capacity
        self.evaluated += len(tokens)
        first = self.length
        self.tokens += tokens
        rows = range(first + len(tokens) - picks + 1, first + len(tokens) + 1)
        return [self._sampler.pick(self._logits(row), self.tokens, row) for row in rows]

    def rewind(self, length: int) -> None:
        assert 0 <= length <= self.length
        del self.tokens[length:]

    def _logits(self, length: int) -> np.ndarray:
        state = hash((tuple(self.tokens[length - 2 : length]), sum(self.tokens[:length]) % 7, length % 5))
        own = np.random.default_rng(state % 2**32).normal(0, 2.5, VOCABULARY)
        other = np.random.default_rng((state + 1) % 2**32).normal(0, 2.5, VOCABULARY)
        return (own + self._flaw * other).astype(np.float32)


class ChainingModel(TableModel):
    """It may choose up to `most` tokens in one call, and knows how many it was asked for."""

    def __init__(self, sampler: Sampler, *, flaw: float = 0.0, capacity: int = 4096, most: int = 16) -> None:
        super().__init__(sampler, flaw=flaw, capacity=capacity)
        self.asked: list[int] = []
        self._most = most

    def draft(self, tokens: Sequence[int], count: int) -> list[Pick]:
        self.asked.append(count)
        picks = self.extend(tokens, picks=1)
        while len(picks) < min(count, self._most) and self.length < self.capacity:
            picks += self.extend([picks[-1].token], picks=1)
        return picks


class Fixed:
    """Proposes what it was told, then nothing."""

    def __init__(self, *plans: list[int]) -> None:
        self.plans = list(plans)

    def propose(self, context: Sequence[int], proposal: Proposal) -> None:
        for token in self.plans.pop(0) if self.plans else ():
            proposal.add(token, 1.0)

    def settle(self, context: Sequence[int]) -> None:
        pass


class InTheseLengths:
    """Another draft length for each round."""

    def __init__(self, lengths: Iterator[int]) -> None:
        self._lengths = lengths

    def start(self, most: int) -> None:
        pass

    def plan(self, room: int, length: int | None = None) -> FixedProposal:
        return FixedProposal(min(next(self._lengths), room))

    def observe(self, happened: Round) -> None:
        pass


def sampler(seed: int = 1, temperature: float = 0.8, **chain: float) -> Sampler:
    return Sampler(Chain(temperature=temperature, **chain), seed, len(PROMPT))


def rounds(
    main: Model,
    proposer: Proposer,
    length: int = 4,
    tokens: int = 60,
    end: Sequence[int] = (),
    context: list[int] | None = None,
) -> list[Round]:
    context = PROMPT.copy() if context is None else context
    return list(
        generate(main, proposer, context, policy=FixedLength(length), end_tokens=set(end), max_tokens=tokens)
    )


def text(happened: list[Round]) -> list[int]:
    return [token for r in happened for token in r.tokens]


def plain(tokens: int = 60, end: Sequence[int] = (), **kind: float) -> list[int]:
    return text(rounds(TableModel(sampler(**kind)), NullProposer(), 0, tokens, end))


@pytest.mark.parametrize("flaw", [0.0, 0.3, 1.0, 50.0])
@pytest.mark.parametrize("temperature", [0.0, 0.8, 1.5])
def test_same_seed_same_text_with_any_draft_at_any_length(flaw: float, temperature: float) -> None:
    for seed, length in itertools.product(range(8), LENGTHS):
        draft = TableModel(sampler(seed, temperature), flaw=flaw)
        drafted = rounds(TableModel(sampler(seed, temperature)), DraftModel(draft, ()), length)
        assert text(drafted) == plain(seed=seed, temperature=temperature), (seed, length)


def test_penalties_see_the_drafted_tokens_and_never_the_rejected_ones() -> None:
    kind = {"repeat_penalty": 1.4, "presence_penalty": 0.5, "frequency_penalty": 0.3, "penalty_last_n": 8}
    for seed, length in itertools.product(range(8), LENGTHS):
        draft = TableModel(sampler(seed, **kind), flaw=0.5)
        drafted = rounds(TableModel(sampler(seed, **kind)), DraftModel(draft, ()), length)
        assert text(drafted) == plain(seed=seed, **kind)


def test_a_draft_that_is_always_right_gives_one_token_more_than_it_drafted() -> None:
    happened = rounds(TableModel(sampler()), DraftModel(TableModel(sampler()), ()), length=2, tokens=30)
    assert [(r.accepted, len(r.tokens)) for r in happened] == [(2, 3)] * 10


@pytest.mark.parametrize("wrong_at", range(5))
def test_the_first_wrong_draft_is_replaced_by_the_main_models_choice_at_its_row(wrong_at: int) -> None:
    truth = plain(5)
    proposal = [*truth[:wrong_at], (truth[wrong_at] + 1) % VOCABULARY, *truth[wrong_at + 1 :]]
    [first, *_] = rounds(TableModel(sampler()), Fixed(proposal[:4]), tokens=5)
    assert first.accepted == wrong_at
    assert list(first.tokens) == truth[: wrong_at + 1]


def test_both_caches_hold_what_stands_and_nothing_else_after_every_round() -> None:
    main, draft = TableModel(sampler()), TableModel(sampler(), flaw=0.5)
    context = PROMPT.copy()
    for r in generate(
        main, DraftModel(draft, ()), context, policy=FixedLength(4), end_tokens=(), max_tokens=200
    ):
        assert main.tokens == context[:-1]
        assert draft.tokens == context[: draft.length]
        lag = 2 if r.accepted == len(r.drafted) else 1
        assert draft.length == len(context) - lag


def test_the_draft_reads_each_token_that_stands_once() -> None:
    draft = TableModel(sampler(), flaw=0.5)
    happened = rounds(TableModel(sampler()), DraftModel(draft, ()), length=4, tokens=200)
    rejected = sum(max(0, len(r.drafted) - 1 - r.accepted) for r in happened)
    assert draft.evaluated == draft.length + rejected


def test_a_draft_goes_on_where_the_proposer_before_it_left_off() -> None:
    found = Fixed(plain()[:2])
    [first, *_] = rounds(
        TableModel(sampler()), ProposersInTurn(found, DraftModel(TableModel(sampler()), ())), length=4
    )
    assert (len(first.drafted), first.accepted) == (4, 4)


def test_nothing_is_fed_to_the_draft_while_drafting_is_off() -> None:
    draft = TableModel(sampler())
    rounds(TableModel(sampler()), DraftModel(draft, ()), length=0)
    assert draft.evaluated == 0


@pytest.mark.parametrize("most", [1, 2, 16])
@pytest.mark.parametrize("flaw", [0.0, 0.5])
def test_a_draft_that_makes_its_choices_in_one_call_drafts_the_same(flaw: float, most: int) -> None:
    """However few of those that it is asked for it makes."""
    for seed, length in itertools.product(range(4), LENGTHS):
        draft = ChainingModel(sampler(seed), flaw=flaw, most=most)
        alone = TableModel(sampler(seed), flaw=flaw)
        found = rounds(TableModel(sampler(seed)), DraftModel(draft, ()), length)
        expected = rounds(TableModel(sampler(seed)), DraftModel(alone, ()), length)
        assert [r.drafted for r in found] == [r.drafted for r in expected]
        assert draft.tokens == alone.tokens
        if length > 1 and most == 16:
            assert draft.asked[0] == length


def test_a_chain_of_choices_is_cut_at_its_end_token_and_at_the_end_of_the_cache() -> None:
    truth = plain()
    end = truth[11]
    draft = ChainingModel(sampler())
    happened = rounds(TableModel(sampler()), DraftModel(draft, {end}), length=8, end=[end])
    assert text(happened) == truth[: truth.index(end) + 1]
    assert all(end not in r.drafted[:-1] for r in happened)
    small = ChainingModel(sampler(), capacity=20)
    assert text(rounds(TableModel(sampler()), DraftModel(small, ()), length=8)) == truth


def test_a_pace_that_weighs_each_token_asks_for_one_at_a_time() -> None:
    draft = ChainingModel(sampler())
    policy = AdaptiveLength(Costs({1: 1.0, 17: 1.1}, 0.01, 0.01))
    happened = generate(
        TableModel(sampler()),
        DraftModel(draft, ()),
        PROMPT.copy(),
        policy=policy,
        end_tokens=(),
        max_tokens=60,
        clock=lambda: 0.0,
    )
    assert sum(len(r.drafted) for r in happened) > 30
    assert draft.asked == []


def test_the_draft_length_may_change_in_the_middle_of_an_answer() -> None:
    lengths = itertools.cycle([0, 0, 5, 1, 16, 2])
    context = PROMPT.copy()
    proposer = DraftModel(TableModel(sampler(), flaw=0.3), ())
    happened = list(
        generate(
            TableModel(sampler()),
            proposer,
            context,
            policy=InTheseLengths(lengths),
            end_tokens=(),
            max_tokens=60,
        )
    )
    assert text(happened) == plain() == context[len(PROMPT) :]


@pytest.mark.parametrize("length", LENGTHS)
def test_exactly_max_tokens(length: int) -> None:
    for tokens in range(1, 21):
        drafted = rounds(
            TableModel(sampler()), DraftModel(TableModel(sampler(), flaw=0.3), ()), length, tokens
        )
        assert text(drafted) == plain(60)[:tokens]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("seed", range(6))
def test_an_answer_ends_with_its_first_end_token(length: int, seed: int) -> None:
    ends = plain(seed=seed)[7:9]
    truth = plain(seed=seed)
    truth = truth[: 1 + next(i for i, token in enumerate(truth) if token in ends)]
    context = PROMPT.copy()
    main = TableModel(sampler(seed))
    happened = rounds(main, DraftModel(TableModel(sampler(seed), flaw=0.2), ends), length, 60, ends, context)
    assert text(happened) == truth
    assert context == PROMPT + truth
    assert main.tokens == context[:-1]


def test_nothing_follows_an_end_token_inside_a_proposal() -> None:
    truth = plain(6)
    main = TableModel(sampler())
    [only] = rounds(main, Fixed(truth[:5]), length=5, end=[truth[2]])
    assert list(only.tokens) == truth[:3]
    assert only.correction is None
    assert main.tokens == PROMPT + truth[:2]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("capacity", range(5, 16))
def test_a_full_context_ends_the_answer_without_an_error(length: int, capacity: int) -> None:
    main = TableModel(sampler(), capacity=capacity)
    draft = TableModel(sampler(), flaw=0.3, capacity=capacity)
    happened = rounds(main, DraftModel(draft, ()), length)
    assert text(happened) == plain(capacity - len(PROMPT) + 1)


def test_a_smaller_draft_context_only_ends_the_drafting() -> None:
    draft = TableModel(sampler(), capacity=20)
    happened = rounds(TableModel(sampler()), DraftModel(draft, ()))
    assert text(happened) == plain()
    assert not happened[-1].drafted


def test_stopping_between_two_rounds_leaves_a_state_to_go_on_from() -> None:
    main, proposer = TableModel(sampler()), DraftModel(TableModel(sampler(), flaw=0.3), ())
    context = PROMPT.copy()
    for _ in itertools.islice(
        generate(main, proposer, context, policy=FixedLength(4), end_tokens=(), max_tokens=60), 3
    ):
        pass
    rounds(main, proposer, tokens=60 - (len(context) - len(PROMPT)), context=context)
    assert context[len(PROMPT) :] == plain()


def test_a_round_accounts_for_its_time() -> None:
    ticks = itertools.count()
    context = PROMPT.copy()
    [r] = generate(
        TableModel(sampler()),
        NullProposer(),
        context,
        policy=FixedLength(0),
        end_tokens=(),
        max_tokens=1,
        clock=lambda: float(next(ticks)),
    )
    assert (r.draft_seconds, r.verify_seconds, r.seconds) == (1.0, 1.0, 3.0)


def test_prefill_leaves_the_last_token_and_reports_each_chunk() -> None:
    model = TableModel(sampler())
    seen: list[tuple[int, int]] = []
    context = list(range(10))
    assert prefill(
        model, context, end=lambda at: at + 4, cancelled=lambda: False, progress=lambda *p: seen.append(p)
    )
    assert model.tokens == context[:-1]
    assert seen == [(4, 9), (8, 9), (9, 9)]


def test_prefill_reports_only_what_was_not_cached() -> None:
    model = TableModel(sampler())
    seen: list[tuple[int, int]] = []
    model.extend(list(range(6)), picks=0)
    assert prefill(
        model,
        list(range(10)),
        end=lambda at: at + 2,
        cancelled=lambda: False,
        progress=lambda *p: seen.append(p),
    )
    assert seen == [(2, 3), (3, 3)]


def test_prefill_stops_between_chunks_when_cancelled() -> None:
    model = TableModel(sampler())
    done = prefill(
        model,
        list(range(10)),
        end=lambda at: at + 4,
        cancelled=lambda: model.length >= 4,
        progress=lambda *_: None,
    )
    assert not done
    assert model.length == 4
