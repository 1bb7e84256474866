"""The head of a model (MTP, multi-token prediction) as a draft model.

The head is one more block of the main model, in the same file or in a file of its own. It has a native
context and a cache of its own. At each position it gets the token and the hidden row of the main model at the
position before, and predicts the next token. Where the main model has not run that position, the head's own
row takes its place. So a draft of several tokens uses its own rows. After the round these cells run again
with the main model's rows, in one call with the next draft. To speculative decoding the head is an ordinary
draft model: same sampling chain, same noise.

This module never changes the main model's text: a wrong row only costs acceptance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from ....choices import HEAD
from ....protocol import ModelFacts
from ...library.header import Header
from ...speculation.loop import Pick
from .. import CacheState, ModelError, common_prefix
from ..cached import PICKS, WARM_UP
from .hidden import HiddenRows, NativeRows, Rows
from .model import LlamaModel, NativeModel
from .rollback import Cells, NativeCache

NAME = "MTP head"
SEVERAL = "{} MTP heads"
"""The names of a head in the main model's file, and of several."""


def new_context(library: Any, model: int, other: int, params: Any) -> int:
    """Return a native context of the head beside `other`, a context of the same model; 0 if none can be made.

    `params` are those of a draft's context, and are changed.
    """
    params.ctx_type, params.ctx_other = library.LLAMA_CONTEXT_TYPE_MTP, other
    params.n_outputs_max, params.n_rs_seq, params.swa_full = PICKS["draft"], 0, True
    return int(library.llama_init_from_model(model, params) or 0)


class LlamaHead(NativeModel):
    """The head of a `LlamaModel`. Close it before that."""

    drops_from = 0

    def __init__(
        self, library: Any, context: int, main: LlamaModel, facts: ModelFacts, hidden: HiddenRows,
        own: NativeRows, model: int = 0, cache: NativeCache | None = None,
    ) -> None:  # fmt: skip
        """`hidden` are the rows of `main`, and `own` those of the head, whose `model` it owns; 0 for none."""
        cache = cache or Cells(library, context, 0, drops=False)
        super().__init__(library, context, cache, main.vocabulary, facts.size, PICKS["draft"], own.width)
        self.facts = facts
        self.threads = main.threads
        self._main = main
        self._hidden = hidden
        self._sound = 0
        """Number of tokens, from the left, whose rows were the main model's: they need not run again."""
        self._own = own
        self._model = model
        self._ahead: dict[int, Rows] = {}
        """The head's own rows, by their positions, where the main model has none yet."""

    def begin(self) -> None:
        """Prepare the library, and read the main model's rows from now on. Raises `ModelError`."""
        try:
            self.warm_up(WARM_UP["draft"])
        except ModelError:
            self.close()
            raise
        self._main.show(self._hidden)
        self._hidden.reader = self.read_along

    def reach(self, length: int) -> int:
        return min(super().reach(length), self._sound)

    def read_along(self, least: int) -> None:
        """Forget what the main model has forgotten, and read its tokens that wait, if at least `least` do.

        Raises nothing: a head that fails reads nothing, and its next call as a draft model reports that.
        """
        if self._sound > self._main.length:
            self.rewind(self._main.length)
        stop = min(self._hidden.end, self.capacity)
        if stop - self._sound < least:
            return
        tokens = list(self._main.tokens[:stop])
        try:
            self.rewind(common_prefix(self._tokens[: self._sound], tokens))
            self.extend(tokens[self.length :], picks=0)
        except ModelError:
            self.rewind(0)

    def take_state(self, most: int) -> CacheState | None:
        self.read_along(1)
        self.rewind(min(self.length, self._sound))
        if (state := super().take_state(most)) is None:
            return None
        return CacheState(state.tokens, state.cells, tuple(self._hidden.kept()), state.cut_from)

    def put_state(self, state: CacheState) -> bool:
        """Replace the content of the cache, after that of the main model. The copies are rows of that one."""
        done = super().put_state(CacheState(state.tokens, state.cells, (), state.cut_from))
        self._sound = self._held
        if done:
            self._hidden.recall(state.copies)
        return done

    def close(self) -> None:
        """Free the native context, and the model of its own. Only a second `close` is allowed after this."""
        if self.context:
            self._main.show(None)
            self._hidden.close()
        super().close()
        if self._model:
            self._library.llama_model_free(self._model)
            self._model = 0

    def _trim(self, length: int) -> None:
        super()._trim(min(length, self._sound))
        self._sound = min(self._sound, self._held)
        self._ahead.clear()

    def _run(self, end: int, picks: int = 0) -> None:
        while self._held < end:
            # All cells of a call but the first need the main model's rows. A main model that holds nothing is
            # only measured. Then no row is known, and a call may be of any size.
            known = max(self._held, self._hidden.end) + 1 if self._hidden.end else end
            stop = min(end, self._held + self.chunk, known)
            wanted = picks > 0 and stop == end
            self._decode(self._tokens[self._held : stop], stop - self._held - wanted)

    def _choose(self, end: int, picks: int) -> list[Pick]:
        self._run(end, picks)
        return [self._pick(end - 1 - self._cache.began, end)]

    def _decode(self, tokens: Sequence[int], first_row: int) -> None:
        start, count = self._held, len(tokens)
        last = start + count - 1
        rows = self._batch.rows[:count]
        own = self._ahead.get(start - 1) if start > self._hidden.end else None
        self._fill(rows, start - 1, own)
        leads = last >= self._hidden.end  # the next cell needs the own row of this one
        if leads and self._own.of_outputs:
            first_row = min(first_row, count - 1)
        super()._decode(tokens, first_row)
        if leads and (latest := self._own.latest()) is not None:
            self._ahead[last] = latest[0 if self._own.of_outputs else count - 1].copy()
        if self._sound == start:
            self._sound = min(self._held, self._hidden.end + 1)

    def _fill(self, rows: Rows, start: int, own: Rows | None) -> None:
        """Write the rows of the positions from `start` on. `own` is the head's own row at `start`, if that
        stands in for the main model's."""
        self._hidden.fill(rows, start)
        if own is not None:
            rows[0] = own


def facts_of(main: ModelFacts, header: Header) -> ModelFacts:
    """Return the facts about the head of `main`. Its vocabulary and its output layer are the main model's."""
    own = header.of_head
    return replace(
        main,
        name=NAME if header.usable_heads < 2 else SEVERAL.format(header.usable_heads),
        path=HEAD,
        parameters=sum(tensor.elements for tensor in own),
        size=sum(tensor.bytes for tensor in own),
    )
