"""Computes the scores of a call that takes long by pieces of the vocabulary.

The output layer of a small model with a large vocabulary takes half of the time of a call, and MLX computes
it as one operation. The scores of some tokens need only their own rows of the weights. So the layer can be
noted as several layers with some of these rows each, whose scores have the same bits. Not all networks have
their output layer where it is looked for here; the others compute it as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from math import ceil
from typing import Any

import mlx.core as mx
from mlx import nn

_LEAST = 4096
"""Fewest tokens of the vocabulary in a piece."""
_ARRAYS = ("weight", "scales", "biases", "bias")
"""The names of the arrays with a row for each token of the vocabulary."""
_LINEAR = (nn.Linear, nn.QuantizedLinear)
_TIED = (nn.Embedding, nn.QuantizedEmbedding)


class OutputLayer:
    """The output layer of a network."""

    def __init__(self, network: Any = None) -> None:
        """Put itself in front of the output layer of `network`; without one, there is nothing to divide."""
        self._pieces: list[Any] | None = None
        self._share = 1.0
        inner = getattr(network, "language_model", network)
        layer = getattr(inner, "lm_head", None)
        tied: Any = getattr(getattr(inner, "model", None), "embed_tokens", None)
        if type(layer) in _LINEAR:
            inner.lm_head = _Head(layer, self._scores)
        elif layer is None and type(tied) in _TIED:
            tied.as_linear = partial(self._scores, type(tied).as_linear, tied)

    @contextmanager
    def divided(self, share: float) -> Iterator[list[Any]]:
        """Let a call be noted meanwhile with pieces of this share (0 to 1) of the layer. The list gets them.

        A piece has the scores of 4096 tokens or more. The list stays empty if one piece is enough.
        """
        pieces = self._pieces = []
        self._share = share
        try:
            yield pieces
        finally:
            self._pieces = None

    def _scores(self, call: Callable[[Any, Any], Any], layer: Any, rows: Any) -> Any:
        size = layer["weight"].shape[0]
        step = max(_LEAST, ceil(size * self._share))
        if self._pieces is None or step >= size:
            return call(layer, rows)
        pieces = [call(_piece(layer, first, first + step), rows) for first in range(0, size, step)]
        self._pieces += pieces
        return mx.concatenate(pieces, axis=-1)


class _Head(nn.Module):  # type: ignore[misc]
    """Replaces an output layer that is not the embeddings."""

    def __init__(self, layer: Any, scores: Callable[..., Any]) -> None:
        super().__init__()
        self.layer = layer
        self.scores = scores

    def __call__(self, rows: Any) -> Any:
        return self.scores(type(self.layer).__call__, self.layer, rows)


def _piece(layer: Any, first: int, end: int) -> Any:
    """Return a layer that gives the scores of the tokens from `first` to before `end`. Copies no weights."""
    piece = copy(layer)
    piece.update({name: layer[name][first:end] for name in _ARRAYS if name in layer})
    return piece
