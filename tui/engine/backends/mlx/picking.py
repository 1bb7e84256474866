"""Rows of scores to tokens, with the sampling chain that every backend shares.

The rows come over as numpy arrays, which takes a tenth of a millisecond for a hundred thousand scores, and
`Sampler` chooses. Where the best score is all that is wanted, a GPU looks for it itself, and a processor in
narrow rows: in wide ones MLX is slower at it there than numpy, and at the best k ten times slower than the
whole chain.

A draft model that is to choose the best several times runs its choices without the host in between. What it
chooses by more than that, a temperature above 0 or penalties, goes through the host each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

import mlx.core as mx
import numpy as np

from ...speculation.loop import Pick
from ...speculation.sampling import InvalidLogits, Sampler

_NARROW = 4096


def pick_rows(rows: Any, state: Any, sampler: Sampler, tokens: Sequence[int]) -> list[Pick]:
    """Choose behind each of the last tokens of `tokens`: a row is that of the scores behind one.

    `rows` may be lazy and of any width in bits; `state` is computed with them. MLX is waited for once.
    """
    first = len(tokens) - rows.shape[0] + 1
    if sampler.takes_best and (rows.shape[-1] <= _NARROW or mx.default_device() == mx.gpu):
        return best_of(rows, state, first - sampler.start)
    scores = rows.astype(mx.float32)
    mx.eval(scores, state)
    return [sampler.pick(row, tokens, first + place) for place, row in enumerate(np.array(scores))]


def best_of(rows: Any, state: Any, index: int) -> list[Pick]:
    """The best token of each row, of equals the lowest. The first row is that of the answer's `index`."""
    best, scores = _best(rows)
    mx.eval(best, scores, state)
    return _picks(best.tolist(), scores.tolist(), index)


def chain_of_best(run: Callable[[Any], tuple[Any, Any]], tokens: Any, count: int, index: int) -> list[Pick]:
    """The best token behind `tokens`, the best behind that, and so on: `count` of them.

    `run` gives, for tokens of shape (1, any), the row of scores behind the last, of shape (1, vocabulary),
    and the state that is to be computed with it. The first row is that of the answer's `index`. MLX begins
    with a step while the next is being noted, and is waited for once.
    """
    steps = []
    for _ in range(count):
        steps.append(_begun(*run(tokens)))
        tokens = steps[-1][0][None]
    mx.eval(steps)
    return _picks([best.item() for best, _ in steps], [score.item() for _, score in steps], index)


def _begun(row: Any, state: Any) -> tuple[Any, Any]:
    """The best of a row that MLX begins to compute. Whoever kept `state` would have the next step copy it."""
    best, score = _best(row)
    mx.async_eval(best, score, state)
    return best, score


def _best(rows: Any) -> tuple[Any, Any]:
    """The place of the best score of each row, and the score.

    The greatest is NaN where one score is; the place of the greatest would not show that.
    """
    return mx.argmax(rows, axis=-1), mx.max(rows, axis=-1)


def _picks(best: Sequence[int], scores: Sequence[float], index: int) -> list[Pick]:
    for place, score in enumerate(scores):
        if not isfinite(score):
            raise InvalidLogits(index + place)
    return [Pick(token, 1.0) for token in best]
