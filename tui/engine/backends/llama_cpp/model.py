"""A loaded GGUF model with its KV cache: runs tokens, chooses at the last of them, rewinds.

llama.cpp ends the process if a call asks for too much, so this module checks every number first. It chooses
no token itself (the sampler does) and knows no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import addressof
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from ...library.describe import named
from ...library.header import Header
from ...speculation.loop import Pick
from ...speculation.sampling import Constraint, Sampler
from .. import ModelError, check_call, prompt_form
from ..checkpoints import Checkpoints
from .rollback import ANSWER, COPIES, rollback_of
from .vocabulary import LlamaVocabulary

if TYPE_CHECKING:
    from ..constraint import Constraints


BATCH = 512
"""Most tokens in one native call, if the library allows that many."""
_REPLAY = 8
"""Most lost tokens that run with the next call and the one after it. More get a separate call."""
_NO_SLOT = 1
CELLS = 256
"""Cells. The library makes caches in multiples of this; a window gets room for itself and one call."""


class LlamaModel:
    """Implements `backends.LoadedModel` for one sequence. Owns the native model and context.

    A rewind may remove more from the cache than asked for. The missing tokens still count as present, and the
    next call runs them again before its own.
    """

    def __init__(
        self, library: Any, model: int, context: int, header: Header, outputs: int,
        *, full_windows: bool = True,
    ) -> None:  # fmt: skip
        """`outputs` is the most tokens with a choice in one call. Full windows keep all their cells."""
        self._library = library
        self._model = model
        self._context = context
        self._memory = library.llama_get_memory(context)
        self._batch = _Batch(library)
        self._rows: dict[int, NDArray[np.float32]] = {}
        """Logits, by the address that the library writes them to."""
        self._outputs = outputs
        self._sampler: Sampler | None = None
        self._tokens: list[int] = []
        self._held = 0
        """Number of `tokens`, from the left, in the native cache. The others must run again."""
        self._began = 0
        """Number of tokens in the cache before its last call."""
        self._settled = True
        """Whether nothing was chosen since the last rewind."""
        self._rollback = rollback_of(library, model, context, full_windows=full_windows)
        self._checkpoints = Checkpoints(self._rollback, header.facts.size)
        self._doubled_from: int | None = None
        self.vocabulary = LlamaVocabulary(library, model)
        # The actual values of the library, which may lower either without notice.
        self.capacity: int = library.llama_n_ctx_seq(context)
        self.chunk: int = min(BATCH, library.llama_n_batch(context))
        self.rewinds = self._rollback.rewinds
        cells = library.llama_model_n_swa(model) + self.chunk
        self.drops_from = 0 if full_windows else -(-cells // CELLS) * CELLS
        self.threads = 0
        """Threads by default; 0 if a GPU computes."""
        self.facts = replace(named(header.facts), prompt_form=prompt_form(self.vocabulary))

    @property
    def tokens(self) -> Sequence[int]:
        """The token ids in the cache, in order."""
        return self._tokens

    @property
    def length(self) -> int:
        return len(self._tokens)

    def start(self, sampler: Sampler) -> None:
        """Choose tokens by `sampler` from now on."""
        self._sampler = sampler

    def constraint(self, grammar: str) -> Constraint:
        """Return a grammar of `grammars` as a constraint. Raises `ModelError` if it is too large."""
        return self._constraints.constraint(grammar)

    def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]:
        """Run `tokens` and choose the next token at each of the last `picks`.

        Raises `ModelError` for an unknown token, for a full cache, and if the library fails. Tokens that ran
        before an error stay in the cache and in `tokens`.
        """
        check_call(self, tokens, picks, self._outputs)
        if picks and self._sampler is None:
            raise ValueError("no sampler to pick with")
        known = len(self._tokens)
        self._tokens.extend(tokens)
        if picks:
            self._begin(known, picks)
        first_pick = len(self._tokens) - picks
        first_row = first_pick - self._held
        self._run(len(self._tokens), picks)
        return [self._pick(first_row + i, first_pick + i + 1) for i in range(picks)]

    def checkpoint(self, length: int) -> None:
        """Copy the cache as soon as it holds `length` tokens; see `checkpoints`."""
        self._checkpoints.want(length)

    def reach(self, length: int) -> int:
        """Return how many tokens the cache still holds after `rewind(length)`."""
        if length >= self._held:
            return self._held
        return max(self._rollback.reaches(length, self._began), self._checkpoints.nearest(length))

    def rewind(self, length: int) -> None:
        """Rewind the cache to its first `length` tokens.

        The next call runs those again that the cache could not keep: see `reach`.
        """
        if not 0 <= length <= len(self._tokens):
            raise ValueError(f"cannot rewind {len(self._tokens)} tokens to {length}")
        del self._tokens[length:]
        self._settled = True
        self._trim()

    def clear(self) -> None:
        """Remove all tokens."""
        self.rewind(0)

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
            self._decode([0] * rows, max(0, rows - self._outputs))
            self._trim()

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

    @cached_property
    def _constraints(self) -> Constraints:
        from ..constraint import Constraints  # imports llguidance, which few answers need

        return Constraints(self.vocabulary, self.vocabulary.size)

    def _begin(self, known: int, picks: int) -> None:
        """Make a state to return to, before tokens run that may be rejected. `known` tokens are certain.

        A main model reads all drafted tokens in one call; a draft model begins with its first choice.
        """
        end = len(self._tokens)
        if (stop := self._checkpoints.stop(self._held, end - picks + 1)) <= end - picks:
            self._run(stop, 0)
        if self.rewinds == "anywhere":
            if end - self._held > self.chunk:
                self._run(end - picks, 0)
            return
        certain = max(known, end - COPIES - 1)
        if certain - self._held > _REPLAY:
            self._run(certain, 0)
        if self._held >= known and (picks > 1 or (self._settled and self._outputs == 1)):
            self._rollback.keep(self._held)
        self._settled = False

    def _run(self, end: int, picks: int) -> None:
        """Run `tokens` up to `end`, with logits for the last `picks`, which fit into one call."""
        while self._held < end:
            stop = min(end, self._held + self.chunk)
            if not picks:
                stop = self._checkpoints.stop(self._held, stop)
            chunk = self._tokens[self._held : stop]
            self._decode(chunk, len(chunk) - picks)
            self._checkpoints.computed(self._held)

    def _decode(self, tokens: Sequence[int], first_row: int) -> None:
        """Run at most `chunk` tokens, with logits from row `first_row` on."""
        self._began = self._held
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

    def _trim(self) -> None:
        """Cut the native cache to `tokens`."""
        length = len(self._tokens)
        self._checkpoints.forget(length)
        if length >= self._held:
            return
        if self.reach(length) > self._rollback.reaches(length, self._began):
            self._held = self._checkpoints.restore(length)
        else:
            self._held = self._rollback.cut(length, self._began)
        self._began = self._held
        if not self._held:
            self._library.llama_memory_clear(self._memory, False)

    def _resynchronise(self) -> None:
        """Bring the cache in line with `tokens` after a failed call. It may end up with fewer."""
        if self._library.llama_memory_seq_pos_max(self._memory, ANSWER) != self._held - 1:
            self._held += 1  # the rest of a failed call counts as one token too many
            self._trim()


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
