"""Learns the costs of rounds while the engine has nothing else to do, in rounds without an answer.

A load has time for one or two calls of each kind, and one call may be wrong by a quarter. That is too much
for a true speed-up on the screen. So after the load of a pair, and whenever the engine is idle, rounds run
with those lengths whose costs are still doubtful. They run as in an answer: first the draft, then several
rows of the main model. They use the cache after its present tokens and are rewound like rejected tokens. A
cache that cannot be rewound anywhere, such as a recurrent state, would lose the chat. With such a model,
practice runs only while the caches are empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter

from ..backends import LoadedModel
from ..speculation.chances import LONGEST
from ..speculation.estimates import DRAFT, Costs
from ..speculation.loop import NO_PICK, Round
from ..speculation.sampling import Chain, Sampler
from .costs import first_tokens

LIMIT, _PASSES = 30.0, 8
"""Most seconds of practice with one pair, and most passes over the numbers of rows. On a busy machine some
ratios never become certain."""
_ROWS = (4, 2, 3, 6, 8, 5, 12, LONGEST + 1)
"""Numbers of rows to practice. The most frequent ones come first."""
_KNOWN = 0.06
"""Doubt (a factor's logarithm) below which a ratio needs no more practice."""
_PATIENCE, _STEPS = 0.5, 2.0
"""Most seconds of a call, or most plain steps if that is longer, because a user may begin to wait
during it."""
_SELDOM, _PER_ROW = 0.15, 0.2
"""Doubt above which a call counts as timed once or twice, perhaps in a busy moment. It may then be practiced
if its time could be short: each further row of a quick call costs this part of a row."""
_DRAFTS = 3
"""Most tokens that the draft proposes in a round of practice."""

Passed = Callable[[int, float], object]
"""Receives each call of the main model: its rows and its seconds."""


class Practice:
    """Practice with one pair."""

    def __init__(
        self,
        main: LoadedModel,
        draft: LoadedModel | None,
        costs: Costs,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._main, self._draft, self._costs, self._clock = main, draft, costs, clock
        self._models = [model for model in (main, draft) if model]
        self._left, self._passes = LIMIT, _PASSES

    def run(self, going: Callable[[], bool], passed: Passed | None = None) -> bool:
        """Practice until all is known, `LIMIT` is reached or `going` says no. Return whether it helped.

        The caches are unchanged afterwards. Raises the errors of the models.
        """
        if not self._doubtful():
            return False
        for model in self._models:
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

    def _doubtful(self) -> list[int]:
        """Return the doubtful numbers of rows for which there is room and time."""
        lossy = any(model.length and model.rewinds != "anywhere" for model in self._models)
        if lossy or self._left <= 0 or self._passes <= 0:
            return []
        verify = self._costs.verify
        most = max(_PATIENCE, _STEPS * verify[0])
        least = {rows: verify[0] * (1 + _PER_ROW * (rows - 1)) for rows in _ROWS}
        room = min(model.capacity - model.length for model in self._models)
        doubt = self._costs.doubt()
        unsure = self._draft is not None and doubt[DRAFT] > _KNOWN
        return [
            rows for rows in _ROWS
            if rows < room
            and (verify[rows - 1] <= most or (doubt[rows] >= _SELDOM and least[rows] <= most))
            and (unsure or doubt[rows] > _KNOWN)
        ]  # fmt: skip

    @staticmethod
    def _lengths(doubtful: list[int]) -> Iterator[int]:
        """Yield the draft lengths of a series of rounds: two plain ones, one with that many rows, and so on.

        The rows are compared with the second plain round. The first one shows the cost of coming back.
        """
        for rows in doubtful:
            yield from (0, 0, rows - 1)
        yield from (0, 0)

    def _round(self, length: int) -> float:
        """Run a round that drafts `length` tokens, all rejected. Return the main model's seconds."""
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
        self._costs.learn(Round((0,) * length, 0, 0, NO_PICK, drafting, seconds, whole), calls, 0)
        return seconds

    @staticmethod
    def _run(model: LoadedModel, calls: list[int]) -> None:
        """Run calls of these numbers of tokens after the present cache, and rewind to it."""
        held = model.length
        try:
            for tokens in calls:
                model.extend(first_tokens(model) * tokens, picks=tokens)
        finally:
            model.rewind(min(held, model.length))  # a model that failed may have emptied its cache
