"""Rewinds that are broken on purpose, each by one cell or one position of an attention cache.

llama.cpp runs no call whose positions do not follow those of the cache. So each of these leaves a cache that
it takes: what is kept stands at a position that is there already, and what is moved ends where it should.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tui.engine.backends.llama_cpp.rollback import ANSWER, Cells

Break = Callable[[Any, int, int], object]
"""Cuts a memory of a library to a length, and not well."""


def one_kept(library: Any, memory: int, length: int) -> None:
    """The first rejected token stays, beside the last one that is right."""
    library.llama_memory_seq_rm(memory, ANSWER, length + 1, -1)
    library.llama_memory_seq_add(memory, ANSWER, length, length + 1, -1)


def one_lost(library: Any, memory: int, length: int) -> None:
    """The last token goes too, and those before it move up."""
    library.llama_memory_seq_rm(memory, ANSWER, length - 1, -1)
    library.llama_memory_seq_add(memory, ANSWER, 0, -1, 1)


def a_hole(library: Any, memory: int, length: int) -> None:
    """A token in the middle is lost."""
    library.llama_memory_seq_rm(memory, ANSWER, length, -1)
    library.llama_memory_seq_rm(memory, ANSWER, length // 2, length // 2 + 1)


def one_too_low(library: Any, memory: int, length: int) -> None:
    """To all tokens but the last one, what follows seems to be one position nearer than it is."""
    library.llama_memory_seq_rm(memory, ANSWER, length, -1)
    library.llama_memory_seq_add(memory, ANSWER, 0, length - 1, 1)


def one_too_high(library: Any, memory: int, length: int) -> None:
    """To all tokens but the first and the last one, what follows seems to be one position further."""
    library.llama_memory_seq_rm(memory, ANSWER, length, -1)
    library.llama_memory_seq_add(memory, ANSWER, 1, length - 1, -1)


BREAKS: tuple[Break, ...] = (one_kept, one_lost, a_hole, one_too_low, one_too_high)


@contextmanager
def broken(by: Break, *, within: bool = False) -> Iterator[None]:
    """That cuts are broken for a while: all of them, or only those `within` the last call."""
    sound = Cells.cut

    def cut(self: Cells, length: int) -> int:
        if not length or (within and length <= self.began):
            return sound(self, length)
        by(self._library, self._memory, length)
        return length

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cells, "cut", cut)
        yield


def trusting(self: Cells, length: int) -> int:
    """A cut that takes all for kept that the library agrees to: also what a window has dropped."""
    return length if self._library.llama_memory_seq_rm(self._memory, ANSWER, length, -1) else 0
