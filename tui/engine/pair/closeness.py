"""How close a choice of the main model was to another one, and whether rounding can have tipped it.

It runs no model: it is given a row of logits and a way to choose from one.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, sqrt
from typing import NamedTuple

import numpy as np

from ..speculation.sampling import Chain, InvalidLogits, Logits

_LIKELY = 512
"""Only so many of the best scores can be chosen, or be an edge of the chain."""
_TRIES = 24
_REACH = 4.0
"""How many times the usual rounding a score may move: 1 in 16,000 moves further."""


class Closeness(NamedTuple):
    """How close a choice was to another one."""

    rival: int
    """The token that would be chosen if the chosen one were not there."""
    lead: float
    rounding: float
    tipped: bool
    """As in `protocol.Place`."""


def closeness(
    row: Logits, chosen: int, choose: Callable[[Logits], int], deviation: float, chain: Chain
) -> Closeness:
    """How close the choice of `chosen` from `row` was; the noise is not in its `lead` yet.

    `deviation` is the rounding in standard deviations of a row. Whether it can have tipped the choice is
    tried: the best scores are moved at random, and `choose` chooses again, through the whole sampling chain.
    So a token at an edge of top-k, top-p or min-p is seen as well.
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
