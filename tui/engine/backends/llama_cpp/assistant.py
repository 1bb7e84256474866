"""The assistant of a Gemma 4 model, a head in a file of its own, as a draft model.

It has no cells: it looks at those of the main model, and so has nothing to read. Each token that it drafts
gets the position behind the main model's last cell, with the hidden row of the token before: the main model's
row for the first one, then its own.

This module never changes the main model's text: a wrong row only costs acceptance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...library.describe import named
from ...library.header import Header
from ...speculation.loop import Pick
from .. import ModelError
from ..cached import PICKS
from .head import LlamaHead
from .hidden import HELD, HiddenRows, NativeRows
from .model import LlamaModel
from .reserve import CacheShape, Reserved
from .rollback import ANSWER, NativeCache

ROWS = 32
"""Tokens that the library makes room for in a call. Each call has one."""


def open_assistant(
    library: Any, extensions: Any, main: LlamaModel, params: Any, model: int, header: Header
) -> AssistantHead:
    """Return the assistant in `model`, which it owns, as a draft for `main`. Raises `ModelError`.

    `params` are those of the main model's context, and are changed. `main` is emptied: the library forgets
    which cells are in use when two contexts begin to share them.
    """
    main.rewind(0)
    params.ctx_other, params.n_rs_seq, params.swa_full = main.context, 0, main.drops_from == 0
    params.n_batch = params.n_ubatch = ROWS
    params.n_outputs_max = PICKS["draft"]
    context = int(library.llama_init_from_model(model, params) or 0)
    if not context:
        raise ModelError("there is not enough memory for the head", "Load with a shorter context.")
    hidden = HiddenRows(NativeRows(extensions, main.context, header.width), again=False)
    own = NativeRows(extensions, context, header.width, of_outputs=True)
    cache = SharedCache(library, context)
    return AssistantHead(library, context, main, named(header.facts), hidden, own, model, cache)


def reserved_by_assistant(header: Header, shape: CacheShape) -> Reserved:
    """Return about as many bytes as an assistant takes beside its weights. It has no cache."""
    scores = 8 * header.facts.vocabulary
    return Reserved(0, {"CPU": scores + 4 * (HELD + 8 * ROWS) * header.width})


class SharedCache(NativeCache):
    """The main model's cells, which are not the assistant's to cut."""

    rewinds = "anywhere"
    loses = False

    def reaches(self, length: int) -> int:
        return length

    def cut(self, length: int) -> int:
        return length

    def content(self, length: int, back: int, most: int) -> None:
        """Return nothing: the main model's state is saved by itself."""

    def clear(self) -> None:
        """Clear nothing: the library would clear the cells of the main model."""


class AssistantHead(LlamaHead):
    """The assistant of a `LlamaModel`, with a native model of its own. Close it before that."""

    def _run(self, end: int, picks: int = 0) -> None:
        if picks:
            self._held = end - 1
            self._decode(self._tokens[end - 1 : end], 0)
        self._held = self._sound = end

    def _choose(self, end: int, picks: int) -> list[Pick]:
        self._run(end, picks)
        return [self._pick(0, end)]

    def _decode(self, tokens: Sequence[int], first_row: int) -> None:
        """Run the last of `tokens` alone."""
        place = self._held + len(tokens) - 1
        own = self._ahead.get(place - 1) if place > self._hidden.end else None
        self._fill(self._batch.rows[:1], place - 1, own)
        behind = self._library.llama_memory_seq_pos_max(self._memory, ANSWER) + 1
        answer = self._library.llama_decode(self.context, self._batch.fill(tokens[-1:], behind, 0))
        latest = self._own.latest() if answer == 0 else None
        if latest is None:
            del self._tokens[self._held :]
            self._sound = self._held
            self._ahead.clear()
            raise ModelError(f"the head could not be run (llama_decode: {answer})", "Load the model again.")
        self._held = self._sound = place + 1
        self._ahead[place] = latest[0].copy()
