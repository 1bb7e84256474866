"""A trial of a main model: do a batch, a refusal and a rewind give what it gives token by token?

Speculative decoding stands on that. Where a cache cannot be cut back as it claims, or where a library
computes a batch in another way than single tokens, the text would change with the draft length: such a model
is used without drafts. One short text proves no model right; it finds what is wrong from the ground up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .backends import LoadedModel, ModelError
from .costs import first_tokens
from .speculation.loop import Pick
from .speculation.sampling import Chain, InvalidLogits, Logits, Sampler

_TOKENS = 8
_RIGHT = 4
"""Of the first batch, so many tokens stand, with the one before it; the rest is taken back."""
_NOISE = 0.25
"""How far a score may move, in standard deviations of its row. Sums in another order, 16 bits and quantised
weights move scores by a few hundredths; a wrong cache moves them by one or more."""


class _Recorder(Sampler):
    """Chooses the best token and keeps each row, by the tokens before it."""

    def __init__(self) -> None:
        super().__init__(Chain(temperature=0), seed=0, start=0)
        self.rows: dict[tuple[int, ...], Logits] = {}

    def pick(self, logits: Logits, tokens: Sequence[int], length: int) -> Pick:
        self.rows[tuple(tokens[:length])] = logits.copy()
        return super().pick(logits, tokens, length)


class _Judge(Sampler):
    """Chooses the best token and keeps how far, at most, a row is from the one recorded behind its tokens."""

    def __init__(self, recorded: Mapping[tuple[int, ...], Logits]) -> None:
        super().__init__(Chain(temperature=0), seed=0, start=0)
        self.noise = 0.0
        self._recorded = recorded

    def pick(self, logits: Logits, tokens: Sequence[int], length: int) -> Pick:
        pick = super().pick(logits, tokens, length)
        if (expected := self._recorded.get(tuple(tokens[:length]))) is not None:
            self.noise = max(self.noise, _moved(expected, logits))
        return pick


def trial(main: LoadedModel) -> str:
    """Why nothing may draft for `main`, in one line; empty if all is well. Leaves the cache empty.

    Takes as long as about 12 tokens one by one.
    """
    try:
        main.rewind(0)
        main.start(recorder := _Recorder())
        text = _written(main)
        main.start(judge := _Judge(recorder.rows))
        _read_again(main, text)
    except (ModelError, InvalidLogits) as error:
        return str(error)
    finally:
        main.rewind(0)
    return "" if judge.noise < _NOISE else "this model computes several tokens otherwise than one by one"


def _written(main: LoadedModel) -> list[int]:
    """How the model goes on from its first token, one token at a time."""
    text = first_tokens(main)
    while len(text) <= _TOKENS:
        text.append(main.extend(text[-1:], picks=1)[0].token)
    return text


def _read_again(main: LoadedModel, text: Sequence[int]) -> None:
    """`text` in three batches: the first has wrong tokens at its end, the last begins within the second."""
    refused = [max(token, 1) - 1 for token in text[_RIGHT : _RIGHT + 3]]
    main.rewind(0)
    main.extend(text[:1], picks=0)
    main.extend([*text[1:_RIGHT], *refused], picks=_RIGHT - 1 + len(refused))
    main.rewind(_RIGHT)
    main.extend(text[_RIGHT:_TOKENS], picks=_TOKENS - _RIGHT)
    main.rewind(_RIGHT + 1)
    main.extend(text[_RIGHT + 1 : _TOKENS], picks=_TOKENS - _RIGHT - 1)


def _moved(a: Logits, b: Logits) -> float:
    """The greatest difference between two rows, in standard deviations; banned tokens do not count."""
    scores = np.isfinite(a) & np.isfinite(b)
    return float(np.abs(a[scores] - b[scores]).max() / max(float(a[scores].std()), 1e-9))
