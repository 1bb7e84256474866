"""Rows of logits: kept as a model gives them, and compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tui.engine.backends import LoadedModel
from tui.engine.speculation.loop import Pick
from tui.engine.speculation.sampling import Chain, Logits, Sampler

GREEDY = Chain(temperature=0)

CLOSE = 0.03
"""How far logits of one row and of many may lie apart: floating point sums in another order. Rows of two
places differ by several whole numbers."""


class Watching(Sampler):
    """A greedy sampler that keeps every row it was shown, by the length that it was shown for."""

    def __init__(self) -> None:
        super().__init__(GREEDY, 0, 0)
        self.rows: dict[int, Logits] = {}
        self.contexts: dict[int, list[int]] = {}

    def pick(self, logits: Logits, tokens: Sequence[int], length: int) -> Pick:
        self.rows[length] = logits.copy()
        self.contexts[length] = list(tokens[:length])
        return super().pick(logits, tokens, length)


def some_tokens(count: int, seed: int = 1) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(0, 256, count)]


def rows_of(model: LoadedModel, tokens: Sequence[int], first: int) -> dict[int, Logits]:
    """The logits behind each of `tokens` from the index `first` on, one at a time in a cleared cache."""
    model.rewind(0)
    model.start(watching := Watching())
    model.extend(tokens[:first], picks=0)
    for token in tokens[first:]:
        model.extend([token], picks=1)
    return watching.rows


def assert_close(rows: dict[int, Logits], expected: dict[int, Logits]) -> None:
    assert rows.keys() == expected.keys()
    for length, row in rows.items():
        np.testing.assert_allclose(row, expected[length], atol=CLOSE, rtol=0)
