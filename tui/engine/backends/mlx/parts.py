"""Computes a call that takes long layer by layer, so that it shows progress and can be given up.

MLX computes nothing before it must. So the caches of a noted call can be computed one after the other, and
between two layers the call asks whether its result is still wanted. If not, the caches become what they were
before the call. A short call is computed at once. The parts give the same bits as the whole.
The output layer of a call whose scores are needed is computed in parts too: see `output_layer`.

Layers that take little time are one part. This module measures the time of a token, and chooses no token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import inf
from time import perf_counter
from typing import Any, TypeVar

import mlx.core as mx
from mlx_lm.models.cache import KVCache, QuantizedKVCache

from .. import GivenUp
from .caches import Caches, WindowCache, leaves
from .output_layer import OutputLayer

LONG = 0.25
"""Seconds. A call that should take longer is computed in parts."""
_PART = 0.4
"""Most seconds of a part: a person who has canceled waits for its end."""
_TOGETHER = 0.2
"""Seconds. Layers that should take no longer together are one part, because each wait for MLX takes time."""
_ENTRIES = ("keys", "values")
"""The names of the arrays into which attention caches write."""

Result = TypeVar("Result")


class Parts:
    """The calls of one model, and the time of a token in them."""

    def __init__(
        self, caches: Caches, output: OutputLayer | None = None, clock: Callable[[], float] = perf_counter
    ) -> None:
        self._caches = caches
        self._output = output or OutputLayer()
        self._clock = clock
        self._token = inf
        """Seconds of a token in the last call; a call of many tokens is quicker for each."""

    def are_needed(self, tokens: int) -> bool:
        """Return whether a call of so many tokens should take long."""
        return tokens * self._token > LONG

    def most(self, tokens: int) -> int:
        """Return how many of the next `tokens` one call may run, so that each of its parts is short."""
        layers = sum(1 for _ in leaves(self._caches.all))
        return max(1, min(tokens, int(_PART * (layers + 1) / self._token)))

    def compute(
        self, note: Callable[[], Any], finish: Callable[[Any], Result], tokens: int,
        ask: Callable[[float], object], *, scored: bool = True,
    ) -> Result:  # fmt: skip
        """Note a call of `tokens` tokens, compute its caches, and return what `finish` makes of its scores.

        `scored` tells whether `finish` needs them. In a call that takes long, `ask` gets the share of each
        part, in tokens. If it raises `GivenUp`, the caches stay as they were.
        """
        began = self._clock()
        noted = self._in_parts(note, tokens, ask, scored) if self.are_needed(tokens) else note()
        result = finish(noted)
        self._token = (self._clock() - began) / tokens
        return result

    def _in_parts(
        self, note: Callable[[], Any], tokens: int, ask: Callable[[float], object], scored: bool
    ) -> Any:
        before = [_Before(leaf) for leaf in leaves(self._caches.all)]
        for each in before:
            vars(each.leaf).update(begins=False)  # a layer that MLX has begun cannot be given up
        try:
            with self._output.divided(_TOGETHER / (tokens * self._token) if scored else 1.0) as pieces:
                noted = note()
            for part in self._divided(before, tokens):
                for each in part:
                    each.let_go()
                mx.eval([each.leaf.state for each in part])
                ask(tokens * len(part) / (len(before) + 1))
            for piece in pieces:
                mx.eval(piece)
                ask(tokens / (len(before) + 1) / len(pieces))
        except GivenUp:
            for each in before:
                each.come_back()
            raise
        for each in before:
            each.begin_again()
        return noted

    def _divided(self, before: Sequence[_Before], tokens: int) -> Iterator[Sequence[_Before]]:
        """Yield the caches in groups, each for the layers of one part."""
        size = max(1, int(_TOGETHER * (len(before) + 1) / (tokens * self._token)))
        for first in range(0, len(before), size):
            yield before[first : first + size]


class _Before:
    """A cache before a call, to which it can come back."""

    def __init__(self, leaf: Any) -> None:
        self.leaf = leaf
        self._values = {name: _kept(value) for name, value in vars(leaf).items()}

    def let_go(self) -> None:
        """Keep the present arrays no longer, if the noted call only writes behind their entries.

        While they are kept, MLX has to copy all of them before it writes.
        """
        now, values = vars(self.leaf), self._values
        same = isinstance(self.leaf, KVCache | QuantizedKVCache | WindowCache) and all(
            _shapes(now[name]) == _shapes(values[name]) for name in _ENTRIES
        )
        if same and now.get("_first") == values.get("_first"):
            for name in _ENTRIES:
                del values[name]

    def come_back(self) -> None:
        """Give the cache its values of before. Entries behind its end do not count."""
        now = vars(self.leaf)
        written = {name: now[name] for name in _ENTRIES if name in now and name not in self._values}
        now.clear()
        now.update(self._values | written)

    def begin_again(self) -> None:
        """Let MLX begin early at this cache, if it did so before."""
        vars(self.leaf).pop("begins")
        vars(self.leaf).update({name: value for name, value in self._values.items() if name == "begins"})


def _shapes(value: Any) -> list[Any]:
    """Return the shapes of an array, or of several; no shapes for none, which equal nothing."""
    arrays = value if isinstance(value, list | tuple) else [value]
    return [getattr(each, "shape", object()) for each in arrays]


def _kept(value: Any) -> Any:
    """Return a value of a cache that a later write into the cache does not change."""
    if isinstance(value, mx.array):
        return value[...]
    return type(value)(map(_kept, value)) if isinstance(value, list | tuple) else value
