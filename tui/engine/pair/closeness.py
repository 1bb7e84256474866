"""Measures how close a choice of the main model was to another, and whether rounding can have changed it.

It runs no model. Its inputs are a row of logits and a function that chooses from one.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, sqrt
from typing import NamedTuple

import numpy as np

from ..speculation.sampling import Chain, InvalidLogits, Logits

_LIKELY = 512
"""Number of best scores that are examined. Only these can be chosen, or be at an edge of the chain."""
_TRIES = 24
"""Random movements tried for each choice."""
_REACH = 4.0
"""Size of the random movements, in multiples of the usual rounding. Rounding exceeds it once in 16,000."""


class Closeness(NamedTuple):
    """How close a choice was to another one."""

    rival: int
    """The token that would be chosen without the chosen one."""
    lead: float
    rounding: float
    tipped: bool
    """Whether rounding can have changed the choice, as in `protocol.TokenInspection`."""


def closeness(
    row: Logits, chosen: int, choose: Callable[[Logits], int], deviation: float, chain: Chain
) -> Closeness:
    """Return how close the choice of `chosen` from `row` was. Its `lead` does not include the noise yet.

    `deviation` is the rounding in standard deviations of a row. A trial shows whether it can have changed the
    choice: the best scores are moved at random, and `choose` chooses again through the whole sampling chain.
    So a token at an edge of top-k, top-p or min-p is noticed too.
    """
    without = row.copy()
    without[chosen] = -np.inf
    try:
        rival = choose(without)
    except InvalidLogits:
        rival = -1
    if rival < 0:
        return Closeness(chosen, inf, 0.0, False)
    size = deviation * float(row[np.isfinite(row)].std())
    heat = chain.temperature or 1.0
    lead = float(row[chosen] - row[rival]) / heat
    likely = np.argpartition(-row, min(_LIKELY, row.size) - 1)[:_LIKELY]
    chance, moved = np.random.default_rng(0), row.copy()
    tipped = False
    for _ in range(_TRIES if size else 0):
        moved[likely] = row[likely] + _REACH * size * chance.standard_normal(likely.size)
        tipped = tipped or choose(moved) != chosen
    return Closeness(rival, lead, size * sqrt(2) / heat, tipped)
