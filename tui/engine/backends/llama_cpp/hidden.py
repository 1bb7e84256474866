"""The hidden rows of a main model: the numbers behind its last layer, one row for each token.

llama.cpp overwrites the rows in its next call, so they are copied after each call. `kept_rows` tells which of
them stay. This module runs no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ctypes import addressof
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..kept_rows import KEPT, KeptRows
from .batch import BATCH

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


class HiddenRows(KeptRows[Rows]):
    """The rows of a main model, by the position of their token."""

    def __init__(self, native: RowSource, *, again: bool) -> None:
        """`again` tells whether the main model may run a token again for its row."""
        super().__init__(again=again)
        self._native = native
        self.width = native.width
        self._rows = np.zeros((HELD, native.width), np.float32)

    def close(self) -> None:
        """End it, while the context still exists."""
        self._native.close()

    def stand_at(self, length: int) -> None:
        """Follow a cache into which another content of `length` tokens was put. No row is known then."""
        self.cut(0)
        self._first = self.end = length

    def kept(self) -> Iterator[tuple[int, bytes]]:
        """Yield the rows at the ends of checkpoints, and the last row: the number of tokens, and the row."""
        yield from ((place + 1, row.tobytes()) for place, row in self._marked.items())
        if self._has(self.end - 1):
            yield self.end, self._at(self.end - 1).tobytes()

    def recall(self, rows: Iterable[tuple[int, Any]]) -> None:
        """Take the rows of `kept` that are missing here."""
        for length, content in rows:
            row = np.frombuffer(content, np.float32)
            if not 0 < length <= self.end or len(row) != self.width or self._has(length - 1):
                continue
            if length == self.end:
                self._first, self._rows[0] = length - 1, row
            else:
                self._marked[length - 1] = row

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

    def _at(self, position: int) -> Rows:
        row: Rows = self._rows[position - self._first].copy()
        return row
