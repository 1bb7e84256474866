"""The rows of logits that a model gives for tokens that are known, and how far two runs of them lie apart.

It judges nothing: `trial` and `rounding` ask, and say what an answer means.
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
"""Ordinary prose. Its words, figures and marks are nothing special to any model."""


def known_tokens(model: LoadedModel, count: int) -> list[int]:
    """`count` tokens of ordinary text, behind what every prompt begins with; repeated where it is short."""
    vocabulary = model.vocabulary
    text = vocabulary.encode(_TEXT) or [0]
    return [*vocabulary.encode_start(), *text * (count // len(text) + 1)][:count]


class Watched:
    """A model that is watched: each of its calls gives the rows of logits of the tokens that it ran."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._recorder = _Recorder()
        model.start(self._recorder)

    def begin(self, tokens: Sequence[int]) -> None:
        """Forget all that the model holds, and read `tokens`."""
        self._model.rewind(0)
        if tokens:
            self._model.extend(tokens, picks=0)

    def run(self, tokens: Sequence[int], rows: int | None = None) -> list[Logits]:
        """Run `tokens` in one call; the rows of all of them, or of the last `rows`."""
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
    """How far `others` lie from `rows`: root mean square of the differences, in standard deviations of a row.

    Only the rows that both have count, and of these the scores of tokens that are not banned. 0.0 means the
    same bits. The largest single difference would say little: it is the extreme of a whole vocabulary.
    """
    squares = [_moved(a, b) for a, b in zip(rows, others, strict=False)]
    return float(np.sqrt(np.mean(squares))) if squares else 0.0


def _moved(a: Logits, b: Logits) -> float:
    """The mean square of the differences, in variances of `a`."""
    scores = np.isfinite(a) & np.isfinite(b)
    difference = (a[scores] - b[scores]).astype(np.float64)
    return float(np.mean(difference**2) / max(float(a[scores].var()), 1e-18))
