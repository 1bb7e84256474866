"""A draft model call by call: what it reads, when it drafts, and what its cache holds afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tui.engine.speculation.loop import NO_PICK, Pick
from tui.engine.speculation.proposals import FixedProposal
from tui.engine.speculation.proposers import DraftModel, ProposersInTurn

CONTEXT = list(range(100, 110))


class Counting:
    """A draft model that counts on: 109 is followed by 110. It notes every call."""

    def __init__(self, capacity: int = 1_000) -> None:
        self.capacity = capacity
        self.tokens: list[int] = []
        self.calls: list[tuple[list[int], int]] = []
        """The tokens of each call of `extend`, and how many choices were asked for."""

    @property
    def length(self) -> int:
        return len(self.tokens)

    def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]:
        assert tokens
        self.tokens += tokens
        assert self.length <= self.capacity
        self.calls.append((list(tokens), picks))
        return [Pick(self.tokens[-1] + 1, 0.9)] * picks

    def rewind(self, length: int) -> None:
        assert length <= self.length
        del self.tokens[length:]


class Reads(FixedProposal):
    """A proposal that lets a draft read `slices` in turn; it notes how much was unread each time."""

    def __init__(self, length: int, most: int | None = None, tokens: Sequence[int] = ()) -> None:
        super().__init__(length)
        self.tokens = list(tokens)
        self.unread: list[int] = []
        self._most = most

    def may_read(self, unread: int) -> int:
        self.unread.append(unread)
        return self._reads(unread, unread if self._most is None else min(unread, self._most))


class Guess:
    """Proposes these tokens, however the context ends."""

    def __init__(self, *tokens: int) -> None:
        self._tokens = tokens

    def propose(self, context: Sequence[int], proposal: FixedProposal) -> None:
        for token in self._tokens:
            proposal.add(token, 1.0, looked_up=True)

    def settle(self, context: Sequence[int]) -> None:
        pass


def test_it_reads_what_it_has_not_seen_and_then_its_own_choices_one_by_one() -> None:
    model, proposal = Counting(), Reads(3)
    DraftModel(model, ()).propose(CONTEXT, proposal)
    assert proposal.unread == [10]
    assert proposal.tokens == [110, 111, 112]
    assert model.calls == [(CONTEXT, 1), ([110], 1), ([111], 1)]


@pytest.mark.parametrize(
    ("stands", "lag"),
    [([110, 111, 112, 7], 2), ([110, 111, 7], 1), ([110, 7], 1), ([7], 1)],
    ids=["all accepted", "one rejected", "two rejected", "all rejected"],
)
def test_in_the_next_round_it_lags_by_two_tokens_or_one_and_drafts_at_once(
    stands: list[int], lag: int
) -> None:
    model = Counting()
    draft, context = DraftModel(model, ()), [*CONTEXT]
    draft.propose(context, Reads(3))
    context += stands
    draft.settle(context)
    assert model.tokens == context[:-lag]
    proposal = Reads(2)
    draft.propose(context, proposal)
    assert proposal.unread == [lag]
    assert proposal.tokens == [8, 9]
    assert model.calls[-2:] == [(context[-lag:], 1), ([8], 1)]


def test_a_long_lag_is_read_in_slices_and_drafting_begins_with_the_last() -> None:
    model = Counting()
    draft = DraftModel(model, ())
    for unread, slice_ in ((10, CONTEXT[:4]), (6, CONTEXT[4:8])):
        proposal = Reads(2, most=4)
        draft.propose(CONTEXT, proposal)
        assert (proposal.unread, proposal.tokens) == ([unread], [])
        assert model.calls[-1] == (slice_, 0)
    proposal = Reads(2, most=4)
    draft.propose(CONTEXT, proposal)
    assert proposal.tokens == [110, 111]
    assert model.calls[2:] == [(CONTEXT[8:], 1), ([110], 1)]


def test_where_it_may_read_nothing_it_does_nothing() -> None:
    model, proposal = Counting(), Reads(4, most=0)
    DraftModel(model, ()).propose(CONTEXT, proposal)
    assert not model.calls and not proposal.tokens


class Found(Reads):
    """A proposal that takes all that was looked up as soon as the draft model is there."""

    def wants_more(self) -> int:
        self._copy(0.0)
        return super().wants_more()


def test_behind_what_was_looked_up_it_reads_that_too_and_forgets_it_if_it_falls() -> None:
    model = Counting()
    both, context = ProposersInTurn(Guess(50, 51), DraftModel(model, ())), [*CONTEXT]
    both.propose(context, proposal := Found(4))
    assert proposal.unread == [10]
    assert proposal.tokens == [50, 51, 52, 53]
    assert model.tokens == [*CONTEXT, 50, 51, 52]
    context += [50, 7]
    both.settle(context)
    assert model.tokens == context[:-1]
    both.propose(context, proposal := Found(4))
    assert proposal.unread == [1]
    assert proposal.tokens == [50, 51, 52, 53]


def test_a_copy_that_the_draft_has_confirmed_goes_on_and_is_read_at_once() -> None:
    class Sure(Reads):
        """Copies nothing before the draft has said something, and two tokens then."""

        def wants_more(self) -> int:
            if len(self.tokens) == 1:
                self._limit, limit = 3, self._limit
                self._copy(0.0)
                self._limit = limit
            return self._limit - len(self.tokens)

    model, proposal = Counting(), Sure(5)
    ProposersInTurn(Guess(110, 111, 112, 113), DraftModel(model, ())).propose(CONTEXT, proposal)
    assert proposal.tokens == [110, 111, 112, 113, 114]
    assert proposal.looked_up == 3
    assert model.calls == [(CONTEXT, 1), ([110, 111, 112], 1), ([113], 1)]
    assert (proposal.calls, proposal.extra) == (3, 9 + 2)


@pytest.mark.parametrize("others", [[9], [50, 9]])
def test_nothing_is_drafted_behind_an_end_token(others: list[int]) -> None:
    model, proposal = Counting(), Reads(8, tokens=others)
    DraftModel(model, {9}).propose(CONTEXT, proposal)
    assert proposal.tokens == others and not model.calls
    proposal = Reads(8)
    DraftModel(model, {111}).propose(CONTEXT, proposal)
    assert proposal.tokens == [110, 111]


def test_it_drafts_down_to_the_last_cell_of_its_cache() -> None:
    model, proposal = Counting(capacity=12), Reads(8)
    draft = DraftModel(model, ())
    draft.propose(CONTEXT, proposal)
    assert model.length == 12
    assert proposal.tokens == [110, 111, 112]
    context = [*CONTEXT, *range(110, 114)]
    draft.settle(context)
    draft.propose(context, proposal := Reads(8))
    assert not proposal.tokens and len(model.calls) == 3


def test_of_a_context_longer_than_its_cache_it_reads_what_there_is_room_for() -> None:
    model = Counting(capacity=12)
    draft = DraftModel(model, ())
    draft.propose(CONTEXT, Reads(1))
    context = [*CONTEXT, *range(110, 120)]
    draft.settle(context)
    for _ in range(2):
        draft.propose(context, proposal := Reads(8))
        assert not proposal.tokens
        assert model.tokens == context[:12]


def test_where_nothing_may_follow_it_drafts_nothing() -> None:
    class Stuck(Counting):
        def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]:
            return [NO_PICK for _ in super().extend(tokens, picks)]

    proposal = Reads(4)
    DraftModel(Stuck(), ()).propose(CONTEXT, proposal)
    assert not proposal.tokens
