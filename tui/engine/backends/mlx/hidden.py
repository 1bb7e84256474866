"""The hidden rows of a main model in MLX: taken from mlx-lm's networks, and kept as arrays.

mlx-lm's models give scores only. So a trunk calls the parts of a model by itself: the layers, whose last norm
gives a row for each token, and then the output layer. These are the same operations in the same order, so the
scores have the same bits. The rows of each call stay as one array, and nothing is copied. This module runs no
head, and chooses no token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.gemma4_text import logit_softcap

from ..kept_rows import KEPT, KeptRows
from .caches import Caches


class Trunk:
    """The parts of a network of mlx-lm that its head needs."""

    def __init__(self, network: Any) -> None:
        inner = getattr(network, "language_model", network)
        self._layers = inner.model
        self.args = inner.args
        """mlx-lm's settings of the network."""
        self._embeddings = inner.model.embed_tokens
        self._scale = getattr(inner.model, "embed_scale", None)
        self._output: Callable[[Any], Any] = getattr(inner, "lm_head", None) or self._embeddings.as_linear
        self._cap = getattr(inner, "final_logit_softcapping", None)

    def embed(self, tokens: Any) -> Any:
        """Return the embeddings of tokens, of shape (1, any), as they enter the first layer."""
        found = self._embeddings(tokens)
        return found if self._scale is None else found * self._scale

    def scores(self, rows: Any) -> Any:
        """Return the scores that follow from rows."""
        found = self._output(rows)
        return found if self._cap is None else logit_softcap(self._cap, found)

    def layer(self, place: int) -> Any:
        """Return one of the layers."""
        return self._layers.layers[place]

    def rows(self, tokens: Any, caches: Sequence[Any]) -> Any:
        """Run tokens of shape (1, any). Return their rows, of shape (1, any, width) and lazy."""
        return self._layers(tokens, caches)


class HiddenPieces(KeptRows[Any]):
    """The rows of a main model, by the position of their token; each call gives a piece."""

    def __init__(self, width: int, kind: Any, *, again: bool) -> None:
        """`width` is that of a row, and `kind` its number format."""
        super().__init__(again=again)
        self._width = width
        self._kind = kind
        self._pieces: list[tuple[int, Any]] = []
        """The position of the first row of each, and its array of shape (1, any, width)."""

    @property
    def latest(self) -> list[Any]:
        """The rows of the last call, in a list; empty if they are gone."""
        return [rows for _, rows in self._pieces[-1:]]

    def take(self, rows: Any) -> None:
        """Keep the rows of a call that runs the next tokens."""
        self._pieces.append((self.end, rows))
        self.end += rows.shape[1]
        while len(self._pieces) > 1 and self.end - self._pieces[1][0] >= KEPT:
            del self._pieces[0]
        self._first = self._pieces[0][0]

    def stand_at(self, length: int) -> None:
        """Follow a cache that now holds `length` tokens, by a cut or because others were put into it."""
        if length > self.end:
            self._pieces.clear()
            self._first = self.end = length
        elif length < self.end:
            self.cut(length)

    def kept(self) -> list[list[Any]]:
        """Return the rows at the ends of checkpoints and the last row, each behind its position."""
        last = [self.end - 1] if self._has(self.end - 1) else []
        return [*map(list, self._marked.items()), *([place, self._at(place)] for place in last)]

    def recall(self, rows: Iterable[Sequence[Any]]) -> None:
        """Take rows that `kept` has returned for a cache of the same length, which now has no others."""
        for place, row in rows:
            if place == self.end - 1:
                self._pieces, self._first = [(place, row)], place
            elif place < self.end:
                self._marked[place] = row

    def cut(self, length: int) -> None:
        super().cut(length)
        while self._pieces and self._pieces[-1][0] >= length:
            self._pieces.pop()
        if self._pieces:
            start, rows = self._pieces[-1]
            self._pieces[-1] = start, rows[:, : length - start]

    def rows(self, start: int, count: int) -> Any:
        """Return the rows of `count` positions from `start` on; zeros where a row is unknown."""
        parts, at, stop = [], start, start + count
        for begin, piece in self._pieces:
            end = min(begin + piece.shape[1], stop)
            if at < end and begin < stop:
                parts += self._others(at, begin)
                at = max(at, begin)
                parts.append(piece[:, at - begin : end - begin])
                at = end
        parts += self._others(at, stop)
        return parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=1)

    def _others(self, start: int, stop: int) -> list[Any]:
        """Return the rows of positions that no piece has: those of checkpoints, and zeros."""
        parts, at = [], start
        for place in [*sorted(each for each in self._marked if start <= each < stop), stop]:
            if at < place:
                parts.append(mx.zeros((1, place - at, self._width), self._kind))
            if place < stop:
                parts.append(self._marked[place])
            at = place + 1
        return parts

    def _at(self, position: int) -> Any:
        return mx.contiguous(self.rows(position, 1))


class Runner:
    """Runs the network of a model, and shows its hidden rows to a head if there is one."""

    def __init__(self, network: Any, caches: Caches) -> None:
        self.network = network
        self.caches = caches
        self._trunk: Trunk | None = None
        self._hidden: HiddenPieces | None = None

    @property
    def trunk(self) -> Trunk:
        """The parts of the network that a head needs."""
        return Trunk(self.network)

    def show(self, hidden: HiddenPieces | None) -> None:
        """Put the hidden rows of each call into `hidden` from now on; None ends that."""
        self._trunk, self._hidden = self.trunk if hidden else None, hidden

    def end_of_call(self, held: int, end: int) -> int:
        """Return the end of the next call of those that lead to `end` tokens; the cache holds `held`."""
        return end

    def __call__(self, tokens: Any, cache: Sequence[Any]) -> Any:
        """Note the run of tokens of shape (1, any). Return scores, at least those of the last token."""
        if self._trunk is None or self._hidden is None:
            return self.network(tokens, cache=cache)
        rows = self._trunk.rows(tokens, cache)
        self._hidden.take(rows)
        return self._trunk.scores(rows)

    @property
    def rows(self) -> list[Any]:
        """The arrays to compute after a call without scores, besides the caches."""
        return self._hidden.latest if self._hidden else []

    def stand_at(self, length: int) -> None:
        """Follow the cache, which now holds `length` tokens."""
        if self._hidden:
            self._hidden.stand_at(length)

    def wants_again(self, length: int) -> bool:
        """Return whether the last of `length` tokens, which a cut has left, should run again for a head."""
        return self._hidden is not None and self._hidden.wants_again(length)

    def read_along(self, least: int) -> None:
        """Let a head read the tokens that wait for it, if they are at least `least`."""
        if self._hidden:
            self._hidden.read_along(least)

    def computed(self, held: int, nearest: Callable[[int], int]) -> None:
        """Let a head read the tokens of a call without scores; `nearest` is that of the checkpoints."""
        if self._hidden is None:
            return
        if nearest(held) == held:
            self._hidden.mark(held, nearest)
        self._hidden.read_along()
