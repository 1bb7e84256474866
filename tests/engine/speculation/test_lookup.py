"""N-gram lookup: every proposal is a copy, the right one, and control tokens are never crossed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

import pytest

from tui.engine.speculation.lookup import Lookup, Occurrences
from tui.engine.speculation.loop import Pick, Proposer, Round, generate
from tui.engine.speculation.proposers import NullProposer

BAR = 0
"""The control token of these tests."""


class Taken:
    """A proposal of at most `most` tokens that refuses what is less likely than `least`."""

    def __init__(self, most: int = 8, least: float = 0.0, tokens: Sequence[int] = ()) -> None:
        self.tokens = list(tokens)
        self.looked_up = 0
        self.confidences: list[float] = []
        self._most = most + len(self.tokens)
        self._least = least

    def may_read(self, unread: int) -> int:
        return 0

    def wants_more(self) -> bool:
        return False

    def add(self, token: int, confidence: float, *, looked_up: bool = False) -> bool:
        assert looked_up
        if len(self.tokens) == self._most or confidence < self._least:
            return False
        self.tokens.append(token)
        self.confidences.append(confidence)
        self.looked_up += 1
        return True

    def close(self) -> None:
        pass


class Mood:
    """A main model that often repeats itself; its choice hangs on all the tokens in its cache."""

    capacity = 10**6

    def __init__(self, seed: int) -> None:
        self._tokens: list[int] = []
        self._seed = seed

    @property
    def length(self) -> int:
        return len(self._tokens)

    def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]:
        self._tokens += tokens
        return [self._pick(self._tokens[: self.length - i]) for i in reversed(range(picks))]

    def rewind(self, length: int) -> None:
        del self._tokens[length:]

    def _pick(self, tokens: list[int]) -> Pick:
        rng = random.Random(f"{self._seed} {tokens}")
        return Pick(rng.randrange(8) if rng.random() < 0.1 else (tokens[-1] * 3 + tokens[-2]) % 8, 1.0)


class UpTo:
    """A policy that takes `length` tokens in every round, however unlikely."""

    def __init__(self, length: int) -> None:
        self._length = length

    def start(self, most: int) -> None:
        pass

    def plan(self, room: int, length: int | None = None) -> Taken:
        return Taken(min(self._length, room))

    def observe(self, happened: Round) -> None:
        pass


def looked_up(context: list[int], most: int = 8, lookup: Lookup | None = None) -> list[int]:
    proposal = Taken(most)
    (lookup or Lookup({BAR})).propose(context, proposal)
    return proposal.tokens


def confidences(context: list[int], most: int = 8) -> list[float]:
    proposal = Taken(most)
    Lookup({BAR}).propose(context, proposal)
    return proposal.confidences


class Scripted:
    """A main model that says one text, whatever it was fed."""

    capacity = 10**6

    def __init__(self, prompt: Sequence[int], text: Sequence[int]) -> None:
        self.length = len(prompt) - 1
        self._whole = [*prompt, *text]

    def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]:
        self.length += len(tokens)
        rows = range(self.length - picks + 1, self.length + 1)
        return [Pick(self._whole[row] if row < len(self._whole) else BAR, 1.0) for row in rows]

    def rewind(self, length: int) -> None:
        self.length = length


def rounds(prompt: list[int], text: list[int], proposer: Proposer, length: int = 10) -> list[Round]:
    main = Scripted(prompt, text)
    policy = UpTo(length)
    happened = list(
        generate(main, proposer, prompt.copy(), policy=policy, end_tokens=(), max_tokens=len(text))
    )
    assert [token for r in happened for token in r.tokens] == text
    return happened


def random_tokens(rng: random.Random, count: int, vocabulary: int = 5000) -> list[int]:
    return [rng.randrange(1, vocabulary) for _ in range(count)]


# Which match


def test_it_proposes_what_followed_the_same_three_tokens() -> None:
    assert looked_up([1, 2, 3, 4, 5, 9, 1, 2, 3], most=3) == [4, 5, 9]


@pytest.mark.parametrize("context", [[], [1], [1, 2, 3], [1, 2, 3, 4, 5, 6], [1, 2, 7, 8, 1, 2]])
def test_without_three_equal_tokens_it_proposes_nothing(context: list[int]) -> None:
    assert looked_up(context) == []


def test_the_longest_match_comes_before_a_more_recent_one() -> None:
    assert looked_up([9, 1, 2, 3, 40, 8, 1, 2, 3, 50, 9, 1, 2, 3], most=1) == [40]


def test_of_equally_long_matches_the_most_recent_is_copied() -> None:
    assert looked_up([7, 1, 2, 3, 40, 8, 1, 2, 3, 50, 9, 1, 2, 3], most=1) == [50]


def test_a_match_is_no_longer_than_asked() -> None:
    context = [6, 7, 8, 1, 2, 3, 40, 5, 7, 8, 1, 2, 3, 50, 6, 7, 8, 1, 2, 3]
    assert looked_up(context, 1, Lookup({BAR}, longest=6)) == [40]
    assert looked_up(context, 1, Lookup({BAR}, longest=5)) == [50]


def test_the_shortest_match_can_be_set() -> None:
    context = [1, 2, 3, 4, 5, 1, 2]
    assert looked_up(context, 2, Lookup({BAR}, shortest=2)) == [3, 4]
    assert looked_up([9, *context, 3, 4], 2, Lookup({BAR}, shortest=5)) == []


def test_a_repetition_goes_on_by_copying_its_own_proposals() -> None:
    assert looked_up([7, 1, 2, 1, 2, 1, 2], most=6) == [1, 2, 1, 2, 1, 2]
    assert looked_up([5] * 9, most=7) == [5] * 7


def test_it_ends_by_itself_where_the_proposal_would_take_any_number() -> None:
    assert len(looked_up([7, 1, 2, 1, 2, 1, 2], most=10**9)) < 100


def test_it_goes_on_behind_what_is_proposed_already() -> None:
    proposal = Taken(2, tokens=[2, 3])
    Lookup({BAR}).propose([1, 2, 3, 4, 5, 9, 1], proposal)
    assert proposal.tokens == [2, 3, 4, 5]
    assert proposal.looked_up == 2


def test_what_was_copied_behind_rejected_tokens_is_not_resumed() -> None:
    lookup, context = Lookup({BAR}), [1, 2, 3, 4, 5, 9, 1]
    lookup.propose(context, Taken(2, tokens=[2, 3]))
    assert looked_up([*context, 60], lookup=lookup) == []


# Barriers


def test_a_copy_stops_before_a_barrier() -> None:
    assert looked_up([1, 2, 3, 4, BAR, 5, 9, 1, 2, 3]) == [4]
    assert looked_up([1, 2, 3, BAR, 5, 9, 1, 2, 3]) == []


def test_a_match_holds_no_barrier() -> None:
    assert looked_up([1, BAR, 2, 3, 4, 5, 9, 1, BAR, 2, 3]) == []
    assert looked_up([1, 2, BAR, 4, 5, 9, 1, 2, BAR]) == []


def test_tokens_before_a_barrier_do_not_lengthen_a_match() -> None:
    context = [6, BAR, 1, 2, 3, 40, 8, 1, 2, 3, 50, 6, BAR, 1, 2, 3]
    assert looked_up(context, 1) == [50]
    assert looked_up([7 if token == BAR else token for token in context], 1) == [40]


def test_a_copy_is_not_resumed_across_a_barrier() -> None:
    source = [*range(10, 20), BAR, *range(20, 30)]
    assert resumed(source, [*range(10, 20), 99, 20]) == []
    assert resumed(source, [*range(10, 20), BAR, 20, 21]) == []
    assert resumed([*range(10, 30)], [*range(10, 15), 99, BAR, 16]) == []


# After an edit


def resumed(source: list[int], answer: list[int], most: int = 4) -> list[int]:
    """What is proposed behind `answer`, which copies `source` and then leaves it.

    The first four tokens stand in the prompt; the proposals in between are made as the answer goes on.
    """
    lookup = Lookup({BAR})
    context = [1, *source, BAR, 2, *answer[:4]]
    looked_up(context, 20, lookup)
    for token in answer[4:]:
        context.append(token)
        proposed = looked_up(context, most, lookup)
    return proposed


SOURCE = list(range(10, 40))


def test_a_copy_is_resumed_right_behind_a_replaced_token() -> None:
    assert resumed(SOURCE, [*range(10, 20), 99]) == [21, 22, 23, 24]


def test_a_copy_is_resumed_behind_two_replaced_tokens() -> None:
    assert resumed(SOURCE, [*range(10, 20), 99, 98]) == [22, 23, 24, 25]


def test_a_copy_is_resumed_as_soon_as_one_token_agrees_behind_an_insertion() -> None:
    assert resumed(SOURCE, [*range(10, 20), 99, 98, 97, 20]) == [21, 22, 23, 24]


def test_a_copy_is_resumed_behind_a_deletion() -> None:
    assert resumed(SOURCE, [*range(10, 20), 24]) == [25, 26, 27, 28]


def test_more_than_eight_tokens_are_not_taken_for_left_out() -> None:
    assert resumed(SOURCE, [*range(10, 20), 28]) == [29, 30, 31, 32]
    assert resumed(SOURCE, [*range(10, 20), 29]) == [21, 22, 23, 24], "a replaced token, more likely"


def test_a_copy_is_resumed_behind_a_name_that_grew_or_shrank() -> None:
    assert resumed(SOURCE, [*range(10, 20), 99, 98, 97, 21]) == [22, 23, 24, 25]
    assert resumed(SOURCE, [*range(10, 20), 99, 23]) == [24, 25, 26, 27]


def test_of_several_places_to_resume_the_one_with_most_agreement_is_taken_then_the_nearest() -> None:
    source = [*range(10, 20), 50, 7, 51, 52, 60, 8, 7, 52, 53]
    assert resumed(source, [*range(10, 20), 99, 98, 7], 1) == [51]
    assert resumed(source, [*range(10, 20), 99, 98, 7, 52], 1) == [53]


def test_a_copy_is_resumed_at_the_very_beginning_and_at_the_very_end_of_the_context() -> None:
    lookup, context = Lookup({BAR}), [1, 2, 3, 4, 5, 6, BAR, 1, 2, 3]
    for token in (*range(90, 97), 4):
        looked_up(context, 1, lookup)
        context.append(token)
    assert looked_up(context, 1, lookup) == [5]
    lookup, context = Lookup({BAR}), [7, 5, 5, 5, 5]
    assert looked_up(context, 2, lookup) == [5, 5]
    assert looked_up([*context, 9], 2, lookup) == [9, 9]


def test_a_copy_is_given_up_after_an_edit_without_end() -> None:
    assert resumed(SOURCE, [*range(10, 20), *range(80, 95), 21]) == []
    assert resumed(SOURCE, [*range(10, 20), 99, 98, 97, 96]) == []


def test_another_match_that_failed_does_not_replace_the_copy_to_resume() -> None:
    source = [*range(10, 30), 5, 60, 61, 70, 71]
    assert resumed(source, [*range(10, 20), 5, 60, 61, 21]) == [22, 23, 24, 25]


def test_a_longer_match_elsewhere_wins_over_the_copy_to_resume() -> None:
    source = [*range(10, 21), 61, *range(21, 30), 5, 60, 61, 70, 71]
    assert resumed(source, [*range(10, 20), 5, 61], 2) == [21, 22]
    assert resumed(source, [*range(10, 20), 5, 60, 61], 2) == [70, 71]


def test_a_copy_to_resume_wins_over_a_more_recent_match_of_the_same_tokens() -> None:
    source = [*range(10, 30), 8, 21, 22, 23, 90]
    assert resumed(source, [*range(10, 20), 99, 21, 22, 23], 2) == [24, 25]


def test_edits_in_a_row_are_each_resumed_behind() -> None:
    assert resumed(SOURCE, [*range(10, 20), 99, 21, 22, 98]) == [24, 25, 26, 27]


def test_the_newer_of_two_rejected_copies_is_resumed_if_as_much_spoke_for_it() -> None:
    lookup, context = Lookup({BAR}), [1, 2, 3, *range(40, 50), 6, 7, 8, 9, 50, 51, BAR, 1, 2, 3]
    assert looked_up(context, 1, lookup) == [40]
    for token in (30, 6, 7, 8):
        context.append(token)
        proposed = looked_up(context, 1, lookup)
    assert proposed == [9]
    context.append(99)
    assert looked_up(context, 2, lookup) == [50, 51]


def test_the_copy_at_hand_goes_on_where_a_more_recent_match_is_only_compared_in_part() -> None:
    lookup = Lookup({BAR}, longest=4)
    row = [11, 12, 13, 14]
    context = [1, *range(20, 30), *row, 40, 41, 8, *row, 50, 51, BAR, *range(20, 24)]
    assert looked_up(context, 8, lookup) == [24, 25, 26, 27, 28, 29, 11, 12]
    context += [*range(24, 30), *row]
    assert looked_up(context, 2, lookup) == [40, 41]
    assert looked_up(context, 2, Lookup({BAR}, longest=4)) == [50, 51]


# Confidence


def test_confidence_rises_with_the_match_and_with_every_token() -> None:
    short, long = ([*range(3, 30), 50, *range(10 - n, 10)] for n in (3, 6))
    assert confidences(short)[0] < confidences(long)[0]
    rising = confidences(long)
    assert rising == sorted(set(rising))
    assert all(0 < value < 1 for value in rising)


def test_confidence_is_the_share_of_equal_tokens_and_of_agreeing_sources() -> None:
    assert confidences([1, 2, 3, 40, 41, 1, 2, 3], 2) == [3 / (3 + 3), 4 / (4 + 3)]
    assert confidences([1, 2, 3, 40, 8, 1, 2, 3, 50, 9, 1, 2, 3], 2) == [3 / (3 * 2 + 3), 4 / (4 + 3)]


def test_confidence_falls_where_earlier_occurrences_went_on_differently() -> None:
    torn = confidences([1, 2, 3, 40, 8, 1, 2, 3, 50, 9, 1, 2, 3], 1)
    once = confidences([1, 2, 3, 50, 9, 1, 2, 3], 1)
    twice = confidences([1, 2, 3, 50, 8, 1, 2, 3, 50, 9, 1, 2, 3], 1)
    assert torn < once < twice


def test_a_full_match_is_put_to_the_vote_as_well() -> None:
    context = [1, 2, 3, 40, 8, 1, 2, 3, 50, 9, 1, 2, 3]
    torn, full = Taken(1), Taken(1)
    Lookup({BAR}).propose(context, torn)
    Lookup({BAR}, longest=3).propose(context, full)
    assert full.confidences == torn.confidences


def test_who_went_another_way_has_no_say_afterwards() -> None:
    torn = confidences([1, 2, 3, 40, 41, 8, 1, 2, 3, 50, 51, 9, 1, 2, 3], 2)
    once = confidences([1, 2, 3, 50, 51, 9, 1, 2, 3], 2)
    assert torn[0] < once[0]
    assert torn[1] == once[1]


def test_a_resumed_copy_is_less_sure_than_one_at_hand() -> None:
    lookup, context = Lookup({BAR}), [1, *range(10, 500), BAR, *range(10, 16)]
    first, second = Taken(), Taken()
    lookup.propose(context, first)
    context += [*range(16, 300), 999]
    lookup.propose(context, second)
    assert second.tokens[0] == 301
    assert 0 < second.confidences[0] < first.confidences[0]


# The index


def test_the_index_follows_a_growing_context() -> None:
    lookup, rng = Lookup({BAR}), random.Random(4)
    context: list[int] = []
    for _ in range(300):
        context += [rng.randrange(4) for _ in range(rng.randrange(1, 5))]
        fresh, kept = Occurrences(3, 10**6), lookup._occurrences
        looked_up(context, 8, lookup)
        fresh.read(context)
        gram = context[-3:]
        assert list(kept.of(gram)) == list(fresh.of(gram))


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(
    "other",
    [
        [5, 6, 7, 8, 9, 5, 6, 7],
        [1, 2, 3, 4, 8, 9, 5, 6, 7, 8, 9, 5, 6, 7],
        [5, 6, 7, 8, 9, *range(100, 150), 5, 6, 7],
    ],
)
def test_another_context_is_read_anew(other: list[int], in_place: bool) -> None:
    lookup, context = Lookup({BAR}), [1, 2, 3, 4, 8, 9, 5, 6, 7, 44, *range(9, 30), 1, 2, 3]
    assert looked_up(context, 1, lookup) == [4]
    if in_place:
        context[:] = other
    assert looked_up(context if in_place else other, 3, lookup) == looked_up(other, 3)


def test_another_list_is_compared_from_its_beginning() -> None:
    lookup, end = Lookup({BAR}), [*range(100, 180), 1, 2, 3]
    looked_up([1, 2, 3, 4, *end], 1, lookup)
    assert looked_up([7, 5, 6, 8, *end], 1, lookup) == []
    assert looked_up([1, 2, 3, 9, *end], 1, lookup) == [9]


def test_a_context_changed_unseen_may_cost_a_match_and_never_makes_a_false_one() -> None:
    lookup, context = Lookup({BAR}), [1, 2, 3, 4, *range(100, 180)]
    looked_up(context, 1, lookup)
    context[1] = 9
    context += [1, 2, 3]
    assert looked_up(context, 1, lookup) == []


def test_the_copy_to_resume_is_forgotten_with_its_context() -> None:
    lookup, context = Lookup({BAR}), [1, *SOURCE, BAR, *range(10, 14)]
    looked_up(context, 8, lookup)
    assert looked_up([2, *context[1:], 99], 8, lookup) == []
    assert looked_up([1, *SOURCE, BAR, *range(10, 14)], 1, lookup) == [14]


def test_any_sequence_is_a_context() -> None:
    lookup, proposal = Lookup({BAR}), Taken(2)
    lookup.propose((1, 2, 3, 4, 5, 1, 2, 3), proposal)
    assert proposal.tokens == [4, 5]


def test_memory_is_bounded_and_the_oldest_go_first() -> None:
    rng, lookup = random.Random(1), Lookup({BAR}, capacity=100)
    context: list[int] = []
    for _ in range(200):
        context += random_tokens(rng, 20, 4 if rng.random() < 0.5 else 5000)
        looked_up(context, 1, lookup)
        assert len(lookup._occurrences) <= 200
    context = [1, 2, 3, 4, *range(1000, 1050), 5, 6, 7, 8, *range(2000, 2070)]
    assert looked_up([*context, 5, 6, 7], 1, lookup) == [8]
    assert looked_up([*context, 1, 2, 3], 1, lookup) == []


def test_a_common_n_gram_does_not_hide_a_recent_one_and_costs_a_bounded_search() -> None:
    occurrences = Occurrences(3, 10**6)
    occurrences.read([1, 2, 3, 9] * 1000)
    ends = list(occurrences.of([1, 2, 3]))
    assert ends[:3] == [3999, 3995, 3991]
    assert len(ends) < 100


# For any context


def texts() -> Iterator[list[int]]:
    """Random texts of few different tokens, with copied stretches and edits in them."""
    for seed in range(40):
        rng = random.Random(seed)
        text = [rng.randrange(20) for _ in range(30)]
        while len(text) < 250:
            start = rng.randrange(len(text) - 15)
            text += text[start : start + rng.randrange(1, 15)]
            text += [rng.randrange(20) for _ in range(rng.randrange(3))]
        yield text


def equal_before(context: list[int], end: int) -> int:
    """How many tokens before `end` equal the last ones, up to the first barrier."""
    pairs = zip(reversed(context[:end]), reversed(context), strict=False)
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1] != BAR, pairs)))


def copied_from(context: list[int], proposed: list[int]) -> list[int]:
    """Every place that `proposed` could be a copy of, own proposals included."""
    whole = context + proposed
    size = len(proposed)
    return [source for source in range(len(context)) if whole[source : source + size] == proposed]


def test_every_proposal_of_a_fresh_lookup_copies_the_most_recent_of_the_longest_matches() -> None:
    found = 0
    for text in texts():
        for size in range(len(text) - 6, len(text)):
            context = text[:size]
            proposed = looked_up(context)
            equal = [equal_before(context, end) for end in range(size)]
            last = max(range(size), key=lambda end: (equal[end], end))
            if equal[last] < 3 or context[last] == BAR:
                assert not proposed
            else:
                assert last in copied_from(context, proposed)
                assert len(proposed) == 8 or context[last + len(proposed)] == BAR
                found += 1
    assert found > 80


def test_every_proposal_of_a_lookup_in_use_is_a_match_or_resumes_a_copy_of_the_rounds_before() -> None:
    matched = resumptions = 0
    for seed, text in enumerate(texts()):
        rng, lookup = random.Random(seed), Lookup({BAR})
        size, before = 30, list[set[int]]()
        while size < len(text):
            context = text[:size]
            proposed = looked_up(context, 6, lookup)
            assert BAR not in proposed
            sources = copied_from(context, proposed) if proposed else []
            before = [*before[-9:], {size - source for source in sources}]
            if proposed and max(equal_before(context, source) for source in sources) >= 3:
                matched += 1
            elif proposed:
                resumptions += 1
                distances = set().union(*before[:-1])
                assert any(abs(old - new) <= 8 for old in distances for new in before[-1])
            size += rng.randrange(1, 7)
    assert matched > 300
    assert resumptions > 100


# In the loop


@pytest.mark.parametrize("length", [0, 1, 4, 16])
@pytest.mark.parametrize("seed", range(8))
def test_same_seed_same_text_at_any_length(seed: int, length: int) -> None:
    def answer(proposer: Proposer) -> tuple[list[int], list[Round]]:
        context = [1, 2, 3]
        policy = UpTo(length)
        happened = list(generate(Mood(seed), proposer, context, policy=policy, end_tokens=(), max_tokens=150))
        return context, happened

    plain, _ = answer(NullProposer())
    drafted, happened = answer(Lookup({BAR}))
    assert drafted == plain
    assert len(plain) == 153
    assert all(r.looked_up == len(r.drafted) <= length for r in happened)
    accepted = sum(r.accepted for r in happened)
    rejected = sum(len(r.drafted) for r in happened) - accepted
    assert (accepted > 10 and rejected > 0) or length == 0


def renamed(rng: random.Random, old: list[int], new: list[int]) -> tuple[list[int], list[int]]:
    """A file of 400 random tokens with a name in it every 20 or so, and the same with another name."""
    file: list[int] = []
    answer: list[int] = []
    while len(file) < 400:
        code = random_tokens(rng, rng.randrange(10, 30))
        file += code + old
        answer += code + new
    return file, answer


@pytest.mark.parametrize(
    ("old", "new", "least"),
    [
        ([9001], [9002], 8),
        ([9001, 9002], [9003, 9004], 6),
        ([9001, 9002], [9003], 6),
        ([9001], [9002, 9003, 9004], 4),
    ],
)
def test_a_file_rewritten_with_one_name_changed_takes_few_rounds(
    old: list[int], new: list[int], least: float
) -> None:
    tokens = happened = 0
    for seed in range(5):
        file, answer = renamed(random.Random(seed), old, new)
        prompt = [BAR, *random_tokens(random.Random(-seed - 1), 20), *file, BAR]
        happened += len(rounds(prompt, answer, Lookup({BAR})))
        tokens += len(answer)
    assert tokens / happened >= least


def test_a_chat_is_looked_up_across_its_answers() -> None:
    rng, lookup = random.Random(3), Lookup({BAR})
    answer = random_tokens(rng, 60)
    prompt = [BAR, 5, 6, 7, BAR]
    rounds(prompt, answer, lookup)
    again = rounds([*prompt, *answer, BAR, 8, 9, BAR], answer, lookup)
    assert len(again) <= 3 + 60 / 11 + 1
