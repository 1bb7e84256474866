"""How each kind of cache is cut back: attention by cells, recurrent states by copies of them.

A recurrent state holds all tokens at once, so none can be taken out of it. It must have been kept as it was
before them: llama.cpp keeps a copy for each of the last tokens (`Snapshots`), or a second sequence stays
behind with the state that the first one left (`Fork`). A hybrid model has cells and states, cut alike.

These classes change the cache and say what is left of it. They run no token: what is missing the caller
runs again.
"""

from __future__ import annotations

import ctypes
from typing import Any, Protocol

from ...library.header import Header
from .. import Rewinds

ANSWER, KEPT = 0, 1
"""The sequence that is continued, and the one that a `Fork` stays behind with."""
COPIES = 16
"""Most tokens that a round takes back: those that were proposed."""
_SHARE = 8
"""Copies of a state may take one byte for so many bytes of weights."""


class Rollback(Protocol):
    """One kind of cache."""

    rewinds: Rewinds

    def keep(self, length: int) -> None:
        """The cache holds `length` tokens, and `cut` may soon be asked for these and some behind them."""
        ...

    def cut(self, length: int, began: int) -> int:
        """Cut the cache to its first `length` tokens, or fewer. How many it holds now; 0 means: clear it.

        `length` is below what it holds; its last call ran the tokens from `began` on.
        """
        ...


class Cells:
    """Attention: every token has a cell of its own. A sliding window may have dropped what it needs again."""

    rewinds: Rewinds = "anywhere"

    def __init__(self, library: Any, memory: int, window: int) -> None:
        self._library = library
        self._memory = memory
        self._window = window

    def keep(self, length: int) -> None:
        pass

    def cut(self, length: int, began: int) -> int:
        if not self._library.llama_memory_seq_rm(self._memory, ANSWER, length, -1):
            return 0
        last = self._library.llama_memory_seq_pos_max(self._memory, ANSWER)
        # A sliding-window cache agrees to be cut even where it has dropped what lies in the window.
        first = self._library.llama_memory_seq_pos_min(self._memory, ANSWER)
        needed = max(0, length - self._window) if self._window else 0
        return length if last == length - 1 and first <= needed else 0


class Snapshots:
    """A recurrent state with a copy behind each of the last tokens of the last call, made as it runs."""

    rewinds: Rewinds = "round"

    def __init__(self, library: Any, memory: int) -> None:
        self._library = library
        self._memory = memory

    def keep(self, length: int) -> None:
        pass

    def cut(self, length: int, began: int) -> int:
        # The library also agrees to go back before its last call, where the copies are of an older one.
        within = length > began and self._library.llama_memory_seq_rm(self._memory, ANSWER, length, -1)
        return length if within else 0


class Fork:
    """A recurrent state that a second sequence holds on to while the first goes on.

    The two share state and cells until the first is continued, in a state of its own: keeping copies
    nothing. It needs a context of two sequences in one unified cache.
    """

    rewinds: Rewinds = "round"

    def __init__(self, library: Any, memory: int) -> None:
        self._library = library
        self._memory = memory
        self._kept = 0

    def keep(self, length: int) -> None:
        self._copy(ANSWER, KEPT)
        self._kept = length

    def cut(self, length: int, began: int) -> int:
        if self._kept > length:
            self._kept = 0
        if self._kept:
            self._copy(KEPT, ANSWER)
        return self._kept

    def _copy(self, source: int, target: int) -> None:
        self._library.llama_memory_seq_rm(self._memory, target, -1, -1)
        self._library.llama_memory_seq_cp(self._memory, source, target, -1, -1)


def rollback_of(library: Any, model: int, context: int) -> Rollback:
    """What the cache of `context` can do."""
    memory = library.llama_get_memory(context)
    if not is_recurrent(library, model):
        return Cells(library, memory, library.llama_model_n_swa(model))
    return Snapshots(library, memory) if library.llama_n_rs_seq(context) else Fork(library, memory)


def is_recurrent(library: Any, model: int) -> bool:
    """Whether a model has a recurrent state, alone or beside attention."""
    return bool(library.llama_model_is_recurrent(model) or library.llama_model_is_hybrid(model))


def affords_copies(library: Any, model: int, header: Header) -> bool:
    """Whether `COPIES` of the model's state are small beside its weights, by what its file says of them."""
    inner, state = (
        _number(library, model, f"{header.architecture}.ssm.{key}") for key in ("inner_size", "state_size")
    )
    bytes_ = 4 * header.block_count * inner * state
    return COPIES * bytes_ * _SHARE <= header.weight_bytes


def _number(library: Any, model: int, key: str) -> int:
    """A whole number of the file's metadata; 0 if there is none."""
    buffer = ctypes.create_string_buffer(32)
    length = library.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return int(buffer.value) if length > 0 and buffer.value.isdigit() else 0
