"""The policy over real answers and real times: the cost of noise, a wrong start or a lookup is limited."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from statistics import geometric_mean

import pytest

from tests.support.replay import Answer, Trace, answers, barriers, replay
from tui.engine.speculation.estimates import DRAFT as DRAFT_COST
from tui.engine.speculation.estimates import READ, Costs
from tui.engine.speculation.lookup import Lookup
from tui.engine.speculation.policy import AdaptiveLength, FixedLength
from tui.engine.speculation.proposals import FixedProposal

ROWS = (1, 2, 3, 4, 5, 6, 8, 9, 12, 16)
F16 = dict(zip(ROWS, (162, 189, 204, 211, 234, 233, 278, 299, 335, 408), strict=True))
Q4_K_M = dict(zip(ROWS, (70, 106, 128, 112, 148, 168, 203, 220, 251, 247), strict=True))
DRAFT = 37
"""Milliseconds on two quiet cores: by rows of Qwen2.5-Coder 1.5B in two formats; of a token of the 0.5B."""
LENGTHS = (0, 1, 2, 3, 4, 5, 6, 8, 12)


def steady(table: dict[int, int], draft: float = DRAFT) -> Trace:
    return Trace.steady({rows: ms / 1000 for rows, ms in table.items()}, draft / 1000)


TRACES = {
    "F16": steady(F16),
    "Q4_K_M": steady(Q4_K_M),
    "F16, a dear draft": steady(F16, 110),
    "crowded": Trace.recorded("crowded"),
    "crowded, half": Trace.recorded("crowded-half"),
}
CROWDED = ("crowded", "crowded, half")
"""These were recorded, of the 1.5B and of the 0.5B in Q4_K_M, on two cores that 20 others used."""


def fresh(trace: Trace, wrong: tuple[int, float] | None = None) -> AdaptiveLength:
    """Of a new pair that was measured right, but for one figure: of so many rows, or 0 for the draft."""
    verify, draft, read = trace.medians((1, 2, 4, 8, 16))
    if wrong:
        place, factor = wrong
        draft *= factor if place == 0 else 1
        verify |= {place: verify[place] * factor} if place else {}
    return AdaptiveLength(Costs(verify, draft, read))


def told(policy: AdaptiveLength, trace: Trace, which: list[Answer], lookup: bool = False) -> float:
    """The seconds of some answers, one behind the other."""
    now = 0.0
    found = Lookup(barriers()) if lookup else None
    for answer in which:
        now += replay(answer, trace, policy, lookup=found, at=now).seconds
    return now


@cache
def best_fixed(name: str) -> float:
    """Of all answers, at the best fixed length in hindsight, which may be none."""
    trace, least = TRACES[name], float("inf")
    for length in LENGTHS:
        now = 0.0
        for answer in answers():
            now += replay(answer, trace, FixedLength(length), at=now).seconds
        least = min(least, now)
    return least


@pytest.mark.parametrize("name", TRACES)
def test_a_new_pair_loses_little_against_the_best_fixed_length(name: str) -> None:
    assert told(fresh(TRACES[name]), TRACES[name], answers()) < 1.05 * best_fixed(name)


@pytest.mark.parametrize("factor", [3, 1 / 3])
@pytest.mark.parametrize("place", [0, 1, 2, 4, 8], ids=["draft", "1 row", "2 rows", "4 rows", "8 rows"])
@pytest.mark.parametrize("name", TRACES)
def test_one_figure_that_is_off_by_a_factor_of_three_costs_little(
    name: str, place: int, factor: float
) -> None:
    trace, most = TRACES[name], 1.1 if name in CROWDED else 1.05
    assert told(fresh(trace, (place, factor)), trace, answers()) < most * best_fixed(name)


@pytest.mark.parametrize("factor", [3, 1 / 3])
@pytest.mark.parametrize("place", [0, 1, 4], ids=["draft", "1 row", "4 rows"])
def test_within_thirty_tokens_a_pair_that_was_measured_wrongly_drafts_as_one_that_was_not(
    place: int, factor: float
) -> None:
    """The answer's other tokens take about as long; and the draft's cost is known then."""
    trace, answer = TRACES["F16"], answers()[0]
    seconds, costs = [], []
    for wrong in (None, (place, factor)):
        policy, tokens, total = fresh(trace, wrong), 0, 0.0
        for happened in replay(answer, trace, policy).rounds:
            total += happened.seconds if tokens >= 30 else 0.0
            tokens += len(happened.tokens)
        seconds.append(total)
        costs.append(policy.costs.draft / policy.costs.plain)
    assert seconds[1] < 1.2 * seconds[0]
    assert costs[1] == pytest.approx(costs[0], rel=0.25)


def test_the_first_answer_of_a_new_pair_loses_little_to_learning() -> None:
    for name in ("F16", "Q4_K_M"):
        trace, first, best = TRACES[name], 0.0, 0.0
        for answer in answers():
            first += told(fresh(trace), trace, [answer])
            best += min(replay(answer, trace, FixedLength(length)).seconds for length in LENGTHS)
        assert first < 1.05 * best, name


@pytest.mark.parametrize("read", [0.1, 0.25])
def test_where_no_draft_pays_a_short_answer_loses_little_to_a_trial(read: float) -> None:
    """The draft's reading of the prompt would take a tenth of such an answer."""
    trace = Trace.steady({rows: ms / 1000 for rows, ms in Q4_K_M.items()}, DRAFT / 1000, read)
    verify, draft, each = trace.medians(ROWS)
    known = dict.fromkeys((*range(1, 18), DRAFT_COST, READ), 0.06)
    policy = AdaptiveLength(Costs(verify, draft, each, doubt=known))
    gains = []
    for answer in 3 * answers():
        short = replace(answer, tokens=answer.tokens[:64], confidence=answer.confidence[:64])
        plain = replay(short, trace, FixedLength(0)).seconds
        gains.append(plain / replay(short, trace, policy).seconds)
    assert geometric_mean(gains) > 0.98
    assert min(gains) > 0.93


