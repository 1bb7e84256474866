"""Rows of scores to tokens, with the sampling chain that every backend shares.

The rows come over as numpy arrays, which takes a tenth of a millisecond for a hundred thousand scores, and
`Sampler` chooses. Only a GPU looks for the best score itself, where that is all that is wanted: on a
processor MLX is slower at it than numpy, and at the best k ten times slower than the whole chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import mlx.core as mx
import numpy as np

from ...speculation.loop import Pick
from ...speculation.sampling import InvalidLogits, Sampler


def pick_rows(rows: Any, state: Any, sampler: Sampler, tokens: Sequence[int]) -> list[Pick]:
    """Choose behind each of the last tokens of `tokens`: a row is that of the scores behind one.

    `rows` may be lazy and of any width in bits; `state` is computed with them. MLX is waited for once.
    """
    first = len(tokens) - rows.shape[0] + 1
    if sampler.takes_best and mx.default_device() == mx.gpu:
        return best_of(rows, state, first - sampler.start)
    scores = rows.astype(mx.float32)
    mx.eval(scores, state)
    return [sampler.pick(row, tokens, first + place) for place, row in enumerate(np.array(scores))]


def best_of(rows: Any, state: Any, index: int) -> list[Pick]:
    """The best token of each row, of equals the lowest. The first row is that of the answer's `index`."""
    best, scores = mx.argmax(rows, axis=-1), mx.max(rows, axis=-1)
    mx.eval(best, scores, state)
    # The greatest is NaN where one score is; the place of the greatest would not show that.
    for place, score in enumerate(scores.tolist()):
        if not isfinite(score):
            raise InvalidLogits(index + place)
    return [Pick(token, 1.0) for token in best.tolist()]
