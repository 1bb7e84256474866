"""A loaded MLX model with its caches: runs tokens, chooses at the last of them, rewinds.

Arrays are lazy: a call only notes the computation, and one `mx.eval` computes it all. Each array of MLX
belongs to the thread that made it, so a model is used on one thread. This module knows no file and no text.
`picking` chooses the tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from ...library.describe import named
from ...library.mlx_folder import Folder
from ...speculation.chances import LONGEST
from ...speculation.loop import Pick
from ...speculation.sampling import Constraint, InvalidLogits, Sampler
from .. import ModelError, Rewinds, check_call, prompt_form
from ..checkpoints import Checkpoints
from .caches import Caches
from .picking import chain_of_best, pick_rows
from .vocabulary import MlxVocabulary

if TYPE_CHECKING:
    from ..constraint import Constraints


CHUNK = 2048
"""Most tokens in one call. Scores for all of them would take gigabytes, so none are computed."""
_SLOW_CHUNK = 256
"""Most tokens in one call without a GPU, where a longer call would take minutes."""
ROUND = LONGEST + 1
"""Most tokens with a choice in one call: 16 drafted ones and the one before them."""
_REPLAY = 8
"""Most lost tokens that run with the next call. More get a separate call."""
_SMALL = 64
"""Most tokens that get unneeded scores rather than a separate call."""


class MlxModel:
    """Implements `backends.LoadedModel` for one sequence.

    A rewind may remove more from the caches than asked for. The missing tokens still count as present, and
    the next call runs them again before its own.
    """

    def __init__(
        self, network: Any, caches: Caches, vocabulary: MlxVocabulary, folder: Folder, capacity: int,
        picks: int = ROUND,
    ) -> None:  # fmt: skip
        """`picks` is the most tokens with a choice in one call; 1 makes a draft model."""
        self._network = network
        self._caches = caches
        self._checkpoints = Checkpoints(caches, folder.weight_bytes)
        self._picks = picks
        self._sampler: Sampler | None = None
        self._tokens: list[int] = []
        self._held = 0
        """Number of `tokens`, from the left, in the caches. The others must run again."""
        self._settled = True
        """Whether nothing was chosen since the last rewind."""
        self.rewinds: Rewinds = caches.rewinds
        self.drops_from = caches.drops_from
        self.chunk = CHUNK if mx.default_device() == mx.gpu else _SLOW_CHUNK
        self.vocabulary = vocabulary
        self.capacity = capacity
        self.facts = named(folder.facts(vocabulary.size, prompt_form(vocabulary)))

    @property
    def tokens(self) -> Sequence[int]:
        """The token ids in the cache, in order."""
        return self._tokens

    @property
    def length(self) -> int:
        return len(self._tokens)

    @property
    def cache_unknown(self) -> str:
        """The kind of its cache that cannot be rewound; empty if all can."""
        return self._caches.unknown

    def start(self, sampler: Sampler) -> None:
        """Choose tokens by `sampler` from now on."""
        self._sampler = sampler

    def constraint(self, grammar: str) -> Constraint:
        """Return a grammar of `grammars` as a constraint. Raises `ModelError` if it is too large."""
        return self._constraints.constraint(grammar)

    def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]:
        """Run `tokens` and choose the next token at each of the last `picks`.

        Raises `ModelError` for an unknown token, for a full cache, and if MLX fails; or `InvalidLogits`. The
        last two empty the cache.
        """
        check_call(self, tokens, picks, self._picks)
        if picks and self._sampler is None:
            raise ValueError("no sampler to pick with")
        known = len(self._tokens)
        self._tokens.extend(tokens)
        if not picks:
            self._run(len(self._tokens))
            return []
        self._begin(known, picks)
        return self._choose(len(self._tokens), picks)

    def draft(self, tokens: Sequence[int], count: int) -> list[Pick]:
        """Run `tokens`, choose the next token, run it, and so on: up to `count` choices with one wait.

        If a choice needs more than the best score of a row, the host makes it, and returns only this one.
        Raises the errors of `extend`.
        """
        check_call(self, tokens, 1, self._picks)
        count = min(count, self.capacity - self.length - len(tokens) + 1)
        if count == 1 or self._sampler is None or not self._sampler.chooses_best:
            return self.extend(tokens, picks=1)
        known = len(self._tokens)
        self._tokens.extend(tokens)
        self._begin(known, 1)
        with self._failing():
            unread = mx.array([self._tokens[self._held :]])
            index = len(self._tokens) - self._sampler.start
            picks = chain_of_best(self._row, unread, count, index)
        self._tokens += [pick.token for pick in picks[:-1]]
        self._held = len(self._tokens)
        return picks

    def checkpoint(self, length: int) -> None:
        """Copy the cache as soon as it holds `length` tokens; see `checkpoints`."""
        self._checkpoints.want(length)

    def reach(self, length: int) -> int:
        """Return how many tokens the cache still holds after `rewind(length)`."""
        if length >= self._held:
            return self._held
        return max(self._caches.reaches(length), self._checkpoints.nearest(length))

    def rewind(self, length: int) -> None:
        """Rewind the cache to its first `length` tokens.

        The next call runs those again that the cache could not keep: see `reach`. Raises `ModelError` for a
        cache that cannot be rewound, unless `length` is 0.
        """
        if not 0 <= length <= len(self._tokens):
            raise ValueError(f"cannot rewind {len(self._tokens)} tokens to {length}")
        self._checkpoints.forget(length)
        if not length:
            self._forget()
        elif length < self._held:
            copied = self.reach(length) > self._caches.reaches(length)
            self._held = self._checkpoints.restore(length) if copied else self._caches.cut(length)
            if not self._held:
                self._caches.clear()
        del self._tokens[length:]
        self._settled = True

    def warm_up(self, row_counts: Sequence[int]) -> None:
        """Let MLX prepare for calls of these sizes, so that the first token is not late."""
        for rows in row_counts:
            with self._failing():
                mx.eval(self._network(mx.array([[0] * rows]), cache=self._caches.all), self._caches.state)
            self._forget()

    def close(self) -> None:
        """Free the model. Only a second `close` is allowed after this."""
        self._tokens.clear()
        self._network = self._caches = None  # type: ignore[assignment]
        mx.clear_cache()

    @cached_property
    def _constraints(self) -> Constraints:
        from ..constraint import Constraints  # imports llguidance, which few answers need

        return Constraints(self.vocabulary, self.vocabulary.size)

    def _begin(self, known: int, picks: int) -> None:
        """Make a state to return to, before tokens run that may be rejected. `known` tokens are certain.

        A main model reads all drafted tokens in one call; a draft model begins with its first choice.
        """
        end = len(self._tokens)
        if (stop := self._checkpoints.stop(self._held, end - picks + 1)) <= end - picks:
            self._run(stop)
        certain = max(known, end - ROUND)
        if certain - self._held > (_SMALL if self.rewinds == "anywhere" else _REPLAY):
            self._run(certain)
        if self._held >= known and (picks > 1 or (self._settled and self._picks == 1)):
            self._caches.keep(self._held)
        self._settled = False

    def _run(self, end: int) -> None:
        """Run `tokens` up to `end` in chunks, without scores."""
        while self._held < end:
            stop = self._checkpoints.stop(self._held, min(end, self._held + CHUNK))
            chunk = self._tokens[self._held : stop]
            with self._failing():
                self._network(mx.array([chunk]), cache=self._caches.all)
                self._held += len(chunk)
                mx.eval(self._caches.state)
                self._checkpoints.computed(self._held)
            if len(chunk) > _SMALL:
                mx.clear_cache()

    def _choose(self, end: int, picks: int) -> list[Pick]:
        """Run `tokens` up to `end` in one call and choose at the last `picks` of them."""
        assert self._sampler is not None
        with self._failing():
            scores = self._network(mx.array([self._tokens[self._held : end]]), cache=self._caches.all)
            self._held = end
            # A state that no score needs is computed together with them. As a mere note, it would grow.
            return pick_rows(scores[0, -picks:], self._caches.state, self._sampler, self._tokens)

    def _row(self, tokens: Any) -> tuple[Any, Any]:
        """Run tokens of shape (1, any), perhaps lazy. Return the last scores and the caches' arrays."""
        scores = self._network(tokens, cache=self._caches.all)
        return scores[0, -1:], self._caches.state

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Turn a failure of MLX into a `ModelError`, and empty the caches, which may then hold anything.

        Scores that are not numbers empty them too: tokens chosen by such scores may already be in the caches.
        """
        try:
            with failing("the model could not be run", "Load the model again."):
                yield
        except (ModelError, InvalidLogits):
            self._forget()
            raise

    def _forget(self) -> None:
        self._checkpoints.forget(0)
        self._caches.clear()
        self._tokens.clear()
        self._held = 0


@contextmanager
def failing(what: str, hint: str) -> Iterator[None]:
    """Turn any error that a foreign library raises about a model's numbers into a one-line `ModelError`."""
    try:
        yield
    except (ModelError, InvalidLogits):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"{what}: {reason}", hint) from None
