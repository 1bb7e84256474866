"""Checkpoints: copies of a cache, for cuts that the cache cannot make by itself.

A recurrent state holds all tokens at once, so no token can be taken out of it. A sliding window drops old
tokens, so it cannot go back to where they were needed. Such a cache is copied at the end of each prompt.
Another answer to the same prompt then starts from the copy; so does the next prompt of a chat, where the
template leaves out the thought before the last answer.

A copy holds only the part that a cut loses. The cells of attention stay in the cache. A copy is therefore
valid as long as the cache still begins with its tokens, and it is forgotten when these are cut. This module
decides which copies are kept. It does not know how a library makes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Generic, NamedTuple, Protocol, TypeVar

MOST = 4
"""Most copies of one cache."""
_SHARE = 8
"""All copies of one cache together take at most this part of the model's weights: an eighth."""

State = TypeVar("State")
"""The part of a cache that a cut loses, in the form of its library."""


class Cache(Protocol[State]):
    """A cache that can be copied."""

    def state_bytes(self) -> int:
        """Return the size of a copy made now; 0 if a cut loses nothing."""
        ...

    def save(self) -> State | None:
        """Return a copy of the present cache; None if the library fails."""
        ...

    def restore(self, state: State, length: int) -> bool:
        """Cut the cache to its first `length` tokens, with the help of the copy that was made there.

        Returns False if the library fails. The cache may then hold anything.
        """
        ...


class _Copy(NamedTuple, Generic[State]):
    length: int
    """Tokens in the cache when it was copied."""
    size: int
    state: State


def most_bytes(state: int, weights: int) -> int:
    """Return the most memory for the copies of one cache, for a state and weights of so many bytes."""
    return min(MOST * state, weights // _SHARE)


class Checkpoints(Generic[State]):
    """The copies of one cache, the shortest first."""

    def __init__(self, cache: Cache[State], weights: int) -> None:
        """`weights` is the size of the model in bytes: it bounds the size of the copies."""
        self._cache = cache
        self._room = weights // _SHARE
        self._copies: list[_Copy[State]] = []
        self._wanted = 0

    def want(self, length: int) -> None:
        """Make a copy as soon as the cache holds `length` tokens. Replaces an earlier wish."""
        self._wanted = length

    def stop(self, held: int, end: int) -> int:
        """Return the end of the next call, so that a copy can be made there: `end`, or before it.

        The cache holds `held` tokens, and the call would run those up to `end`.
        """
        return self._wanted if held < self._wanted < end else end

    def computed(self, held: int) -> None:
        """Make the wanted copy, if there is one: a call has ended, and the cache holds `held` tokens."""
        if held == self._wanted and self.nearest(held) < held and self._make_room():
            state = self._cache.save()
            if state is not None:
                self._copies.append(_Copy(held, self._cache.state_bytes(), state))

    def nearest(self, length: int) -> int:
        """Return the length of the longest copy with at most `length` tokens; 0 if there is none."""
        return max((copy.length for copy in self._copies if copy.length <= length), default=0)

    def restore(self, length: int) -> int:
        """Restore the longest copy with at most `length` tokens; there must be one. Returns its length.

        Returns 0 if the library fails: clear the cache then. After that, no copies are made.
        """
        copy = max((copy for copy in self._copies if copy.length <= length), key=lambda each: each.length)
        if self._cache.restore(copy.state, copy.length):
            return copy.length
        self._copies.clear()
        self._room = 0
        return 0

    def forget(self, length: int) -> None:
        """Drop the longer copies: the cache is cut to `length` tokens, and others may follow these."""
        while self._copies and self._copies[-1].length > length:
            self._copies.pop()

    @property
    def copies(self) -> Iterator[tuple[int, State]]:
        """Yield the copies, each with its number of tokens, the shortest first."""
        return ((copy.length, copy.state) for copy in self._copies)

    def put(self, copies: Iterable[tuple[int, int, State]]) -> None:
        """Take the copies of a saved cache in place of all others: their tokens, bytes and states."""
        self._copies = [_Copy(*each) for each in copies]

    def _make_room(self) -> bool:
        """Drop the least useful copies, and return whether there is room for one more.

        Without a copy, the tokens between it and the copy before it are read again. The copy with the fewest
        such tokens is the least useful.
        """
        size = self._cache.state_bytes()
        if not 0 < size <= self._room:
            return False
        while len(self._copies) >= MOST or sum(copy.size for copy in self._copies) + size > self._room:
            lengths = [0, *(copy.length for copy in self._copies)]
            saved = [length - before for before, length in pairwise(lengths)]
            del self._copies[saved.index(min(saved))]
        return True
