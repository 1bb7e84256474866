"""The turns of a conversation as a tree, and the path through it that is shown. It records nothing.

An edited prompt or another answer stands beside the old one, as a branch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tui import store


class TurnTree:
    """The turns, each below the turn before it."""

    def __init__(self) -> None:
        self.end = ""
        """The key of the last turn of the path; empty for the beginning."""
        self._turns: dict[str, store.Turn] = {}
        self._next: defaultdict[str, list[str]] = defaultdict(list)
        """The keys of the turns after each turn, oldest first; removed turns too."""
        self._removed: list[dict[str, store.Turn]] = []
        """The removed turns, the latest removal last."""
        self._keys: dict[str, None] = {}
        self._keys_end: str | None = None

    def turn(self, key: str) -> store.Turn | None:
        return self._turns.get(key)

    @property
    def path(self) -> Sequence[store.Turn]:
        """The turns that are shown, oldest first."""
        return [self._turns[key] for key in self.keys]

    @property
    def keys(self) -> dict[str, None]:
        """The keys of the path in order. They are kept until the path ends elsewhere."""
        if self._keys_end != self.end:
            above = self.above(self.last)
            self._keys, self._keys_end = dict.fromkeys(reversed(above)), self.end
        return self._keys

    @property
    def last(self) -> store.Turn | None:
        """The last turn of the path."""
        return self._turns.get(self.end)

    def above(self, turn: store.Turn | None) -> dict[str, None]:
        """Return the keys from `turn` up to the beginning, the key of `turn` first."""
        keys: dict[str, None] = {}
        while turn:
            keys[turn.key] = None
            turn = self._turns.get(turn.parent)
        return keys

    # Branches

    def branch(self, turn: store.Turn) -> tuple[int, int]:
        """Return the place of `turn` among the branches beside it, from 1, and the number of branches."""
        keys = [each.key for each in self._beside(turn)]
        return (keys.index(turn.key) + 1 if turn.key in keys else len(keys) + 1), max(1, len(keys))

    def sibling(self, turn: store.Turn, by: int) -> store.Turn | None:
        """Return the branch `by` places after `turn`."""
        beside = self._beside(turn)
        place = next((number for number, each in enumerate(beside) if each.key == turn.key), None)
        return None if place is None or not 0 <= place + by < len(beside) else beside[place + by]

    def leaf(self, turn: store.Turn) -> str:
        """Return the key of the last turn of the latest path through `turn`."""
        for each in reversed(self._turns.values()):
            if each.role == "assistant" and each.text and turn.key in self.above(each):
                return each.key
        return turn.key

    def _beside(self, turn: store.Turn) -> list[store.Turn]:
        """Return `turn` and the turns that could stand in its place. A prompt without an answer could not."""
        beside = [self._turns[key] for key in self._next[turn.parent] if key in self._turns]
        return [each for each in beside if each.role == turn.role and self._could_stand(each)]

    def _could_stand(self, turn: store.Turn) -> bool:
        if turn.key in self.keys:
            return True
        answers = [self._turns[key] for key in self._next[turn.key] if key in self._turns]
        return bool(turn.text) if turn.role == "assistant" else any(each.text for each in answers)

    # Changes

    def add(self, turn: store.Turn) -> None:
        """Add `turn` below its parent, which is in the tree already."""
        self._turns[turn.key] = turn
        self._next[turn.parent].append(turn.key)

    def replace(self, turn: store.Turn) -> None:
        """Replace the turn with the same key and the same parent."""
        self._turns[turn.key] = turn

    def step_back(self) -> store.Turn | None:
        """End the path at its last answer. Returns the prompt after that, if there was one."""
        prompt = None
        while (last := self.last) and (last.role == "user" or not last.text):
            prompt = last
            self.end = last.parent
        return prompt

    def remove(self, turn: store.Turn) -> Sequence[str]:
        """Remove `turn` and all turns after it. Returns their keys.

        The path then ends at another branch where there is one, else before `turn`.
        """
        others = [each for each in self._beside(turn) if each.key != turn.key]
        gone = {key: each for key, each in self._turns.items() if turn.key in self.above(each)}
        self._removed.append(gone)
        self._turns = {key: each for key, each in self._turns.items() if key not in gone}
        self.end = self.leaf(others[-1]) if others else turn.parent
        return tuple(gone)

    def restore(self) -> Sequence[str]:
        """Restore the turns of the last removal, and show them. Returns their keys; none if nothing was
        removed."""
        if not self._removed:
            return ()
        gone = self._removed.pop()
        self._turns |= gone
        self.end = self.leaf(next(iter(gone.values())))
        return tuple(gone)