def test_a_machine_that_is_busy_for_minutes_drafts_as_a_quiet_one() -> None:
    """Its speed is common to all calls, so that the decisions stay the same."""
    for name in ("F16", "Q4_K_M"):
        quiet, busy = TRACES[name], TRACES[name].slowed([1, 1, 3, 3, 3, 1, 8, 8, 1, 2])
        drafted = [
            sum(len(r.drafted) for a in answers() for r in replay(a, trace, policy).rounds)
            for trace, policy in ((quiet, fresh(quiet)), (busy, fresh(quiet)))
        ]
        assert drafted[1] == pytest.approx(drafted[0], rel=0.25), name


@pytest.mark.parametrize("name", TRACES)
def test_a_lookup_costs_hardly_any_time_beside_a_good_draft(name: str) -> None:
    trace = TRACES[name]
    alone = told(fresh(trace), trace, answers())
    most = 0.99 if name in ("Q4_K_M", "F16, a dear draft") else 1.05
    assert told(fresh(trace), trace, answers(), lookup=True) < most * alone


@pytest.mark.parametrize("length", [1, 2, 3, 4, 6])
def test_a_lookup_takes_no_rounds_from_a_good_draft_in_a_fixed_length_either(length: int) -> None:
    """But for one that the draft knew better, in a file that is copied with changes. Copying is free."""
    trace = TRACES["F16"]
    for answer in answers():
        alone = replay(answer, trace, FixedLength(length))
        both = replay(answer, trace, FixedLength(length), lookup=Lookup(barriers()))
        assert len(both.rounds) <= len(alone.rounds) + 1
        assert both.seconds < 1.04 * alone.seconds


def test_a_file_that_is_copied_is_looked_up_and_not_drafted() -> None:
    file = [*range(100, 300)]
    copied = Answer("copy", [7, *file, 8], file, {}, [0.99] * len(file))
    trace = TRACES["F16"]
    for policy in (fresh(trace), FixedLength(4)):
        lookup = Lookup(barriers())
        replay(copied, trace, policy, lookup=lookup)
        rounds = replay(copied, trace, policy, lookup=lookup).rounds
        assert sum(r.looked_up for r in rounds) > 0.5 * sum(len(r.drafted) for r in rounds)


@pytest.mark.parametrize("room", [0, 1, 2, 3, 5])
def test_within_a_limit_of_rows_the_pace_takes_the_best_that_there_is(room: int) -> None:
    """As if no longer draft existed: not the decision for long ones, cut."""

    class Limited(AdaptiveLength):
        def plan(self, room_: int, length: int | None = None) -> FixedProposal:
            return super().plan(min(room_, room), length)

    trace = TRACES["F16"]
    policy = Limited(fresh(trace).costs)
    now = sum(replay(answer, trace, policy).seconds for answer in answers())
    best = min(
        sum(replay(answer, trace, FixedLength(length)).seconds for answer in answers())
        for length in range(room + 1)
    )
    assert now < 1.05 * best
    rounds = [r for answer in answers() for r in replay(answer, trace, policy).rounds]
    assert max(len(r.drafted) for r in rounds) == room
    if not room:
        assert all(r.draft_seconds == 0 for r in rounds), "the draft is not even shown the prompt"


def test_a_fixed_length_teaches_the_pace_what_calls_cost() -> None:
    trace = TRACES["F16"]

    class Wishes(AdaptiveLength):
        def plan(self, room: int, length: int | None = None) -> FixedProposal:
            return super().plan(room, 3)

    policy = Wishes(fresh(trace, (0, 3)).costs)
    for answer in answers()[:3]:
        replay(answer, trace, policy)
    right, _, _ = trace.medians(ROWS)
    assert policy.costs.draft / policy.costs.verify[3] == pytest.approx(0.037 / right[4], rel=0.1)
    assert policy.skill.acceptance.chances[0] > 0.8


def test_what_plain_decoding_would_have_taken_follows_from_each_round() -> None:
    trace = TRACES["F16"]
    policy = fresh(trace)
    told(policy, trace, answers())
    for answer in answers():
        for happened in replay(answer, trace, policy).rounds:
            plain = policy.costs.plain_seconds(happened)
            assert 0 < plain <= len(happened.tokens) * happened.seconds
            if happened.drafted:
                assert plain / len(happened.tokens) == pytest.approx(0.162, rel=0.15)
            elif not happened.draft_seconds:
                assert plain == pytest.approx(happened.seconds)
