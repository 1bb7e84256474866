"""Saved states in memory: a change between two chats reads nothing again, and nothing from the disk.

The least recently used states make room. All are dropped when the memory of the machine gets short. This
module knows no library and no loaded model.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple

from ..machine.hardware import room_for_chats
from .state_file import SavedState, StateHead
from .state_folder import ModelMark

FEWEST = 16
"""Tokens by which a state must be longer than the cache. Fewer are read in one short call."""
_SHORT = 32
"""Divisor: memory is short if less than this part of it is free."""
_PAUSE = 1.0
"""Seconds between two looks at the free memory."""


class HeldState(NamedTuple):
    """A state in memory that begins like a prompt."""

    usable: int
    """Tokens of the prompt that it would save from being read."""
    chat: str
    state: SavedState


class HeldStates:
    """The states of the chats of one pair that stay in memory."""

    def __init__(
        self, limit: int, memory: Callable[[], tuple[int, int | None]], now: Callable[[], float] = monotonic
    ) -> None:
        """`limit` is the most bytes: 0 keeps nothing, -1 is a share of the free memory.

        `memory` returns the bytes of memory, and the free ones; None if unknown.
        """
        self.on = limit != 0
        """Whether anything is kept."""
        self._limit = limit
        self._memory = memory
        self._now = now
        self._looked = 0.0
        """The time of the last look at the free memory."""
        self._states: dict[tuple[ModelMark, str], SavedState] = {}
        """The least recently used one first."""

    @property
    def size(self) -> int:
        """Bytes of all states."""
        return sum(each.size for each in self._states.values())

    def tokens(self, mark: ModelMark, chat: str) -> Sequence[int]:
        """Return the tokens of the state of `chat`; none if it has no state."""
        state = self._states.get((mark, chat))
        return state.tokens if state else ()

    def prepare(self, mark: ModelMark, chat: str, tokens: int) -> None:
        """Make room for a state of `chat` with so many tokens, before it is copied. An older one of it goes.

        Its size follows from another state of the same model; without one, nothing else goes.
        """
        before = self._states.pop((mark, chat), None)
        like = before or next((each for (of, _), each in self._states.items() if of == mark), None)
        if like:
            self._make_room(like.size * tokens // len(like.tokens), 0)

    def keep(self, mark: ModelMark, chat: str, state: SavedState) -> None:
        """Keep the state of `chat` in place of an older one, if there is room. Older ones make room."""
        if not self.on:
            return
        self._states.pop((mark, chat), None)
        if self._make_room(state.size, state.size):
            self._states[mark, chat] = state

    def _make_room(self, size: int, taken: int) -> bool:
        """Drop the least recently used states until one of `size` bytes fits. Return False if none can fit.

        The memory already has `taken` bytes of it.
        """
        total, free = self._memory()
        held = self.size
        room = room_for_chats(self._limit, total // 4 if free is None else free + held + taken)
        if size > room:
            return False
        for oldest in list(self._states):
            if held + size <= room:
                break
            held -= self._states.pop(oldest).size
        return True

    def best(self, mark: ModelMark, usable: Callable[[StateHead, Sequence[int]], int]) -> HeldState | None:
        """Return the most useful state for this model; None if there is none."""
        found = [
            HeldState(usable(state.head, state.tokens), chat, state)
            for (of, chat), state in self._states.items()
            if of == mark
        ]
        return max(found, key=lambda each: each.usable, default=None)

    def use(self, mark: ModelMark, chat: str) -> None:
        """Count the state of `chat` as the most recently used one."""
        self._states[mark, chat] = self._states.pop((mark, chat))

    def forget(self, chat: str | None = None) -> None:
        """Drop the states of `chat`, or all of them."""
        self._states = {key: each for key, each in self._states.items() if chat not in (None, key[1])}

    def relieve(self) -> bool:
        """Drop all states if memory is short. Return whether it did. It looks once a second at most."""
        if not self._states or (now := self._now()) < self._looked + _PAUSE:
            return False
        self._looked = now
        total, free = self._memory()
        if free is None or free >= total // _SHORT:
            return False
        print(f"saved states: memory is short: {self.size:,} bytes of chats are dropped", file=sys.stderr)
        self.forget()
        return True
