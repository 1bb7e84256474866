"""Which hidden rows of a main model stay for its head, with every library.

A head needs the row of the token before each token that it reads. The latest rows stay, and also the row at
the end of each checkpoint, where a cut may lead back to. Other rows are gone. Then the main model runs a
token again, or the head gets zeros. This module runs no model, and does not know how a library keeps rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

WAITING = 64
"""Most tokens of an answer that wait for the head while nothing is drafted. Reading them takes less time than
a token of a large model, so the text does not stand still. Fewer would waste the head's weights, which each
call reads."""
KEPT = 128
"""Latest rows that stay when there is no room for all."""

Row = TypeVar("Row")
"""One row, in the form of its library."""


class KeptRows(ABC, Generic[Row]):
    """The rows of a main model, by the position of their token."""

    def __init__(self, *, again: bool) -> None:
        """`again` tells whether the main model may run a token again for its row."""
        self._again = again
        self._first = 0
        self.end = 0
        """Position behind the last row: the number of tokens in the main model's cache."""
        self._marked: dict[int, Row] = {}
        self.reader: Callable[[int], object] = lambda least: None
        """Reads the tokens that wait for the head, if they are at least so many."""

    def cut(self, length: int) -> None:
        """Forget the rows behind the first `length` tokens."""
        self.end = min(self.end, length)
        self._first = min(self._first, self.end)
        self._marked = {place: row for place, row in self._marked.items() if place < length}

    def mark(self, length: int, nearest: Callable[[int], int]) -> None:
        """Keep the last row of a checkpoint at `length` tokens.

        `nearest` returns the length of the longest checkpoint with at most so many tokens.
        """
        self._marked = {place: row for place, row in self._marked.items() if nearest(place + 1) == place + 1}
        if self._has(length - 1):
            self._marked[length - 1] = self._at(length - 1)

    def wants_again(self, length: int) -> bool:
        """Return whether the main model, cut to `length` tokens, should run the last of them again."""
        return self._again and length > 0 and not self._has(length - 1) and length - 1 not in self._marked

    def read_along(self, least: int = 1) -> None:
        """Let the head read the tokens that wait for it, if they are at least `least`."""
        self.reader(least)

    def _has(self, position: int) -> bool:
        return self._first <= position < self.end

    @abstractmethod
    def _at(self, position: int) -> Row:
        """Return a copy of the row at `position`, which is one of the latest."""
