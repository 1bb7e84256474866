"""Collects a model's rows of logits for known tokens, and measures the difference between two runs.

It judges nothing. `trial` and `rounding` ask, and interpret the results.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..backends import LoadedModel
from ..speculation.loop import Pick
from ..speculation.sampling import Chain, Logits, Sampler

_TEXT = (
    "The library opens at nine in the morning. A reader takes the first book from the shelf, looks at its "
    "third page and writes 42 words about it: who wrote them, when, and for whom? Then she puts it back."
)
"""Ordinary prose. Its words, figures and marks are ordinary for every model."""


def known_tokens(model: LoadedModel, count: int) -> list[int]:
    """Return `count` tokens of ordinary text, repeated if too short, after the start of every prompt."""
    vocabulary = model.vocabulary
    text = vocabulary.encode(_TEXT) or [0]
    return [*vocabulary.encode_start(), *text * (count // len(text) + 1)][:count]


class Watched:
    """Wraps a model so that each call returns the rows of logits of its tokens."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._recorder = _Recorder()
        model.start(self._recorder)

    def begin(self, tokens: Sequence[int]) -> None:
        """Empty the cache and read `tokens`."""
        self._model.rewind(0)
        if tokens:
            self._model.extend(tokens, picks=0)

    def run(self, tokens: Sequence[int], rows: int | None = None) -> list[Logits]:
        """Run `tokens` in one call. Return the rows of all, or of the last `rows`."""
        self._recorder.rows.clear()
        self._model.extend(tokens, picks=len(tokens) if rows is None else rows)
        return list(self._recorder.rows)


class _Recorder(Sampler):
    """Chooses the best token and keeps a copy of each row."""

    def __init__(self) -> None:
        super().__init__(Chain(temperature=0), seed=0, start=0)
        self.rows: list[Logits] = []

    def pick(self, logits: Logits, tokens: Sequence[int], length: int) -> Pick:
        self.rows.append(logits.copy())
        return super().pick(logits, tokens, length)


def deviation(rows: Sequence[Logits], others: Sequence[Logits]) -> float:
    """Return the difference of two runs: root mean square, in standard deviations of a row.

    Only rows in both runs count, and only scores of tokens that are not banned. 0.0 means identical bits. The
    largest single difference would be a poor measure: it is the extreme of a whole vocabulary.
    """
    squares = [_moved(a, b) for a, b in zip(rows, others, strict=False)]
    return float(np.sqrt(np.mean(squares))) if squares else 0.0


def _moved(a: Logits, b: Logits) -> float:
    """Return the mean square of the differences, in variances of `a`."""
    scores = np.isfinite(a) & np.isfinite(b)
    difference = (a[scores] - b[scores]).astype(np.float64)
    return float(np.mean(difference**2) / max(float(a[scores].var()), 1e-18))
