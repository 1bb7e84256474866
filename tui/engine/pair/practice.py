"""Rounds without an answer: what a round costs, learned while nothing else is to be done.

A load has time for one or two calls of each kind, and one call may be off by a quarter: too much for a true
speed-up on the screen. So once a pair is loaded, and whenever the engine has nothing to do, rounds run of
those lengths whose cost beside one row is still doubtful. They run as in an answer: the draft first, then so
many rows of the main model. They go behind what both caches hold and are cut away again, as rejected tokens
are. A cache that cannot be cut anywhere, such as a recurrent state, would lose the chat by that: with such a
model there is practice only while the caches are empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter

from ..backends import LoadedModel
from ..speculation.chances import LONGEST
from ..speculation.estimates import DRAFT, Costs
from ..speculation.loop import NOTHING, Round
from ..speculation.sampling import Chain, Sampler
from .costs import first_tokens

LIMIT, _PASSES = 30.0, 8
"""Most seconds of practice with one pair, and how often each number of rows may come: on a busy machine some
ratios never become sure."""
_ROWS = (4, 2, 3, 6, 8, 5, 12, LONGEST + 1)
"""Numbers of rows that are practised; the ones that most rounds have come first."""
_KNOWN = 0.06
"""A ratio with less doubt than this needs no more practice."""
_PATIENCE, _STEPS = 0.5, 2.0
"""No call takes longer than so many seconds or so many plain steps: somebody may begin to wait in it."""
_DRAFTS = 3
"""Most tokens that the draft proposes in a round of practice."""

Passed = Callable[[int, float], object]
"""Is told of each call of the main model: its rows and its seconds."""


class Practice:
    """Of one pair."""

    def __init__(
        self,
        main: LoadedModel,
        draft: LoadedModel | None,
        costs: Costs,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._main, self._draft, self._costs, self._clock = main, draft, costs, clock
        self._left, self._passes = LIMIT, _PASSES

    def run(self, going: Callable[[], bool], passed: Passed | None = None) -> bool:
        """Practise until all is known, `LIMIT` is reached or `going` says no. Whether anything was learned.

        The caches are as they were. Raises what the models raise.
        """
        if not self._doubtful():
            return False
        for model in self._models():
            model.start(Sampler(Chain(), seed=0, start=1))
        self._costs.practise()
        learned = False
        while going() and (doubtful := self._doubtful()):
            self._passes -= 1
            for length in self._lengths(doubtful):
                if self._left <= 0 or not going():
                    break
                seconds = self._round(length)
                if passed:
                    passed(length + 1, seconds)
                learned = True
        self._costs.settle()
        return learned

    def _models(self) -> Iterator[LoadedModel]:
        yield self._main
        if self._draft:
            yield self._draft

    def _doubtful(self) -> list[int]:
        """Numbers of rows that there is room and time to practise, and reason to."""
        lossy = any(model.length and model.rewinds != "anywhere" for model in self._models())
        if lossy or self._left <= 0 or self._passes <= 0:
            return []
        verify = self._costs.verify
        most = max(_PATIENCE, _STEPS * verify[0])
        room = min(model.capacity - model.length for model in self._models())
        doubt = self._costs.doubt()
        unsure = self._draft is not None and doubt[DRAFT] > _KNOWN
        return [
            rows for rows in _ROWS
            if rows < room and verify[rows - 1] <= most and (unsure or doubt[rows] > _KNOWN)
        ]  # fmt: skip

    @staticmethod
    def _lengths(doubtful: list[int]) -> Iterator[int]:
        """Draft lengths of a series of rounds: two plain ones, so many rows, two plain ones, and so on.

        The second plain round is what the rows are compared with; the first shows what it costs to come back.
        """
        for rows in doubtful:
            yield from (0, 0, rows - 1)
        yield from (0, 0)

    def _round(self, length: int) -> float:
        """One that drafts and verifies so many tokens; all are rejected. The main model's seconds."""
        began = self._clock()
        calls = min(length, _DRAFTS) if self._draft else 0
        if self._draft:
            self._run(self._draft, [1] * calls)
        drafted = self._clock()
        self._run(self._main, [length + 1])
        seconds = self._clock() - drafted
        self._left -= self._clock() - began
        drafting = drafted - began
        whole = drafting + seconds + self._costs.host
        self._costs.learn(Round((0,) * length, 0, 0, NOTHING, drafting, seconds, whole), calls, 0)
        return seconds

    @staticmethod
    def _run(model: LoadedModel, calls: list[int]) -> None:
        """Calls of so many tokens each, behind what the cache holds; it is cut back to that."""
        held = model.length
        try:
            for tokens in calls:
                model.extend(first_tokens(model) * tokens, picks=tokens)
        finally:
            model.rewind(min(held, model.length))  # a model that failed may have emptied its cache
