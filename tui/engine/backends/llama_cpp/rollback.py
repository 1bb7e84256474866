"""How each kind of cache is cut back: attention by cells, recurrent states by copies of them.

A recurrent state holds all tokens at once, so none can be taken out of it. It must have been kept as it was
before them: llama.cpp keeps a copy for each of the last tokens (`Snapshots`), or a second sequence stays
behind with the state that the first one left (`Fork`). A hybrid model has cells and states, cut alike.
To go further back, a copy of the state is put back (`save`, `restore`; see `checkpoints`).

These classes change the cache and say what is left of it. They run no token: what is missing the caller
runs again.
"""

from __future__ import annotations

import ctypes
from typing import Any, Protocol

from ...library.header import Header
from ...speculation.chances import LONGEST
from .. import ModelError, Rewinds

ANSWER, KEPT = 0, 1
"""The sequence that is continued, and the one that a `Fork` stays behind with."""
COPIES = LONGEST
"""Most tokens that a round takes back: those that were proposed."""
_SHARE = 8
"""Copies of a state may take one byte for so many bytes of weights."""


class Rollback(Protocol):
    """One kind of cache."""

    rewinds: Rewinds

    def keep(self, length: int) -> None:
        """The cache holds `length` tokens, and `cut` may soon be asked for these and some behind them."""
        ...

    def reaches(self, length: int, began: int) -> int:
        """How many tokens `cut` would leave. Changes nothing."""
        ...

    def cut(self, length: int, began: int) -> int:
        """Cut the cache to its first `length` tokens, or fewer. How many it holds now; 0 means: clear it.

        `length` is below what it holds; its last call ran the tokens from `began` on.
        """
        ...

    def state_bytes(self) -> int: ...

    def save(self) -> bytes | None: ...

    def restore(self, state: bytes, length: int) -> bool: ...


class _Memory:
    """The memory of a context. It can be copied, and a copy can be put back."""

    loses = True
    """Whether a cut may lose the place to go on from."""

    def __init__(self, library: Any, context: int) -> None:
        self._library = library
        self._context = context
        self._memory = library.llama_get_memory(context)
        self._flags = library.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY

    def keep(self, length: int) -> None:
        pass

    def state_bytes(self) -> int:
        """The size of a copy: of the recurrent state, or of the cells in the windows."""
        if not self.loses:
            return 0
        return int(self._library.llama_state_seq_get_size_ext(self._context, ANSWER, self._flags))

    def save(self) -> bytes | None:
        """A copy in the library's own form. All other cells stay where they are."""
        size = self.state_bytes()
        buffer = (ctypes.c_uint8 * size)()
        written = self._library.llama_state_seq_get_data_ext(self._context, buffer, size, ANSWER, self._flags)
        return bytes(buffer) if written == size else None

    def restore(self, state: bytes, length: int) -> bool:
        """Put back a copy that was made at `length` tokens, and cut all other cells to these."""
        library = self._library
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        return (
            library.llama_state_seq_set_data_ext(self._context, buffer, len(state), ANSWER, self._flags) > 0
            and bool(library.llama_memory_seq_rm(self._memory, ANSWER, length, -1))
            and library.llama_memory_seq_pos_max(self._memory, ANSWER) == length - 1
        )


class Cells(_Memory):
    """Attention: every token has a cell of its own. A sliding window may have dropped what it needs again."""

    rewinds: Rewinds = "anywhere"

    def __init__(self, library: Any, context: int, window: int, *, drops: bool) -> None:
        """A token sees `window` tokens before it; 0 for all. `drops` says that older cells are lost."""
        super().__init__(library, context)
        self._window = window
        self.loses = drops

    def save(self) -> bytes | None:
        """A copy, which is put back at once.

        What is put back lies in other cells, in another order, and attention over them rounds otherwise. Now
        whatever follows has the same bits, now and each time that the copy is put back.
        """
        state = super().save()
        held = self._library.llama_memory_seq_pos_max(self._memory, ANSWER) + 1
        if state and not self.restore(state, held):
            raise ModelError("the cache of the model could not be copied", "Load the model again.")
        return state

    def reaches(self, length: int, began: int) -> int:
        # A sliding-window cache agrees to be cut even where it has dropped what lies in the window.
        first = self._library.llama_memory_seq_pos_min(self._memory, ANSWER)
        needed = max(0, length - self._window) if self._window else 0
        return length if first <= needed else 0

    def cut(self, length: int, began: int) -> int:
        if not self._library.llama_memory_seq_rm(self._memory, ANSWER, length, -1):
            return 0
        last = self._library.llama_memory_seq_pos_max(self._memory, ANSWER)
        return self.reaches(length, began) if last == length - 1 else 0


class Snapshots(_Memory):
    """A recurrent state with a copy behind each of the last tokens of the last call, made as it runs."""

    rewinds: Rewinds = "round"

    def reaches(self, length: int, began: int) -> int:
        # The library also agrees to go back before its last call, where the copies are of an older one.
        held = self._library.llama_memory_seq_pos_max(self._memory, ANSWER) + 1
        return length if length > began and held - length <= COPIES else 0

    def cut(self, length: int, began: int) -> int:
        within = self.reaches(length, began)
        if within and self._library.llama_memory_seq_rm(self._memory, ANSWER, length, -1):
            return length
        return 0


class Fork(_Memory):
    """A recurrent state that a second sequence holds on to while the first goes on.

    The two share state and cells until the first is continued, in a state of its own: keeping copies
    nothing. It needs a context of two sequences in one unified cache.
    """

    rewinds: Rewinds = "round"

    def __init__(self, library: Any, context: int) -> None:
        super().__init__(library, context)
        self._kept = 0

    def keep(self, length: int) -> None:
        self._copy(ANSWER, KEPT)
        self._kept = length

    def reaches(self, length: int, began: int) -> int:
        return self._kept if self._kept <= length else 0

    def cut(self, length: int, began: int) -> int:
        self._kept = self.reaches(length, began)
        if self._kept:
            self._copy(KEPT, ANSWER)
        return self._kept

    def restore(self, state: bytes, length: int) -> bool:
        self._library.llama_memory_seq_rm(self._memory, KEPT, -1, -1)  # it would hold on to cells
        self._kept = 0
        return super().restore(state, length)

    def _copy(self, source: int, target: int) -> None:
        self._library.llama_memory_seq_rm(self._memory, target, -1, -1)
        self._library.llama_memory_seq_cp(self._memory, source, target, -1, -1)


def rollback_of(library: Any, model: int, context: int, *, full_windows: bool) -> Rollback:
    """What the cache of `context` can do. Full windows keep all their cells."""
    if not is_recurrent(library, model):
        window = library.llama_model_n_swa(model)
        return Cells(library, context, window, drops=bool(window) and not full_windows)
    return Snapshots(library, context) if library.llama_n_rs_seq(context) else Fork(library, context)


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
