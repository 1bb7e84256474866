"""The trial of a main model: what it finds wrong, and what it takes for rounding."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tui.engine.backends import LoadedModel
from tui.engine.speculation.loop import Pick
from tui.engine.speculation.sampling import Logits, Sampler
from tui.engine.trial import trial

WIDTH = 64
SINGLE = 1
"""Tokens in a call that runs one by one."""


class Table:
    """A model whose scores hang on all the tokens that are in its cache in truth."""

    capacity = 512
    vocabulary = SimpleNamespace(encode_start=lambda: [], encode=lambda text: [7])

    def __init__(
        self, *, uncut: int = 0, wrong_row: int | None = None, shift: float = 0.0, scale: float = 1.0
    ) -> None:
        """`uncut`: which of the cuts that leave something takes nothing away. `wrong_row`: which row of a
        batch is computed for other tokens. `shift` is added to every other score of a batch."""
        self.tokens: list[int] = []
        self._cache: list[int] = []
        self._cuts = 0
        self._uncut, self._wrong_row, self._shift, self._scale = uncut, wrong_row, shift, scale

    @property
    def length(self) -> int:
        return len(self.tokens)

    def start(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def rewind(self, length: int) -> None:
        self._cuts += length > 0
        if not length:
            self._cache.clear()
        elif self._cuts != self._uncut:
            del self._cache[len(self._cache) - (self.length - length) :]
        del self.tokens[length:]

    def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]:
        assert 0 <= picks <= len(tokens)
        behind = len(self._cache) + len(tokens)
        self._cache += tokens
        self.tokens += tokens
        return [
            self._sampler.pick(
                self._row(self._cache[: behind - back], row, len(tokens)), self.tokens, self.length - back
            )
            for row, back in enumerate(reversed(range(picks)))
        ]

    def _row(self, cached: list[int], row: int, size: int) -> Logits:
        wrong = size > SINGLE and row == self._wrong_row
        seed = hash((*cached, wrong)) % 2**32
        scores = np.random.default_rng(seed).normal(0, self._scale, WIDTH)
        if size > SINGLE:
            scores[::2] += self._shift
        scores[3] = -np.inf
        return scores.astype(np.float32)


def tried(**faults: Any) -> str:
    model = Table(**faults)
    reason = trial(cast(LoadedModel, model))
    assert model.length == 0
    return reason


def test_a_sound_model_passes() -> None:
    assert tried() == ""


@pytest.mark.parametrize("cut", [1, 2])
def test_each_cut_is_looked_at(cut: int) -> None:
    assert "several tokens otherwise" in tried(uncut=cut)


@pytest.mark.parametrize("row", range(4))
def test_each_row_of_a_batch_is_looked_at(row: int) -> None:
    assert "several tokens otherwise" in tried(wrong_row=row)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_scores_may_move_by_a_fifth_of_their_spread_and_not_by_a_third(scale: float) -> None:
    assert tried(scale=scale, shift=0.2 * scale) == ""
    assert "several tokens otherwise" in tried(scale=scale, shift=0.33 * scale)
