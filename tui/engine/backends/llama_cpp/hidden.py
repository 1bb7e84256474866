"""The hidden rows of a main model: the numbers behind its last layer, one row for each token.

A head needs the row of the token before each token that it reads. llama.cpp overwrites the rows in its next
call, so they are copied after each call. The latest ones stay here, and also the row at the end of each
checkpoint, where a cut may lead back to. Other rows are gone; the main model then runs a token again, or the
head gets zeros. This module runs no model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import addressof
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .batch import BATCH

WAITING = 64
"""Most tokens of an answer that wait for the head while nothing is drafted. Reading them takes less time than
a token of a large model, so the text does not stand still. Fewer would waste the head's weights, which each
call reads."""
KEPT = 128
"""Latest rows that stay when there is no room for all."""
HELD = 2 * BATCH
"""Most rows that stay."""

Rows = NDArray[np.float32]


class RowSource(Protocol):
    """Rows of the last call of a context, where the library keeps them."""

    width: int
    """Floats in a row."""

    def copy(self, target: Rows) -> bool:
        """Copy as many rows as `target` has. Return whether the library has any."""
        ...

    def close(self) -> None:
        """Let the library keep no rows from now on."""
        ...


class NativeRows:
    """The hidden rows."""

    def __init__(self, extensions: Any, context: int, width: int, *, of_outputs: bool = False) -> None:
        """`of_outputs`: only tokens with scores have rows."""
        self._get = extensions.llama_get_embeddings_nextn
        self._set = extensions.llama_set_embeddings_nextn
        self._context = context
        self.width = width
        self.of_outputs = of_outputs
        self._views = _Views(width)
        self._set(context, True, of_outputs)

    def close(self) -> None:
        self._set(self._context, False, False)

    def copy(self, target: Rows) -> bool:
        if (rows := self.latest()) is None:
            return False
        target[:] = rows[: len(target)]
        return True

    def latest(self) -> Rows | None:
        """Return the rows of the last call, and others behind them; None if the library has none.

        The next call overwrites them.
        """
        return self._views.at(self._get(self._context))


class LayerRows:
    """The rows that enter one layer."""

    def __init__(self, functions: Any, context: int, width: int, layer: int) -> None:
        """`functions` are `native.LayerInputs`."""
        self._functions = functions
        self._context = context
        self._layer = layer
        self.width = width
        self._views = _Views(width)
        functions.set(context, layer, True)

    def close(self) -> None:
        self._functions.set(self._context, self._layer, False)

    def copy(self, target: Rows) -> bool:
        if (rows := self._views.at(self._functions.get(self._context, self._layer))) is None:
            return False
        target[:] = rows[: len(target)]
        return True


class JoinedRows:
    """Rows of several sources, one behind the other for each token."""

    def __init__(self, sources: Sequence[RowSource]) -> None:
        self._sources = sources
        self.width = sum(each.width for each in sources)

    def close(self) -> None:
        for each in self._sources:
            each.close()

    def copy(self, target: Rows) -> bool:
        ends = accumulate(each.width for each in self._sources)
        return all(
            each.copy(target[:, end - each.width : end])
            for each, end in zip(self._sources, ends, strict=True)
        )


class _Views:
    """Rows as arrays, by the address that the library writes to: it uses a few again and again."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._known: dict[int, Rows] = {}

    def at(self, pointer: Any) -> Rows | None:
        """Return the rows at `pointer`, as many as a call has at most; None if it points nowhere."""
        if not pointer:
            return None
        address = addressof(pointer.contents)
        if address not in self._known:
            self._known[address] = np.ctypeslib.as_array(pointer, (BATCH, self._width))
        return self._known[address]


class HiddenRows:
    """The rows of a main model, by the position of their token."""

    def __init__(self, native: RowSource, *, again: bool) -> None:
        """`again` tells whether the main model may run a token again for its row."""
        self._native = native
        self._again = again
        self.width = native.width
        self._rows = np.zeros((HELD, native.width), np.float32)
        self._first = 0
        self.end = 0
        """Position behind the last row: the number of tokens in the main model's cache."""
        self._marked: dict[int, Rows] = {}
        self.reader: Callable[[int], object] = lambda least: None
        """Reads the tokens that wait for the head, if they are at least so many."""

    def close(self) -> None:
        """End it, while the context still exists."""
        self._native.close()

    def take(self, start: int, count: int) -> None:
        """Copy the rows of the call that has run `count` tokens from position `start` on."""
        if not self._first <= start <= self.end:
            self._first = start
        held = start - self._first
        if held + count > HELD:
            self._rows[:KEPT] = self._rows[held - KEPT : held]
            self._first, held = start - KEPT, KEPT
        self.end = start + count
        if not self._native.copy(self._rows[held : held + count]):
            self._first = self.end

    def cut(self, length: int) -> None:
        """Forget the rows behind the first `length` tokens."""
        self.end = min(self.end, length)
        self._first = min(self._first, self.end)
        self._marked = {place: row for place, row in self._marked.items() if place < length}

    def mark(self, length: int, nearest: Callable[[int], int]) -> None:
        """Keep the last row of a checkpoint at `length` tokens.

        `nearest` returns the length of the longest checkpoint with at most so many tokens.
        """
        self._marked = {place: row for place, row in self._marked.items() if nearest(place + 1) == place + 1}
        if self._has(length - 1):
            self._marked[length - 1] = self._rows[length - 1 - self._first].copy()

    def wants_again(self, length: int) -> bool:
        """Return whether the main model, cut to `length` tokens, should run the last of them again."""
        return self._again and length > 0 and not self._has(length - 1) and length - 1 not in self._marked

    def read_along(self, least: int = 1) -> None:
        """Let the head read the tokens that wait for it, if they are at least `least`."""
        self.reader(least)

    def fill(self, target: Rows, start: int) -> None:
        """Write the rows of the positions from `start` on into `target`; zeros where a row is unknown."""
        stop = start + len(target)
        low, high = max(start, self._first), min(stop, self.end)
        if high - low < len(target):
            target[:] = 0
            for place, row in self._marked.items():
                if start <= place < stop:
                    target[place - start] = row
        if low < high:
            target[low - start : high - start] = self._rows[low - self._first : high - self._first]

    def _has(self, position: int) -> bool:
        return self._first <= position < self.end
