"""The saved states of one loaded model: copies of its cache, put back and compared with a prompt.

It reads and writes no file.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from ..backends import CacheState, LoadedModel, Portable, common_prefix
from ..pair.reading import Calls, usable
from .state_file import ReadingRule, SavedState, StateHead
from .state_folder import ModelMark


class ModelStates:
    """The saved states of one loaded model."""

    def __init__(self, model: LoadedModel, mark: ModelMark) -> None:
        self.model = model
        self.mark = mark
        self._saved: dict[str, Sequence[int]] = {}
        """The tokens of the latest state of each chat on disk, or on the way there."""
        self.own = ""
        """The chat that has come back, until its own state was looked for; empty for none."""

    def unsaved(self, chat: str) -> tuple[int, int]:
        """Return how many tokens of the cache are saved on disk for `chat`, and how many are not."""
        return self.beyond(self._saved.get(chat, ()))

    def beyond(self, tokens: Sequence[int]) -> tuple[int, int]:
        """Return how many tokens of the cache are the first of `tokens`, and how many more it has."""
        held = self.model.reach(self.model.length)
        covered = min(held, common_prefix(tokens, self.model.tokens))
        return covered, held - covered

    def saved(self, chat: str, state: SavedState) -> None:
        """A state of `chat` is on disk, or on the way there."""
        self._saved[chat] = array("I", state.tokens)

    def taken(self, calls: Calls, most: int) -> SavedState | None:
        """Return a copy of the cache, of at most `most` bytes; None if it has nothing to copy.

        Raises `MemoryError`.
        """
        state = self.model.take_state(most) if isinstance(self.model, Portable) else None
        if state is None or not _keeps_its_bits(self.model, calls, state.cut_from):
            return None
        rule = ReadingRule(calls.chunk, calls.rows, tuple((each.start, each.stop) for each in calls.answers))
        copies = tuple((length, len(copy)) for length, copy in state.copies)
        head = StateHead(
            self.mark.model,
            self.mark.library,
            len(state.tokens),
            state.cut_from,
            copies,
            len(state.cells),
            rule,
        )
        return SavedState(head, state.tokens, tuple(copy for _, copy in state.copies), state.cells)

    def usable(self, context: Sequence[int], now: Calls, head: StateHead, tokens: Sequence[int]) -> int:
        """Return how many tokens of `context` a saved state would save from being read."""
        before = calls_of(head.rule)
        if head.tokens > self.model.capacity or not _keeps_its_bits(self.model, now, head.cut_from):
            return 0
        return usable(common_prefix(tokens, context[:-1]), before, now, head.reach)

    def put(self, state: SavedState) -> bool:
        """Put a saved state into the cache. Returns False if that is impossible; the cache is then empty."""
        copies = zip((length for length, _ in state.head.copies), state.copies, strict=True)
        content = CacheState(state.tokens, state.cells, tuple(copies), state.head.cut_from)
        return isinstance(self.model, Portable) and self.model.put_state(content)

    def forget(self, chat: str | None) -> None:
        """The states of `chat`, or all of them, are no longer on the disk."""
        if chat is None:
            self._saved.clear()
        else:
            self._saved.pop(chat, None)


def _keeps_its_bits(model: LoadedModel, calls: Calls, cut_from: int) -> bool:
    """Return whether the next rows have the bits that exact mode promises.

    Where a window drops cells, the saved ones lie in other places later, and attention over them rounds
    differently. A cut needs no checkpoint in the window of llama.cpp alone.
    """
    return not (calls.rows and cut_from and model.drops_from and model.rewinds == "anywhere")


def calls_of(rule: ReadingRule) -> Calls:
    """Return the calls of a saved rule."""
    return Calls(rule.chunk, rule.rows, tuple(range(*each) for each in rule.answers))
