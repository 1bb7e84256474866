"""A cost that was recorded wrongly at load, on a processor where each row costs nearly as much as one alone.

MLX on a processor is such a backend: several rows take as long as so many single ones, and the draft reads
its prompt token by token. The answer that runs must correct the cost. So the time that it loses is limited.
"""

from __future__ import annotations

from functools import cache

import pytest

from tests.support.replay import Trace, answers, replay
from tui.engine.speculation.estimates import DRAFT, Costs
from tui.engine.speculation.policy import AdaptiveLength, FixedLength

ROWS = range(1, 18)
TABLES = {
    "rows as dear as tokens": ({rows: 1 + 0.95 * (rows - 1) for rows in ROWS}, 0.2, 1.0),
    "rows at half the price": ({rows: 1 + 0.5 * (rows - 1) for rows in ROWS}, 0.3, 0.3),
    "cheap rows": ({rows: 1 + 0.1 * (rows - 1) for rows in ROWS}, 0.2, 0.1),
}
"""Single rows that so many rows cost, that a drafted token costs; drafted tokens that a read token costs."""
DOUBT = 0.2
"""Of a figure that was measured once or twice."""


def trace_of(name: str) -> Trace:
    table, draft, read = TABLES[name]
    return Trace.steady({rows: 0.3 * each for rows, each in table.items()}, 0.3 * draft, read)


def policy_of(trace: Trace, wrong: str, factor: float) -> AdaptiveLength:
    """Of a new pair, whose costs of several rows, of four rows or of the draft were recorded wrongly."""
    verify, draft, read = trace.medians((1, 2, 4, 8, 16))
    if wrong == "draft":
        draft *= factor
    for rows in verify:
        if rows > 1 and (wrong == "all rows" or (wrong == "4 rows" and rows == 4)):
            verify[rows] *= factor
    return AdaptiveLength(Costs(verify, draft, read, doubt=dict.fromkeys((*verify, DRAFT), DOUBT)))


def told(policy: AdaptiveLength | FixedLength, trace: Trace) -> float:
    """The seconds of four answers of 96 tokens, one behind the other."""
    now = 0.0
    for answer in answers()[:4]:
        now += replay(answer, trace, policy, at=now).seconds
    return now


@cache
def better(name: str) -> float:
    """The seconds of plain decoding, or of three drafted tokens a round."""
    return min(told(FixedLength(length), trace_of(name)) for length in (0, 3))


@pytest.mark.parametrize("factor", [1, 3, 1 / 3])
@pytest.mark.parametrize("wrong", ["all rows", "4 rows", "draft"])
@pytest.mark.parametrize("name", TABLES)
def test_a_cost_that_is_wrong_by_a_factor_of_three_loses_little(name: str, wrong: str, factor: float) -> None:
    trace = trace_of(name)
    assert told(policy_of(trace, wrong, factor), trace) < 1.2 * better(name)


def test_rows_that_were_recorded_too_cheap_are_known_after_one_answer() -> None:
    trace = trace_of("rows as dear as tokens")
    policy = policy_of(trace, "all rows", 1 / 3)
    replay(answers()[1], trace, policy)
    assert policy.costs.verify[3] / policy.costs.verify[0] == pytest.approx(3.85, rel=0.3)
