"""Rewinds each kind of cache: attention by cells, recurrent states by copies of them.

A recurrent state holds all tokens at once, so no token can be removed from it. The state before the tokens
must have been kept. Either llama.cpp keeps a copy for each of the last tokens (`Snapshots`), or a second
sequence keeps the earlier state of the first (`Fork`). A hybrid model has cells and states, rewound together.
To go further back, a copy of the state is restored (`save`, `restore`; see `checkpoints`).

These classes change the cache and report the rest. They run no token: the caller runs the missing ones again.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from ...library.header import Header
from ...speculation.chances import LONGEST
from .. import ModelError, Rewinds
from ..cached import Content, RewindableCache
from .window_places import placed, reaching_back

ANSWER, KEPT = 0, 1
"""The sequence that is continued, and the sequence in which a `Fork` keeps the earlier state."""
COPIES = LONGEST
"""Most tokens that a round takes back: the drafted ones."""
HEAD_COPIES = 8
"""The same where a head drafts. Its drafts are short, and each copy takes as much memory as the state."""
_WHOLE = 0
"""Flags of a copy that needs nothing of the present cache."""
_ALL = -1
"""All sequences. A copy of them also has the masked cells of the windows."""
_SHARE = 8
"""Divisor: copies of a state may take one byte for this many bytes of weights."""
_FEWEST = 3
"""Copies for which it is worth to limit the length of a draft. With fewer, a `Fork` is better."""


class NativeCache(RewindableCache):
    """The memory of a context, as a `RewindableCache`. It can be copied, and a copy can be restored."""

    loses = True
    """Whether a rewind may lose the end of the cache."""

    def __init__(self, library: Any, context: int) -> None:
        self._library = library
        self._context = context
        self.began = 0
        """Number of tokens in the cache before its last call or cut."""
        self._memory = library.llama_get_memory(context)
        self._flags = library.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY

    def keep(self, length: int) -> None:
        pass

    def clear(self) -> None:
        self.began = 0
        self._library.llama_memory_clear(self._memory, False)

    def state_bytes(self) -> int:
        """Return the bytes of a copy: of the recurrent state, or of the cells in the windows."""
        if not self.loses:
            return 0
        return int(self._library.llama_state_seq_get_size_ext(self._context, ANSWER, self._flags))

    def save(self) -> bytes | None:
        """Return a copy in the library's own form. All other cells stay in place."""
        size = self.state_bytes()
        buffer = (ctypes.c_uint8 * size)()
        written = self._library.llama_state_seq_get_data_ext(self._context, buffer, size, ANSWER, self._flags)
        return bytes(buffer) if written == size else None

    def restore(self, state: bytes, length: int) -> bool:
        """Restore a copy made at `length` tokens, and cut all other cells to that length."""
        library, self.began = self._library, length
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        return (
            library.llama_state_seq_set_data_ext(self._context, buffer, len(state), ANSWER, self._flags) > 0
            and bool(library.llama_memory_seq_rm(self._memory, ANSWER, length, -1))
            and library.llama_memory_seq_pos_max(self._memory, ANSWER) == length - 1
        )

    def content(self, length: int, back: int, most: int) -> Content | None:
        """Return all cells and states of the answer's sequence. Masked cells of a window are left out."""
        cells = self._state(ANSWER, _WHOLE, most)
        return None if cells is None else Content(cells, self._cut_from(length))

    def _state(self, sequence: int, flags: int, most: int) -> memoryview | None:
        """Return a state in the library's form; None if it has none. Raises `MemoryError`."""
        size = int(self._library.llama_state_seq_get_size_ext(self._context, sequence, flags))
        if size > most:
            raise MemoryError
        if not size:
            return None
        buffer = np.empty(size, np.uint8)  # unlike an array of ctypes, without the time to fill it with zeros
        address = buffer.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        written = self._library.llama_state_seq_get_data_ext(self._context, address, size, sequence, flags)
        return buffer.data if written == size else None

    def fill(self, content: Any, length: int) -> bool:
        """Put back the content of a cache of `length` tokens. False for one that does not fit."""
        self.clear()
        library, size, self.began = self._library, len(content), length
        writable = not memoryview(content).readonly
        kind = ctypes.c_uint8 * size
        buffer = kind.from_buffer(content) if writable else kind.from_buffer_copy(content)
        taken = library.llama_state_seq_set_data_ext(self._context, buffer, size, ANSWER, _WHOLE)
        last = library.llama_memory_seq_pos_max(self._memory, ANSWER)
        return bool(taken == size and last == length - 1)

    def _cut_from(self, length: int) -> int:
        """Return the shortest length to which a cache of `length` tokens can be cut after `fill`."""
        return length

    pack = unpack = staticmethod(bytes)


