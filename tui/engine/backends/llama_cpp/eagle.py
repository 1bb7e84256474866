"""A head in a file of its own (EAGLE-3) as a draft model.

It differs from the head in a model's own file in two points. The row of a token is joined from the inputs of
three layers of the main model, and an encoder makes it a row of the head. And a cell needs the row of the
token before, so the first token of all has no cell. All cells get the positions of their tokens.

This module never changes the main model's text: a wrong row only costs acceptance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....protocol import ModelFacts
from ...library.describe import named
from ...library.header import Header
from .. import ModelError
from .batch import Batch
from .head import LlamaHead
from .hidden import HELD, HiddenRows, JoinedRows, LayerRows, NativeRows, Rows, RowSource
from .model import LlamaModel
from .reserve import CacheShape, Reserved

ROWS = 64
"""Most tokens in one call. The library computes the scores of each, wanted or not, and reserves room for
them."""


def open_eagle(
    library: Any, extensions: Any, functions: Any, main: LlamaModel, params: Any, model: int, header: Header,
    *, again: bool,
) -> EagleHead:  # fmt: skip
    """Return the head in `model`, which it owns, as a draft for `main`. Raises `ModelError`.

    `params` are those of a draft's context, and are changed. `again` tells whether `main` may run a token
    again for its row.
    """
    assert header.reader is not None
    params.ctx_other, params.n_rs_seq, params.swa_full = main.context, 0, True
    params.n_batch = params.n_ubatch = params.n_outputs_max = ROWS
    context = int(library.llama_init_from_model(model, params) or 0)
    if not context:
        raise ModelError("there is not enough memory for the head", "Load with a shorter context.")
    hidden = HiddenRows(_inputs(main, extensions, functions, header.reader.layers), again=again)
    own = NativeRows(extensions, context, header.width)
    return EagleHead(library, context, main, named(header.facts), hidden, own, model)


def reserved_by_eagle(header: Header, shape: CacheShape) -> Reserved:
    """Return the bytes that a head takes beside its weights, for a cache of this shape.

    It cannot be rehearsed, because the library opens it beside its main model only. Its cache has 16 bits.
    """
    assert header.reader is not None
    scores = 4 * ROWS * header.facts.vocabulary
    rows = 4 * HELD * len(header.reader.layers) * header.reader.main_width
    return Reserved(shape.context_length * header.cache_bytes, {"CPU": 3 * scores + rows})


def _inputs(main: LlamaModel, extensions: Any, functions: Any, layers: Sequence[int]) -> JoinedRows:
    """Return the inputs of `layers`. The output of the last layer is the input of one more."""
    width, sources = main.header.width, list[RowSource]()
    for layer in layers:
        if layer < main.header.block_count - main.header.heads:
            sources.append(LayerRows(functions, main.context, width, layer))
        else:
            sources.append(NativeRows(extensions, main.context, width))
    return JoinedRows(sources)


class EagleHead(LlamaHead):
    """A head with a native model of its own. Close it before the main model."""

    def __init__(
        self, library: Any, context: int, main: LlamaModel, facts: ModelFacts, hidden: HiddenRows,
        own: NativeRows, model: int,
    ) -> None:  # fmt: skip
        super().__init__(library, context, main, facts, hidden, own, model)
        self._encoder = Batch(library, hidden.width, tokens=False)

    def close(self) -> None:
        if self.context:
            self._encoder.close()
        super().close()

    def _decode(self, tokens: Sequence[int], first_row: int) -> None:
        wanted = first_row < len(tokens)
        if self._held == 0 and len(tokens) > wanted:
            self._held = self._sound = 1
            tokens = tokens[1:]
            if not tokens:
                return
        # If only some tokens have scores, the library returns those of the first token instead.
        super()._decode(tokens, 0 if wanted else len(tokens))
        if self._cache.began == 0:
            self._sound = 0  # it has measured the cell of the first token, which is not there in a text

    def _fill(self, rows: Rows, start: int, own: Rows | None) -> None:
        if own is not None:
            rows[:] = 0
            rows[0] = own
            return
        count = len(rows)
        self._hidden.fill(self._encoder.rows[:count], start)
        answer = self._library.llama_encode(self.context, self._encoder.fill([0] * count, self._held, 0))
        encoded = self._own.latest() if answer == 0 else None
        if encoded is None:
            del self._tokens[self._held :]
            raise ModelError(f"the head could not be run (llama_encode: {answer})", "Load the model again.")
        rows[:] = encoded[:count]
