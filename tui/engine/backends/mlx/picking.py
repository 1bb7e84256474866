"""Chooses tokens from rows of scores, with the sampling chain of all backends.

The rows become numpy arrays, which takes a tenth of a millisecond for a hundred thousand scores, and
`Sampler` chooses. If only the best score is needed, a GPU finds it itself, and so does a processor in narrow
rows. In wide rows, MLX on a processor is slower at this than numpy; at the best k scores, it is ten times
slower than the whole chain.

A draft model that chooses the best several times runs its choices without the host in between. With a
temperature above 0 or with penalties, each choice goes through the host.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from math import isfinite
from typing import Any

import mlx.core as mx
import numpy as np

from ...speculation.loop import Pick
from ...speculation.sampling import InvalidLogits, Sampler

_NARROW = 4096


def pick_rows(rows: Any, state: Any, sampler: Sampler, tokens: Sequence[int]) -> list[Pick]:
    """Choose after each of the last tokens of `tokens`; each row has the scores after one token.

    `rows` may be lazy and of any number format. `state` is computed with them. There is one wait for MLX.
    """
    first = len(tokens) - rows.shape[0] + 1
    if sampler.takes_best and (rows.shape[-1] <= _NARROW or mx.default_device() == mx.gpu):
        return best_of(rows, state, first - sampler.start)
    scores = rows.astype(mx.float32)
    mx.eval(scores, state)
    return [sampler.pick(row, tokens, first + place) for place, row in enumerate(np.array(scores))]


def best_of(rows: Any, state: Any, index: int) -> list[Pick]:
    """Return each row's best token, the lowest id among equals. The first row is the answer's `index`."""
    best, scores = _best(rows)
    mx.eval(best, scores, state)
    found = zip(best.tolist(), scores.tolist(), strict=True)
    return [_pick(token, score, index + place) for place, (token, score) in enumerate(found)]


def chain_of_best(
    run: Callable[[Any], tuple[Any, Any]], tokens: Any, count: int, index: int, ahead: int
) -> Iterator[Pick]:
    """Yield the best token after `tokens`, the best after that, and so on: `count` of them.

    For tokens of shape (1, any), `run` returns the row of scores after the last, of shape (1, vocabulary),
    and the state to compute with it. The first row is for the answer's `index`. MLX begins a step while the
    next one is being noted, and `ahead` steps have begun behind the one whose token is yielded, except at
    the end.
    """
    steps = deque[tuple[Any, Any]]()
    for place in range(count):
        steps.append(_begun(*run(tokens)))
        tokens = steps[-1][0][None]
        if place >= ahead:
            yield _picked(*steps.popleft(), index + place - ahead)
    mx.eval(*steps)
    for place, step in enumerate(steps, count - len(steps)):
        yield _picked(*step, index + place)


def _begun(row: Any, state: Any) -> tuple[Any, Any]:
    """Return the best of a row while MLX computes it. Keeping `state` would make the next step copy it."""
    best, score = _best(row)
    mx.async_eval(best, score, state)
    return best, score


def _best(rows: Any) -> tuple[Any, Any]:
    """Return the index of the best score of each row, and the score.

    The maximum is NaN if one score is NaN. The index of the maximum would not show that.
    """
    return mx.argmax(rows, axis=-1), mx.max(rows, axis=-1)


def _picked(best: Any, score: Any, index: int) -> Pick:
    """Return the best token of the row for the answer's `index`. Waits for MLX."""
    return _pick(best.item(), score.item(), index)


def _pick(best: int, score: float, index: int) -> Pick:
    if not isfinite(score):
        raise InvalidLogits(index)
    return Pick(best, 1.0)
