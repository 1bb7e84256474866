"""A loaded GGUF with its KV cache: run tokens, choose at the last of them, cut back.

llama.cpp ends the process when it is asked for too much, so every number is checked here before it goes
down. This module chooses no token itself (the sampler does) and knows no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...library.header import Header
from ...speculation.loop import Pick
from ...speculation.sampling import Sampler
from .. import ModelError
from .vocabulary import LlamaVocabulary

BATCH = 512
"""Most tokens in one native call."""
_NO_SLOT = 1


class LlamaModel:
    """Implements `backends.LoadedModel` for one sequence. Owns the native model and context."""

    def __init__(
        self, library: Any, model: int, context: int, header: Header, path: str, outputs: int
    ) -> None:
        self._library = library
        self._model = model
        self._context = context
        self._memory = library.llama_get_memory(context)
        self._batch = _Batch(library)
        self._outputs = outputs
        self._sampler: Sampler | None = None
        self._tokens: list[int] = []
        self._window = library.llama_model_n_swa(model)
        self.vocabulary = LlamaVocabulary(library, model)
        self.capacity: int = library.llama_n_ctx(context)
        self.can_rewind = not (
            library.llama_model_is_recurrent(model) or library.llama_model_is_hybrid(model)
        )
        """False for a model whose state cannot be cut back: it then computes all of it again."""
        self.name = header.name
        self.path = path
        self.architecture = header.architecture
        self.parameters = header.parameters
        self.quantisation = header.quantisation
        self.size = header.weight_bytes
        self.trained_context_length = header.context_length
        self.vocabulary_size = self.vocabulary.size

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

    def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]:
        """Run `tokens` and choose the next token at each of the last `picks`.

        Raises `ModelError` for a token that the model does not know, when the cache is full and when the
        library fails. What was run before an error stays in the cache and in `tokens`.
        """
        self._check(tokens, picks)
        chosen: list[Pick] = []
        first_pick = len(tokens) - picks
        for begin in range(0, len(tokens), BATCH):
            chunk = tokens[begin : begin + BATCH]
            first_row = min(max(first_pick - begin, 0), len(chunk))
            self._decode(chunk, first_row)
            for row in range(first_row, len(chunk)):
                chosen.append(self._pick(row, len(self._tokens) - len(chunk) + row + 1))
        return chosen

    def rewind(self, length: int) -> None:
        """Cut the cache back to its first `length` tokens. A model that cannot do it computes them again."""
        if length == len(self._tokens):
            return
        if not 0 <= length < len(self._tokens):
            raise ValueError(f"cannot rewind {len(self._tokens)} tokens to {length}")
        if length and self.can_rewind and self._cut(length):
            del self._tokens[length:]
            return
        kept = self._tokens[:length]
        self.clear()
        self.extend(kept, picks=0)

    def clear(self) -> None:
        """Forget all tokens."""
        self._library.llama_memory_clear(self._memory, False)
        self._tokens = []

    def warm_up(self, row_counts: Sequence[int]) -> None:
        """Have the library prepare for calls of these sizes, so that the first token is not late."""
        for rows in row_counts:
            self._decode([0] * rows, max(0, rows - self._outputs))
            self.clear()

    def close(self) -> None:
        """Free the native model. Closing twice is allowed; nothing else is, after this."""
        if self._context:
            self._batch.close()
            self._library.llama_free(self._context)
            self._library.llama_model_free(self._model)
            self._context = self._model = 0

    def _check(self, tokens: Sequence[int], picks: int) -> None:
        if not 0 <= picks <= min(len(tokens), self._outputs):
            raise ValueError(f"{picks} picks in {len(tokens)} tokens")
        if picks and self._sampler is None:
            raise ValueError("no sampler to pick with")
        if tokens and not (min(tokens) >= 0 and max(tokens) < self.vocabulary_size):
            raise ModelError(f"a token is not among the {self.vocabulary_size} of {self.name}")
        if len(self._tokens) + len(tokens) > self.capacity:
            raise ModelError("the context is full", "Start a new chat, or load with a longer context.")

    def _decode(self, tokens: Sequence[int], first_row: int) -> None:
        """Run at most `BATCH` tokens, with logits from row `first_row` on."""
        answer = self._library.llama_decode(
            self._context, self._batch.fill(tokens, len(self._tokens), first_row)
        )
        if answer == 0:
            self._tokens.extend(tokens)
            return
        self._resynchronise()
        if answer == _NO_SLOT:
            raise ModelError("the context is full", "Start a new chat, or load with a longer context.")
        raise ModelError(f"the model could not be run (llama_decode: {answer})", "Load the model again.")

    def _pick(self, row: int, length: int) -> Pick:
        assert self._sampler is not None
        pointer = self._library.llama_get_logits_ith(self._context, row)
        if not pointer:
            raise ModelError("the model gave no logits", "Load the model again.")
        logits: NDArray[np.float32] = np.ctypeslib.as_array(pointer, (self.vocabulary_size,))
        return self._sampler.pick(logits, self._tokens, length)

    def _cut(self, length: int) -> bool:
        """Whether the cache now holds exactly its first `length` tokens, with all that attention needs."""
        if not self._library.llama_memory_seq_rm(self._memory, 0, length, -1):
            return False
        last = self._library.llama_memory_seq_pos_max(self._memory, 0)
        # A sliding-window cache agrees to be cut even where it has dropped what lies in the window.
        first = self._library.llama_memory_seq_pos_min(self._memory, 0)
        needed = max(0, length - self._window) if self._window else 0
        return bool(last == length - 1 and first <= needed)

    def _resynchronise(self) -> None:
        """After a failed call: hold what `tokens` says, or nothing."""
        if self._library.llama_memory_seq_pos_max(self._memory, 0) != len(self._tokens) - 1 and not (
            self.can_rewind and self._tokens and self._cut(len(self._tokens))
        ):
            self.clear()


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
        """The batch of `tokens` at positions from `start`, with logits from row `first_row` on."""
        count = len(tokens)
        self._token[:count] = tokens
        np.add(self._counting[:count], start, out=self._position[:count])
        self._wanted[:first_row] = 0
        self._wanted[first_row:count] = 1
        self._batch.n_tokens = count
        return self._batch

    def close(self) -> None:
        self._library.llama_batch_free(self._batch)
