"""Computes a call that takes long layer by layer, so that it shows progress and can be given up.

MLX computes nothing before it must. So the caches of a noted call can be computed one after the other, and
between two layers the call asks whether its result is still wanted. If not, the caches become what they were
before the call. A short call is computed at once. The parts give the same bits as the whole.

This module measures the time of a token, and chooses no token.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from time import perf_counter
from typing import Any, TypeVar

import mlx.core as mx

from .. import GivenUp
from .caches import Caches, leaves

LONG = 0.25
"""Seconds. A call that should take longer is computed in parts."""
_PART = 0.4
"""Most seconds of a part: a person who has canceled waits for its end."""

Result = TypeVar("Result")


class Parts:
    """The calls of one model, and the time of a token in them."""

    def __init__(self, caches: Caches, clock: Callable[[], float] = perf_counter) -> None:
        self._caches = caches
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
        ask: Callable[[float], object],
    ) -> Result:  # fmt: skip
        """Note a call of `tokens` tokens, compute its caches, and return what `finish` makes of its scores.

        In a call that takes long, `ask` gets the share of each part, in tokens. If it raises `GivenUp`, the
        caches stay as they were.
        """
        began = self._clock()
        noted = self._in_parts(note, tokens, ask) if self.are_needed(tokens) else note()
        result = finish(noted)
        self._token = (self._clock() - began) / tokens
        return result

    def _in_parts(self, note: Callable[[], Any], tokens: int, ask: Callable[[float], object]) -> Any:
        every = list(leaves(self._caches.all))
        before = [{name: _kept(value) for name, value in vars(leaf).items()} for leaf in every]
        for leaf in every:
            vars(leaf).update(begins=False)  # a layer that MLX has begun cannot be given up
        try:
            noted = note()
            for leaf in every:
                mx.eval(leaf.state)
                ask(tokens / (len(every) + 1))
        except GivenUp:
            for leaf, values in zip(every, before, strict=True):
                vars(leaf).clear()
                vars(leaf).update(values)
            raise
        for leaf, values in zip(every, before, strict=True):
            vars(leaf).pop("begins")
            vars(leaf).update({name: value for name, value in values.items() if name == "begins"})
        return noted


def _kept(value: Any) -> Any:
    """Return a value of a cache that a later write into the cache does not change."""
    if isinstance(value, mx.array):
        return value[...]
    return type(value)(map(_kept, value)) if isinstance(value, list | tuple) else value
