"""The part of a loaded model that is the same with every library: its tokens, and the cuts of its cache.

It calls no library and chooses no token.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

from ...protocol import ModelFacts
from ..speculation.chances import LONGEST
from ..speculation.loop import Pick
from ..speculation.sampling import Constraint, Sampler
from . import Asker, CacheState, Rewinds, Vocabulary, check_call
from .checkpoints import Cache, Checkpoints

PICKS = {"main": LONGEST + 1, "draft": 1}
"""Most tokens with a choice in one call: for the main model, the drafted tokens and the one before them."""
WARM_UP = {"main": (1, 5), "draft": (2, 1)}
"""Sizes of the calls in an answer."""
REPLAY = 8
"""Most lost tokens that run with the next call. More get a separate call."""
_TURNS = 2
"""Ends of prompts to which a saved cache can be cut back."""
_OPENING = 32
"""Most tokens at the end of a prompt that open its answer. The next prompt may leave them out."""


class RewindableCache(Cache[Any], Protocol):
    """The KV cache of one model, of any kind."""

    @property
    def rewinds(self) -> Rewinds: ...

    def keep(self, length: int) -> None:
        """Prepare for a `cut` to `length`, the present number of tokens, or to slightly more."""
        ...

    def reaches(self, length: int) -> int:
        """Return how many tokens `cut` would leave. Changes nothing."""
        ...

    def cut(self, length: int) -> int:
        """Rewind to the first `length` tokens, or fewer. Return the tokens left; 0 means: clear it.

        `length` is less than the cache holds.
        """
        ...

    def clear(self) -> None:
        """Remove all tokens."""
        ...


class Content(NamedTuple):
    """The content of a cache."""

    cells: memoryview
    """In the form of its library."""
    cut_from: int
    """The shortest length to which the cache can be cut after `fill`."""


@runtime_checkable
class PortableCache(Protocol):
    """A cache whose content, and whose copies, are bytes that another process can use."""

    def content(self, length: int, back: int, most: int) -> Content | None:
        """Return the content of a cache of `length` tokens; None if there is none, or if the library fails.

        A later cut may go back to `back` tokens. A cache that can afford it includes all that this needs.
        Raises `MemoryError` for more than `most` bytes.
        """
        ...

    def fill(self, content: Any, length: int) -> bool:
        """Replace the content by that of a cache of `length` tokens. After a failure it may hold anything."""
        ...

    def pack(self, copy: Any) -> bytes:
        """Return the copy of a checkpoint as bytes."""
        ...

    def unpack(self, packed: Any) -> Any:
        """Return the copy of a checkpoint that `pack` has packed."""
        ...


class CachedModel(ABC):
    """Implements most of `backends.LoadedModel` for one sequence.

    A rewind may remove more from the cache than asked for. The missing tokens still count as present, and the
    next call runs them again before its own.
    """

    facts: ModelFacts
    drops_from: int
    chunk: int

    def __init__(
        self, cache: RewindableCache, vocabulary: Vocabulary, weights: int, capacity: int, picks: int
    ) -> None:  # fmt: skip
        """`weights` is their size in bytes; `picks` is the most tokens with a choice in one call."""
        self._cache = cache
        self._checkpoints: Checkpoints[Any] = Checkpoints(cache, weights)
        self._picks = picks
        self._sampler: Sampler | None = None
        self._tokens: list[int] = []
        self._held = 0
        """Number of `tokens`, from the left, in the cache. The others must run again."""
        self._settled = True
        """Whether nothing was chosen since the last rewind."""
        self._ends: list[int] = []
        """Lengths of the latest prompts, to which a later cut may go back."""
        self.asker = Asker()
        self.vocabulary = vocabulary
        self.capacity = capacity
        self.rewinds = cache.rewinds

    @property
    def tokens(self) -> Sequence[int]:
        return self._tokens

    @property
    def length(self) -> int:
        return len(self._tokens)

    def start(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]:
        """Run `tokens` and choose the next token at each of the last `picks`.

        Raises `ModelError` for an unknown token, for a full cache, and if the library fails. Tokens that ran
        before an error of llama.cpp stay in the cache; an error of MLX and `InvalidLogits` there empty it.
        Raises `GivenUp` if the call is not wanted any more; the tokens that ran stay.
        """
        check_call(self, tokens, picks, self._picks)
        if picks and self._sampler is None:
            raise ValueError("no sampler to pick with")
        self.asker.begin()
        known = len(self._tokens)
        self._tokens.extend(tokens)
        chosen = []
        if picks:
            self._begin(known, picks)
            chosen = self._choose(len(self._tokens), picks)
        else:
            self._run(len(self._tokens))
        self.asker.end(len(tokens))
        return chosen

    def checkpoint(self, length: int) -> None:
        self._checkpoints.want(length)
        if length and length not in self._ends[-1:]:
            self._ends = [*self._ends, length][-_TURNS:]

    def reach(self, length: int) -> int:
        if length >= self._held:
            return self._held
        return max(self._cache.reaches(length), self._checkpoints.nearest(length))

    def rewind(self, length: int) -> None:
        """Rewind the cache to its first `length` tokens.

        The next call runs those again that the cache could not keep: see `reach`. Raises `ModelError` for a
        cache that cannot be rewound, unless `length` is 0.
        """
        if not 0 <= length <= len(self._tokens):
            raise ValueError(f"cannot rewind {len(self._tokens)} tokens to {length}")
        self._trim(length)
        del self._tokens[length:]
        self._settled = True

    def take_state(self, most: int) -> CacheState | None:
        """Return the content of the cache for `put_state`; None if it has none.

        Raises `MemoryError` for more than `most` bytes.
        """
        if not self._held or not isinstance(self._cache, PortableCache):
            return None
        back = max(0, min([self._held, *self._ends]) - _OPENING)
        if (content := self._cache.content(self._held, back, most)) is None:
            return None
        copies = tuple((length, self._cache.pack(copy)) for length, copy in self._checkpoints.copies)
        return CacheState(self._tokens[: self._held], content.cells, copies, content.cut_from)

    def put_state(self, state: CacheState) -> bool:
        """Replace the content of the cache. Returns False if that is impossible; the cache is then empty."""
        self._trim(0)
        self._cache.clear()
        self._tokens, self._held, self._settled, self._ends = [], 0, True, []
        count, size = len(state.tokens), self.vocabulary.size
        if not isinstance(self._cache, PortableCache) or not 0 < count <= self.capacity:
            return False
        if max(state.tokens) >= size or not self._cache.fill(state.cells, count):
            self._cache.clear()
            return False
        self._tokens, self._held = list(state.tokens), count
        self._ends = [min(count, state.cut_from + _OPENING)] if state.cut_from else []
        self._checkpoints.put((length, len(copy), self._cache.unpack(copy)) for length, copy in state.copies)
        return True

    @cached_property
    def constraint(self) -> Callable[[str], Constraint]:
        from .constraint import Constraints  # imports llguidance, which few answers need

        return Constraints(self.vocabulary, self.vocabulary.size).constraint

    def _begin(self, known: int, picks: int) -> None:
        """Make a state to return to, before tokens run that may be rejected. `known` tokens are certain.

        A main model reads all drafted tokens in one call; a draft model begins with its first choice.
        """
        end = len(self._tokens)
        if (stop := self._checkpoints.stop(self._held, end - picks + 1)) <= end - picks:
            self._run(stop)
        self._run_certain(max(known, end - LONGEST - 1), picks)
        if self._held >= known and (picks > 1 or (self._settled and self._picks == 1)):
            self._cache.keep(self._held)
        self._settled = False

    def _trim(self, length: int) -> None:
        """Cut the cache to the first `length` tokens, or fewer."""
        self._checkpoints.forget(length)
        if length >= self._held:
            return
        copied = self.reach(length) > self._cache.reaches(length)
        self._held = self._checkpoints.restore(length) if copied else self._cache.cut(length)
        if not self._held:
            self._cache.clear()

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def _run_certain(self, certain: int, picks: int) -> None:
        """Run tokens that need no choice, if they are too many for the next call: the first `certain`."""

    @abstractmethod
    def _run(self, end: int) -> None:
        """Run `tokens` up to `end`, without scores."""

    @abstractmethod
    def _choose(self, end: int, picks: int) -> list[Pick]:
        """Run `tokens` up to `end`, and choose at the last `picks` of them."""
