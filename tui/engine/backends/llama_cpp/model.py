"""A loaded GGUF model with its KV cache: runs tokens, chooses at the last of them, rewinds.

`NativeModel` is one native context, and `LlamaModel` the main model or a draft model of its own file.

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
from ...speculation.chances import LONGEST
from ...speculation.loop import Pick
from .. import CacheState, GivenUp, ModelError, prompt_form
from ..cached import REPLAY, CachedModel
from ..kept_rows import WAITING
from .batch import BATCH, Abort, Batch
from .hidden import HiddenRows
from .rollback import ANSWER, NativeCache, cache_of
from .vocabulary import LlamaVocabulary

_NO_SLOT, _ABORTED = 1, 2
"""Results of llama_decode."""
CELLS = 256
"""Cells. The library makes caches in multiples of this; a window gets room for itself and one call."""


class NativeModel(CachedModel):
    """One sequence in a native context, which it owns."""

    _cache: NativeCache
    vocabulary: LlamaVocabulary
    threads = 0
    """Threads by default; 0 if a GPU computes."""

    def __init__(
        self, library: Any, context: int, cache: NativeCache, vocabulary: LlamaVocabulary, weights: int,
        picks: int, width: int = 0,
    ) -> None:  # fmt: skip
        """`picks` is the most tokens with a choice in one call. Each token gets a hidden row of `width`."""
        # The actual values of the library, which may lower either without notice.
        super().__init__(cache, vocabulary, weights, library.llama_n_ctx_seq(context), picks)
        self.chunk: int = min(BATCH, library.llama_n_batch(context))
        self._library = library
        self.context = context
        self._memory = library.llama_get_memory(context)
        self._batch = Batch(library, width)
        self._abort = Abort(library, self.asker)
        self._rows: dict[int, NDArray[np.float32]] = {}
        """Logits, by the address that the library writes them to."""

    def warm_up(self, row_counts: Sequence[int]) -> None:
        """Let the library prepare for calls of these sizes, so that the first token is not late."""
        for rows in row_counts:
            self._decode([0] * rows, max(0, rows - self._picks))
            self._trim(0)

    def set_threads(self, count: int) -> None:
        """Compute with `count` threads from the next call on."""
        self._library.llama_set_n_threads(self.context, count, count)

    def close(self) -> None:
        """Free the native context. Only a second `close` is allowed after this."""
        if self.context:
            self._batch.close()
            self._library.llama_free(self.context)
            self.context = 0

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
            self._computed(picks)

    def _computed(self, picks: int) -> None:
        """A native call has ended."""
        self._checkpoints.computed(self._held)

    def _choose(self, end: int, picks: int) -> list[Pick]:
        first_row = end - picks - self._held
        self._run(end, picks)
        return [self._pick(first_row + i, end - picks + i + 1) for i in range(picks)]

    def _decode(self, tokens: Sequence[int], first_row: int) -> None:
        """Run at most `chunk` tokens, with logits from row `first_row` on."""
        self._cache.began = self._held
        # A recurrent state that a call has half changed could not be told from a sound one.
        long = len(tokens) if self.rewinds == "anywhere" else 0
        with self._abort.around(self.context, long):
            answer = self._library.llama_decode(self.context, self._batch.fill(tokens, self._held, first_row))
        if answer == 0:
            self._held += len(tokens)
            return
        del self._tokens[self._held :]
        if self._library.llama_memory_seq_pos_max(self._memory, ANSWER) != self._held - 1:
            self._held += 1  # the rest of a failed call counts as one token too many
            self._trim(len(self._tokens))
        if answer == _ABORTED:
            raise GivenUp("the work was given up")
        if answer == _NO_SLOT:
            raise ModelError("the context is full", "Start a new chat, or load with a longer context.")
        raise ModelError(f"the model could not be run (llama_decode: {answer})", "Load the model again.")

    def _pick(self, row: int, length: int) -> Pick:
        assert self._sampler is not None
        pointer = self._library.llama_get_logits_ith(self.context, row)
        if not pointer:
            raise ModelError("the model gave no logits", "Load the model again.")
        # The library writes its rows to the same addresses again and again, so each gets a view only once.
        address = addressof(pointer.contents)
        if (logits := self._rows.get(address)) is None:
            logits = self._rows[address] = np.ctypeslib.as_array(pointer, (self.vocabulary.size,))
        return self._sampler.pick(logits, self._tokens, length)


class LlamaModel(NativeModel):
    """One sequence of a GGUF. Owns the native model and context."""

    def __init__(
        self, library: Any, model: int, context: int, header: Header, picks: int,
        *, full_windows: bool = True, head: bool = False,
    ) -> None:  # fmt: skip
        """Full windows keep all their cells. `head` tells that the weights of the head are loaded too."""
        vocabulary = LlamaVocabulary(library, model)
        cache = cache_of(library, model, context, full_windows=full_windows)
        super().__init__(library, context, cache, vocabulary, header.facts.size, picks)
        self.facts = replace(named(header.facts), prompt_form=prompt_form(vocabulary))
        cells = library.llama_model_n_swa(model) + self.chunk
        self.drops_from = 0 if full_windows else -(-cells // CELLS) * CELLS
        self.longest_draft: int = library.llama_n_rs_seq(context) or LONGEST
        self.model = model
        self.header = header
        self.head = head
        self._doubled_from: int | None = None
        self._hidden: HiddenRows | None = None

    def double_single_rows(self, length: int) -> None:
        """From `length` tokens in the cache on, run each single row beside a copy of it that is discarded.

        A copy needs its own cell, so the capacity shrinks by one.
        """
        if self._doubled_from is None:
            self.capacity -= 1
        self._doubled_from = length

    def show(self, hidden: HiddenRows | None) -> None:
        """Put the hidden rows of each call into `hidden` from now on; None ends that."""
        self._hidden = hidden

    def rewind(self, length: int) -> None:
        super().rewind(length)
        if self._hidden is None:
            return
        before = length - 1
        cuts = self.rewinds == "anywhere" and self._cache.reaches(before) == before
        if cuts and self._held == length and self._hidden.wants_again(length):
            self._held = self._cache.cut(before)
            self._hidden.cut(self._held)
        self._hidden.read_along(WAITING)

    def put_state(self, state: CacheState) -> bool:
        done = super().put_state(state)
        if self._hidden:
            self._hidden.stand_at(self._held)
        return done

    def close(self) -> None:
        """Free the native model. Only a second `close` is allowed after this."""
        super().close()
        if self.model:
            self._library.llama_model_free(self.model)
            self.model = 0

    def _trim(self, length: int) -> None:
        super()._trim(length)
        if self._hidden:
            self._hidden.cut(self._held)

    def _computed(self, picks: int) -> None:
        super()._computed(picks)
        if self._hidden is None:
            return
        if self._checkpoints.nearest(self._held) == self._held:
            self._hidden.mark(self._held, self._checkpoints.nearest)
        if not picks:
            self._hidden.read_along()

    def _decode(self, tokens: Sequence[int], first_row: int) -> None:
        start, single = self._held, len(tokens) == 1
        doubled = single and self._doubled_from is not None and start >= self._doubled_from
        super()._decode([*tokens, *tokens] if doubled else tokens, first_row)
        if doubled:
            self._held -= 1
            self._library.llama_memory_seq_rm(self._memory, ANSWER, self._held, -1)
        if self._hidden:
            self._hidden.take(start, len(tokens))
