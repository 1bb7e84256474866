"""Gives a saved sliding window the cells that a later cut needs, and puts them into their old places.

llama.cpp leaves the masked cells of a window out of a saved state, and puts the others into the first cells.
A cut to fewer tokens would need some of the masked cells: `reaching_back` takes these out of another state.
Attention over cells in other places sums in another order, so its results round differently: `placed` puts
cells of zeros, which attention never looks at, into the places of the others. This module calls no library.
The form of a state is that of `llama_kv_cache::state_write` in llama.cpp's sources.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_BEGIN = 8
"""Bytes before the first cache: a mark, and the number of the sequence."""
_COUNTS = struct.Struct("=II")
"""The number of streams, and of cells."""
_CELL = np.dtype([("position", "i4"), ("sequences", "u4"), ("sequence", "i4")])
_FORM = struct.Struct("=II")
"""Whether the values of a layer lie number by number, and the number of layers."""
_ROWS = struct.Struct("=iQ")
"""The type of numbers that lie cell by cell, and the bytes of a cell."""
_TURNED = struct.Struct("=iII")
"""The type of numbers that lie number by number, their bytes, and how many each cell has."""

Bytes = NDArray[np.uint8]


class _Block(NamedTuple):
    """The keys or the values of one layer."""

    head: int
    """Where its head begins."""
    begin: int
    rows: int
    """Rows of the data: one for each number of a cell, or a single one."""
    cell: int
    """Bytes of a cell in each row."""


class _Part(NamedTuple):
    """The cells of one of the two caches in a state: those of full attention, or those of the windows."""

    begin: int
    cells: NDArray[Any]
    blocks: list[_Block]
    end: int


class Placed(NamedTuple):
    """A state whose cells have their old places."""

    state: Any
    """Its bytes."""
    blank: int
    """The number of cells of zeros, which stand first."""


def placed(content: Any, length: int) -> Placed | None:
    """Return the state `content` of a cache of `length` tokens with all cells of its windows.

    None if its form is unknown, or if the cells of its windows are not the last ones in their order.
    """
    state = np.frombuffer(content, np.uint8)
    try:
        full = _part(state, _BEGIN)
        window = _part(state, full.end)
    except (struct.error, ValueError):
        return None
    first = length - len(window.cells)
    if window.end != len(state) or first < 0 or not _in_order(window.cells, first):
        return None
    return Placed(_with_room(state, window, first).data if first else content, first)


def reaching_back(content: memoryview, windows: memoryview, length: int, first: int) -> memoryview | None:
    """Return the state `content` of a cache of `length` tokens with the cells of its windows from `first` on.

    `windows` is the state of all cells of the windows alone. None if a form is unknown, or if these are not
    in their order.
    """
    state, more = np.frombuffer(content, np.uint8), np.frombuffer(windows, np.uint8)
    try:
        begin = _part(state, _BEGIN).end
        seen, part = _part(state, begin), _part(more, _BEGIN)
    except (struct.error, ValueError):
        return None
    whole = seen.end == len(state) and part.end == len(more) and len(part.cells) == length
    if not whole or not _in_order(part.cells, 0):
        return None
    return np.concatenate([state[:begin], *_from(more, part, first)]).data


def _from(state: Bytes, part: _Part, first: int) -> Iterator[Bytes]:
    """Yield the bytes of `part` of `state` without its first cells, up to the cell `first`."""
    count = len(part.cells)
    yield np.frombuffer(_COUNTS.pack(1, count - first), np.uint8)
    yield part.cells[first:].view(np.uint8)
    at = part.begin + _COUNTS.size + part.cells.nbytes
    for block in part.blocks:
        yield state[at : block.begin]
        at = block.begin + block.rows * block.cell * count
        rows = state[block.begin : at].reshape(block.rows, block.cell * count)
        yield rows[:, block.cell * first :].reshape(-1)


def _part(state: Bytes, begin: int) -> _Part:
    """Read one cache. Raises `struct.error` and `ValueError`."""
    streams, count = _COUNTS.unpack_from(state.data, begin)
    if streams != 1 or not count:
        raise ValueError("not one sequence")
    at = begin + _COUNTS.size
    cells = np.frombuffer(state, _CELL, count, at)
    at += cells.nbytes
    turned, layers = _FORM.unpack_from(state.data, at)
    at += _FORM.size
    blocks = []
    for place in range(2 * layers):
        if turned and place >= layers:
            _, cell, rows = _TURNED.unpack_from(state.data, at)
            head = _TURNED.size
        else:
            (_, cell), rows, head = _ROWS.unpack_from(state.data, at), 1, _ROWS.size
        blocks.append(_Block(at, at + head, rows, cell))
        at += head + rows * cell * count
    return _Part(begin, cells, blocks, at)


def _in_order(cells: NDArray[Any], first: int) -> bool:
    """Return whether these are the cells of the positions from `first` on, all of the same sequence."""
    return bool(
        (cells["position"] == np.arange(first, first + len(cells))).all()
        and (cells["sequences"] == 1).all()
        and (cells["sequence"] == cells["sequence"][0]).all()
    )


def _with_room(state: Bytes, part: _Part, first: int) -> Bytes:
    """Return `state` with `first` more cells before those of `part`, its last one."""
    count = len(part.cells)
    more = _CELL.itemsize + sum(each.rows * each.cell for each in part.blocks)
    wide = np.zeros(len(state) + first * more, np.uint8)  # the system lends pages of zeros for nothing
    wide[: part.begin] = state[: part.begin]
    _COUNTS.pack_into(wide.data, part.begin, 1, first + count)
    at = part.begin + _COUNTS.size
    cells = np.frombuffer(wide, _CELL, first + count, at)
    cells["position"] = np.arange(first + count)
    cells["sequences"] = 1
    cells["sequence"] = part.cells["sequence"][0]
    old, at = part.begin + _COUNTS.size + part.cells.nbytes, at + cells.nbytes
    for block in part.blocks:
        wide[at : at + block.begin - old] = state[old : block.begin]
        at += block.begin - old
        size = block.cell * (first + count)
        for row in range(block.rows):
            begin = block.begin + row * block.cell * count
            wide[at + size - block.cell * count : at + size] = state[begin : begin + block.cell * count]
            at += size
        old = block.begin + block.rows * block.cell * count
    return wide
