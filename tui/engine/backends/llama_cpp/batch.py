"""A native batch of one sequence, filled through numpy views, and the end of a call that nobody wants.

It runs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import Asker

BATCH = 512
"""Most tokens in one native call, if the library allows that many."""


class Batch:
    """A batch of up to `BATCH` tokens. Each may come with a hidden row, or be nothing but one."""

    def __init__(self, library: Any, width: int = 0, *, tokens: bool = True) -> None:
        """`width` is the length of a hidden row; 0 for tokens alone. Without `tokens`, rows are alone."""
        self._library = library
        self._batch = library.llama_batch_init(BATCH, width, 1)
        view = np.ctypeslib.as_array
        self._own = (library.llama_token * BATCH)()
        if width:  # the library then has room for rows and none for tokens
            self.rows = view(self._batch.embd, (BATCH * width,)).reshape(BATCH, width)
            self._batch.token = self._own if tokens else None
        self._token = view(self._batch.token or self._own, (BATCH,))
        self._position = view(self._batch.pos, (BATCH,))
        self._wanted = view(self._batch.logits, (BATCH,))
        view(self._batch.n_seq_id, (BATCH,))[:] = 1
        for i in range(BATCH):
            self._batch.seq_id[i][0] = 0
        self._counting = np.arange(BATCH, dtype=np.int32)
        self._width = width

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
        if self._width:
            self._batch.token = None  # the library did not allocate these
        self._library.llama_batch_free(self._batch)


class Abort:
    """Ends a long native call whose result is no longer wanted.

    The library asks before each node of its graph, on a processor only. So short calls are not asked about.
    """

    LONG = 32
    """Tokens of a call that may take long."""

    def __init__(self, library: Any, asker: Asker) -> None:
        self._set = library.llama_set_abort_callback
        self._asks = library.ggml_abort_callback(lambda data: not asker.wanted(0.0))
        self._never = library.ggml_abort_callback()

    @contextmanager
    def around(self, context: int, tokens: int) -> Iterator[None]:
        """Let the library ask during a call of so many tokens."""
        if tokens < self.LONG:
            yield
            return
        self._set(context, self._asks, None)
        try:
            yield
        finally:
            self._set(context, self._never, None)
