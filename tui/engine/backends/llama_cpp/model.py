"""A loaded GGUF model with its KV cache: runs tokens, chooses at the last of them, rewinds.

llama.cpp ends the process if a call asks for too much, so this module checks every number first. It chooses
no token itself (the sampler does) and knows no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import addressof
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from ...library.describe import named
from ...library.header import Header
from ...speculation.loop import Pick
from .. import ModelError, prompt_form
from ..cached import REPLAY, CachedModel
from .rollback import ANSWER, NativeCache, cache_of
from .vocabulary import LlamaVocabulary

BATCH = 512
"""Most tokens in one native call, if the library allows that many."""
_NO_SLOT = 1
CELLS = 256
"""Cells. The library makes caches in multiples of this; a window gets room for itself and one call."""


class LlamaModel(CachedModel):
    """One sequence of a GGUF. Owns the native model and context."""

    _cache: NativeCache
    vocabulary: LlamaVocabulary

    def __init__(
        self, library: Any, model: int, context: int, header: Header, picks: int,
        *, full_windows: bool = True,
    ) -> None:  # fmt: skip
        """`picks` is the most tokens with a choice in one call. Full windows keep all their cells."""
        vocabulary = LlamaVocabulary(library, model)
        cache = cache_of(library, model, context, full_windows=full_windows)
        # The actual values of the library, which may lower either without notice.
        super().__init__(cache, vocabulary, header.facts.size, library.llama_n_ctx_seq(context), picks)
        self.chunk: int = min(BATCH, library.llama_n_batch(context))
        self.facts = replace(named(header.facts), prompt_form=prompt_form(vocabulary))
        cells = library.llama_model_n_swa(model) + self.chunk
        self.drops_from = 0 if full_windows else -(-cells // CELLS) * CELLS
        self.threads = 0
        """Threads by default; 0 if a GPU computes."""
        self._library = library
        self._model = model
        self._context = context
        self._memory = library.llama_get_memory(context)
        self._batch = _Batch(library)
        self._rows: dict[int, NDArray[np.float32]] = {}
        """Logits, by the address that the library writes them to."""
        self._doubled_from: int | None = None

    def double_single_rows(self, length: int) -> None:
        """From `length` tokens in the cache on, run each single row beside a copy of it that is discarded.

        A copy needs its own cell, so the capacity shrinks by one.
        """
        if self._doubled_from is None:
            self.capacity -= 1
        self._doubled_from = length

    def warm_up(self, row_counts: Sequence[int]) -> None:
        """Let the library prepare for calls of these sizes, so that the first token is not late."""
        for rows in row_counts:
            self._decode([0] * rows, max(0, rows - self._picks))
            self._trim(0)

    def set_threads(self, count: int) -> None:
        """Compute with `count` threads from the next call on."""
        self._library.llama_set_n_threads(self._context, count, count)

    def close(self) -> None:
        """Free the native model. Only a second `close` is allowed after this."""
        if self._context:
            self._batch.close()
            self._library.llama_free(self._context)
            self._library.llama_model_free(self._model)
            self._context = self._model = 0

    def _run_certain(self, certain: int, picks: int) -> None:
        if self.rewinds == "anywhere":
            if len(self._tokens) - self._held > self.chunk:
                self._run(len(self._tokens) - picks)
        elif certain - self._held > REPLAY:
            self._run(certain)

    def _run(self, end: int, picks: int = 0) -> None:
        while self._held < end:
            stop = min(end, self._held + self.chunk)
            if not picks:
                stop = self._checkpoints.stop(self._held, stop)
            self._decode(self._tokens[self._held : stop], stop - self._held - picks)
            self._checkpoints.computed(self._held)

    def _choose(self, end: int, picks: int) -> list[Pick]:
        first_row = end - picks - self._held
        self._run(end, picks)
        return [self._pick(first_row + i, end - picks + i + 1) for i in range(picks)]

    def _decode(self, tokens: Sequence[int], first_row: int) -> None:
        """Run at most `chunk` tokens, with logits from row `first_row` on."""
        self._cache.began = self._held
        doubled = len(tokens) == 1 and self._doubled_from is not None and self._held >= self._doubled_from
        rows = [*tokens, *tokens] if doubled else tokens
        answer = self._library.llama_decode(self._context, self._batch.fill(rows, self._held, first_row))
        if answer == 0:
            self._held += len(tokens)
            if doubled:
                self._library.llama_memory_seq_rm(self._memory, ANSWER, self._held, -1)
            return
        del self._tokens[self._held :]
        self._resynchronise()
        if answer == _NO_SLOT:
            raise ModelError("the context is full", "Start a new chat, or load with a longer context.")
        raise ModelError(f"the model could not be run (llama_decode: {answer})", "Load the model again.")

    def _pick(self, row: int, length: int) -> Pick:
        assert self._sampler is not None
        pointer = self._library.llama_get_logits_ith(self._context, row)
        if not pointer:
            raise ModelError("the model gave no logits", "Load the model again.")
        # The library writes its rows to the same addresses again and again, so each gets a view only once.
        address = addressof(pointer.contents)
        if (logits := self._rows.get(address)) is None:
            logits = self._rows[address] = np.ctypeslib.as_array(pointer, (self.vocabulary.size,))
        return self._sampler.pick(logits, self._tokens, length)

    def _resynchronise(self) -> None:
        """Bring the cache in line with `tokens` after a failed call. It may end up with fewer."""
        if self._library.llama_memory_seq_pos_max(self._memory, ANSWER) != self._held - 1:
            self._held += 1  # the rest of a failed call counts as one token too many
            self._trim(len(self._tokens))


class _Batch:
    """A native batch of one sequence, filled through numpy views."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._batch = library.llama_batch_init(BATCH, 0, 1)
        view = np.ctypeslib.as_array
        self._token = view(self._batch.token, (BATCH,))
        self._position = view(self._batch.pos, (BATCH,))
        self._wanted = view(self._batch.logits, (BATCH,))
        view(self._batch.n_seq_id, (BATCH,))[:] = 1
        for i in range(BATCH):
            self._batch.seq_id[i][0] = 0
        self._counting = np.arange(BATCH, dtype=np.int32)

    def fill(self, tokens: Sequence[int], start: int, first_row: int) -> Any:
        """Return the batch of `tokens` at positions from `start` on, with logits from row `first_row` on."""
        count = len(tokens)
        self._token[:count] = tokens
        np.add(self._counting[:count], start, out=self._position[:count])
        self._wanted[:first_row] = 0
        self._wanted[first_row:count] = 1
        self._batch.n_tokens = count
        return self._batch

    def close(self) -> None:
        self._library.llama_batch_free(self._batch)
