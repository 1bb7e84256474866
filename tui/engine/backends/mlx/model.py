"""A loaded MLX model with its caches: runs tokens, chooses at the last of them, rewinds.

Arrays are lazy: a call only notes the computation, and one `mx.eval` computes it all. Each array of MLX
belongs to the thread that made it, so a model is used on one thread. This module knows no file and no text.
`picking` chooses the tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx

from ....protocol import ModelFacts
from ...speculation.loop import Pick
from ...speculation.sampling import InvalidLogits
from .. import CacheState, GivenUp, ModelError, check_call
from ..cached import PICKS, REPLAY, CachedModel
from ..kept_rows import WAITING
from .caches import Caches
from .hidden import Runner
from .parts import Parts, Result
from .picking import chain_of_best, pick_rows
from .vocabulary import MlxVocabulary

CHUNK = 2048
"""Most tokens in one call. Scores for all of them would take gigabytes, so none are computed."""
_SLOW_CHUNK = 256
"""Most tokens in one call without a GPU, where a longer call would take minutes."""
_SMALL = 64
"""Most tokens that get unneeded scores rather than a separate call."""


class MlxModel(CachedModel):
    """One sequence of an MLX folder."""

    _cache: Caches
    vocabulary: MlxVocabulary

    def __init__(
        self, network: Any, caches: Caches, vocabulary: MlxVocabulary, facts: ModelFacts, capacity: int,
        picks: int = PICKS["main"], *, runner: Runner | None = None, parts: Parts | None = None,
        exact: bool = False,
    ) -> None:  # fmt: skip
        """`picks` is the most tokens with a choice in one call; 1 makes a draft model.

        `parts` computes the calls. In exact mode, the time of a token cuts no call into several.
        """
        super().__init__(caches, vocabulary, facts.size, capacity, picks)
        self._parts = parts or Parts(caches)
        self._exact = exact
        self.drops_from = caches.drops_from
        self.cache_unknown = caches.unknown
        """The kind of its cache that cannot be rewound; empty if all can."""
        self.chunk = CHUNK if mx.default_device() == mx.gpu else _SLOW_CHUNK
        self.facts = facts
        self._network = self.runner = runner or Runner(network, caches)

    def draft(self, tokens: Sequence[int], count: int) -> list[Pick]:
        """Run `tokens`, choose the next token, run it, and so on: up to `count` choices with one wait.

        If a choice needs more than the best score of a row, the host makes it, and returns only this one.
        Choices that take long together are awaited one by one, and the next one is computed meanwhile.
        Raises the errors of `extend`.
        """
        check_call(self, tokens, 1, self._picks)
        count = min(count, self.capacity - self.length - len(tokens) + 1)
        slow = self._parts.are_needed(1)  # one choice of a chain cannot be given up
        if slow or count == 1 or self._sampler is None or not self._sampler.chooses_best:
            return self.extend(tokens, picks=1)
        self.asker.begin()
        known = len(self._tokens)
        self._tokens.extend(tokens)
        self._begin(known, 1)
        network, cache, picks = self._network, self._cache, list[Pick]()

        def row(tokens: Any) -> tuple[Any, Any]:
            return network(tokens, cache=cache.all)[0, -1:], cache.state

        unread = mx.array([self._tokens[self._held :]])
        index = len(self._tokens) - self._sampler.start
        asks = self._parts.are_needed(count)
        with self._failing():
            for pick in chain_of_best(row, unread, count, index, 1 if asks else count):
                picks.append(pick)
                if asks and len(picks) < count:  # the call that runs this choice has begun
                    self._tokens.append(pick.token)
                    self._held = len(self._tokens)
                    self.asker.ask(0.0)
        self._tokens += [] if asks else [pick.token for pick in picks[:-1]]
        self._held = len(self._tokens)
        return picks

    def rewind(self, length: int) -> None:
        super().rewind(length)
        before = length - 1
        cuts = self.rewinds == "anywhere" and self._cache.reaches(before) == before
        if cuts and self._held == length and self.runner.wants_again(length):
            self._trim(before)
        self.runner.read_along(WAITING)

    def put_state(self, state: CacheState) -> bool:
        done = super().put_state(state)
        self.runner.stand_at(self._held)
        return done

    def put_back(self, length: int) -> None:
        """Restore the checkpoint at `length` tokens, whether a cut would do or not."""
        self._held = self._checkpoints.restore(length)
        self.rewind(length)
        self.runner.stand_at(self._held)

    def warm_up(self, row_counts: Sequence[int]) -> None:
        """Let MLX prepare for calls of these sizes, so that the first token is not late.

        A slow model is prepared by one call: all its calls take longer than their preparation.
        """
        for place, rows in enumerate(row_counts):
            if not place or not self._parts.are_needed(1):
                self._compute([0] * rows, lambda scores: mx.eval(scores, self._cache.state))
                self._forget()

    def close(self) -> None:
        """Free the model. Only a second `close` is allowed after this."""
        self._tokens.clear()
        self._network = self._cache = self.runner = None  # type: ignore[assignment]
        mx.clear_cache()

    def _run_certain(self, certain: int, picks: int) -> None:
        if certain - self._held > (_SMALL if self.rewinds == "anywhere" else REPLAY):
            self._run(certain)

    def _run(self, end: int) -> None:
        while self._held < end:
            most = min(end - self._held, CHUNK)
            most = most if self._exact else self._parts.most(most)
            stop = self.runner.end_of_call(self._held, self._held + most)
            stop = self._checkpoints.stop(self._held, stop)
            chunk = self._tokens[self._held : stop]
            self._compute(chunk, lambda scores: mx.eval(self._cache.state, self.runner.rows), scored=False)
            with self._failing():
                self._checkpoints.computed(self._held)
                self.runner.computed(self._held, self._checkpoints.nearest)
            if len(chunk) > _SMALL:
                mx.clear_cache()

    def _choose(self, end: int, picks: int) -> list[Pick]:
        assert self._sampler is not None
        sampler, state = self._sampler, self._cache
        # A state that no score needs is computed together with them. As a mere note, it would grow.
        return self._compute(
            self._tokens[self._held : end],
            lambda scores: pick_rows(scores[0, -picks:], state.state, sampler, self._tokens),
        )

    def _compute(
        self, tokens: Sequence[int], finish: Callable[[Any], Result], *, scored: bool = True
    ) -> Result:
        """Run tokens in one call. Return what `finish` makes of their scores, which it computes."""

        def note() -> Any:
            return self._network(mx.array([tokens]), cache=self._cache.all)

        with self._failing():
            result = self._parts.compute(note, finish, len(tokens), self.asker.ask, scored=scored)
            self._held += len(tokens)
            return result

    def _trim(self, length: int) -> None:
        super()._trim(length)
        self.runner.stand_at(self._held)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Turn a failure of MLX into a `ModelError`, and empty the caches, which may then hold anything.

        Scores that are not numbers empty them too: tokens chosen by such scores may already be in the caches.
        A call that is given up leaves the tokens of the calls before it.
        """
        try:
            with failing("the model could not be run", "Load the model again."):
                yield
        except GivenUp:
            del self._tokens[self._held :]
            self.runner.stand_at(self._held)
            raise
        except (ModelError, InvalidLogits):
            self._forget()
            raise

    def _forget(self) -> None:
        self._checkpoints.forget(0)
        self._cache.clear()
        self._tokens.clear()
        self._held = 0
        self.runner.stand_at(0)


@contextmanager
def failing(what: str, hint: str) -> Iterator[None]:
    """Turn any error that a foreign library raises about a model's numbers into a one-line `ModelError`."""
    try:
        yield
    except (GivenUp, ModelError, InvalidLogits):
        raise
    except Exception as error:  # the errors of MLX and of foreign networks have no common base
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"{what}: {reason}", hint) from None
