"""Opens the head of a model, and drafts with several heads in a row.

Some models have a head for each drafted token: the first head drafts the first token, the second head the
second one, with the row that the first head made, and so on. Behind the last head, the last one goes on. All
heads share the positions of one native context, and each has keys and values of its own. So each head reads
the text too, from the main model's rows. The later heads wait with that until their turn comes, because the
rows are kept: then one call reads and drafts.

This module never changes the main model's text: a wrong row only costs acceptance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...library.describe import named
from ...library.header import Header
from ...library.heads import ROWS_OF_OUTPUTS
from .. import CacheState, ModelError
from ..kept_rows import WAITING
from .head import LlamaHead, facts_of, new_context
from .hidden import HiddenRows, NativeRows, Rows
from .model import LlamaModel
from .rollback import ANSWER


def open_head(
    library: Any, extensions: Any, main: LlamaModel, params: Any, model: int = 0,
    header: Header | None = None, *, again: bool,
) -> LlamaHead:  # fmt: skip
    """Return the head of `main`, which has yet to begin. Raises `ModelError`.

    `params` are those of a draft's context. `again` tells whether `main` may run a token again for its row.
    If the head has a file of its own, `model` is the native model of that file, which it then owns.
    """
    width = library.llama_model_n_embd_out(main.model)
    if model and library.llama_model_n_embd_out(model) != width:
        raise ModelError("the head of another model: its rows have another width", "Choose another draft.")
    context = new_context(library, model or main.model, main.context, params)
    if not context:
        raise ModelError("there is not enough memory for the head", "Load with a shorter context.")
    hidden = HiddenRows(NativeRows(extensions, main.context, width), again=again)
    own = NativeRows(extensions, context, width, of_outputs=main.facts.architecture in ROWS_OF_OUTPUTS)
    facts = named(header.facts) if header else facts_of(main.facts, main.header)
    if (heads := (header or main.header).usable_heads) > 1:
        select = extensions.llama_set_nextn_layer_offset
        return HeadChain(library, context, main, facts, hidden, own, model, select=select, heads=heads)
    return LlamaHead(library, context, main, facts, hidden, own, model)


class HeadChain(LlamaHead):
    """Several heads of a `LlamaModel` in a row. Close it before that."""

    def __init__(self, *parts: Any, select: Callable[[int, int], None], heads: int) -> None:
        """`parts` are those of any head. `select` chooses the head of the next calls of a native context."""
        super().__init__(*parts)
        self._select = select
        self._others = [0] * (heads - 1)
        """For each head behind the first: the number of tokens, from the left, in its own keys and values,
        whose rows were the main model's."""
        self._turn = 0
        """The head of the last call. Only its keys and values are there for all positions."""

    def take_state(self, most: int) -> CacheState | None:
        self.read_along(1)
        self.rewind(min(self.length, self._sound))
        try:
            self._run(self._held)
        except ModelError:
            return None
        return super().take_state(most)

    def put_state(self, state: CacheState) -> bool:
        done = super().put_state(state)
        self._others = [self._held for _ in self._others]
        return done

    def _trim(self, length: int) -> None:
        super()._trim(length)
        self._others = [min(each, self._held) for each in self._others]

    def _run(self, end: int, picks: int = 0) -> None:
        if not picks:
            super()._run(end)
            # The other heads read what the first one has read. The cache then ends there.
            stop = min(self._sound, self._hidden.end)
            while (start := min(self._others)) < stop:
                tokens = self._tokens[start : min(stop, start + self.chunk)]
                self._decode(tokens, len(tokens), head=1 + self._others.index(start))
            return
        known = self._hidden.end
        if known >= self._held and end - min(self._others) > WAITING:
            self._run(min(end - 1, known))  # later the rows would be gone, or too many for one call
        super()._run(end, picks)

    def _decode(self, tokens: Sequence[int], first_row: int, head: int | None = None) -> None:
        """Run tokens through the head whose turn it is, in one call with those that it has not read yet.

        With `head`, run the first tokens that this one has not read. The call ends the cache. The library
        gives cells that were taken back to the next call again, so the keys and values that other heads have
        there stay.
        """
        start = begin = self._held
        if head is None:
            ahead = start + len(tokens) - 1 - self._hidden.end if self._hidden.end else 0
            head = min(max(0, ahead), len(self._others))
            if head not in (0, self._turn):
                begin = min(start, self._others[head - 1])
            tokens, first_row = [*self._tokens[begin:start], *tokens], first_row + start - begin
        else:
            begin = self._others[head - 1]
        if begin < start:
            self._library.llama_memory_seq_rm(self._memory, ANSWER, begin, -1)
            self._held = begin
        self._select(self.context, head)
        self._turn = head
        try:
            super()._decode(tokens, first_row)
        finally:
            self._sound = min(self._sound, self._held)
            self._others = [min(each, self._held) for each in self._others]
        if head and self._others[head - 1] == begin:
            self._others[head - 1] = min(self._held, self._hidden.end + 1)

    def _fill(self, rows: Rows, start: int, own: Rows | None) -> None:
        super()._fill(rows, start, own)
        for place, row in self._ahead.items():
            if max(start, self._hidden.end) <= place < start + len(rows):
                rows[place - start] = row