class Cells(NativeCache):
    """Attention: every token has its own cell. A sliding window may have dropped needed cells."""

    rewinds: Rewinds = "anywhere"

    def __init__(self, library: Any, context: int, window: int, *, drops: bool) -> None:
        """A token sees `window` tokens before it; 0 for all. `drops` tells that older cells are lost."""
        super().__init__(library, context)
        self._window = window
        self._blank = 0
        """Number of cells, from the left, that the windows have without their content."""
        self.loses = drops

    def save(self) -> bytes | None:
        """Return a copy, which is also restored at once.

        A restored copy lies in other cells, in another order, and attention over them rounds differently.
        Restoring it now gives the following tokens the same bits, now and after each later restore.
        """
        state = super().save()
        held = self._library.llama_memory_seq_pos_max(self._memory, ANSWER) + 1
        if state and not self.restore(state, held):
            raise ModelError("the cache of the model could not be copied", "Load the model again.")
        return state

    def reaches(self, length: int) -> int:
        if not self._window:
            return length
        # A sliding-window cache accepts a rewind even if it has dropped cells in the window.
        first = max(self._blank, self._library.llama_memory_seq_pos_min(self._memory, ANSWER))
        return length if first <= max(0, length - self._window + 1) else 0

    def clear(self) -> None:
        super().clear()
        self._blank = 0

    def fill(self, content: Any, length: int) -> bool:
        """Put back the content. Where a window keeps all its cells, those in it get their places again."""
        if not self._window or self.loses:
            return super().fill(content, length)
        found = placed(content, length)
        if found is None or not super().fill(found.state, length):
            return False
        self._blank = found.blank
        return True

    def content(self, length: int, back: int, most: int) -> Content | None:
        """Return all cells, and the masked ones of a window that the tokens behind the first `back` see."""
        content = super().content(length, back, most)
        if content is None or self.loses or not self._window:
            return content
        first = max(self._blank, back - self._window + 1)
        if first >= length - self._window:
            return content
        try:
            windows = self._state(_ALL, self._flags, most - len(content.cells))
        except MemoryError:
            return content
        cells = reaching_back(content.cells, windows, length, first) if windows else None
        return Content(cells, first + self._window - 1 if first else 0) if cells else content

    def _cut_from(self, length: int) -> int:
        # A saved window has only the cells that the next token sees, so one token can be taken out.
        return length - 1 if 0 < self._window < length else 0

    def cut(self, length: int) -> int:
        if not self._library.llama_memory_seq_rm(self._memory, ANSWER, length, -1):
            return 0
        last = self._library.llama_memory_seq_pos_max(self._memory, ANSWER)
        return self.reaches(length) if last == length - 1 else 0


class Snapshots(NativeCache):
    """A recurrent state, with a copy after each of the last tokens of the last call, made as it runs."""

    rewinds: Rewinds = "round"

    def __init__(self, library: Any, context: int) -> None:
        super().__init__(library, context)
        self._copies = library.llama_n_rs_seq(context)

    def reaches(self, length: int) -> int:
        # The library also accepts a rewind to before its last call, where the copies are of an older call.
        held = self._library.llama_memory_seq_pos_max(self._memory, ANSWER) + 1
        return length if length > self.began and held - length <= self._copies else 0

    def cut(self, length: int) -> int:
        within = self.reaches(length)
        if within and self._library.llama_memory_seq_rm(self._memory, ANSWER, length, -1):
            self.began = length
            return length
        return 0


class Fork(NativeCache):
    """A recurrent state that a second sequence keeps while the first continues.

    The two share state and cells until the first continues in its own state, so keeping copies nothing. It
    needs a context of two sequences in one unified cache.
    """

    rewinds: Rewinds = "round"

    def __init__(self, library: Any, context: int) -> None:
        super().__init__(library, context)
        self._kept = 0

    def keep(self, length: int) -> None:
        self._copy(ANSWER, KEPT)
        self._kept = length

    def reaches(self, length: int) -> int:
        return self._kept if self._kept <= length else 0

    def cut(self, length: int) -> int:
        self._kept = self.reaches(length)
        if self._kept:
            self._copy(KEPT, ANSWER)
        return self._kept

    def clear(self) -> None:
        super().clear()
        self._kept = 0

    def restore(self, state: bytes, length: int) -> bool:
        self._library.llama_memory_seq_rm(self._memory, KEPT, -1, -1)  # it would keep cells in use
        self._kept = 0
        return super().restore(state, length)

    def _copy(self, source: int, target: int) -> None:
        self._library.llama_memory_seq_rm(self._memory, target, -1, -1)
        self._library.llama_memory_seq_cp(self._memory, source, target, -1, -1)


def cache_of(library: Any, model: int, context: int, *, full_windows: bool) -> NativeCache:
    """Return the cache of `context`. Full windows keep all their cells."""
    if not is_recurrent(library, model):
        window = library.llama_model_n_swa(model)
        return Cells(library, context, window, drops=bool(window) and not full_windows)
    return Snapshots(library, context) if library.llama_n_rs_seq(context) else Fork(library, context)


def is_recurrent(library: Any, model: int) -> bool:
    """Return whether a model has a recurrent state, alone or beside attention."""
    return bool(library.llama_model_is_recurrent(model) or library.llama_model_is_hybrid(model))


def affordable_copies(library: Any, model: int, header: Header, most: int) -> int:
    """Return how many copies of the state are small beside the weights, by the file's numbers.

    They are at most `most`. 0 if they are too few for a draft.
    """
    keys = (f"{header.facts.architecture}.ssm.{key}" for key in ("inner_size", "state_size"))
    inner, state = (_number(library, model, key) for key in keys)
    layers = {each.name.split(".")[1] for each in header.tensors if ".ssm_" in each.name}
    bytes_ = 4 * len(layers) * inner * state
    copies = min(most, header.facts.size // (_SHARE * bytes_)) if bytes_ else most
    return copies if copies >= _FEWEST else 0


def _number(library: Any, model: int, key: str) -> int:
    """Return a whole number of the file's metadata; 0 if there is none."""
    buffer = ctypes.create_string_buffer(32)
    length = library.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return int(buffer.value) if length > 0 and buffer.value.isdigit() else 0
