"""Measures the costs of a pair on this machine when it is loaded, and remembers them on disk.

The draft length policy decides by these costs and keeps them up to date. This module only measures, stores
and recalls them. A damaged file, or one for other models, other hardware or another version, counts as
missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import inf, log, sqrt
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

from ..backends import LoadedModel, ModelError
from ..machine.stored_facts import StoredFact
from ..speculation.chances import LONGEST
from ..speculation.estimates import DRAFT, READ, Costs
from ..speculation.policy import AdaptiveLength
from ..speculation.sampling import Chain, InvalidLogits, Sampler

SECONDS = 1.2
"""Seconds that measuring may take, because a load waits for it. The first call of several rows may take as
long again."""
_ROWS = (4, 2, 8, 16, 3, 6, 12, 9, 5)
"""Numbers of rows to time. The most informative come first, because the time may run out."""
_READ = 64
"""Most tokens in the one call that times reading by the draft."""
_TIMES = 5
"""Most times of each call. The median of several ignores a single slow one."""
_LONG = 0.05
"""Seconds. A call that takes longer needs no warm-up call before it."""
_DRIFT = 8.0
"""Factor between the remembered and the present speed. Beyond it, the costs are measured again."""
_LEAST_DOUBT, _FEW, _NO_IDEA = 0.1, 0.2, 0.5
"""Doubt of a ratio that was measured well, once or twice, and never: a standard error, as a factor's
logarithm. The first is a lower bound, the others are estimates."""
_PER_ROW = 0.2
"""Assumed cost of one more row, in rows, if no call of several rows was timed."""
_DEAR = 0.5
"""Cost of one more row, in rows, above which the first time of a long call may be that of a busy moment. The
call is then timed again at once: the policy would not try it soon."""


def measure(
    main: LoadedModel,
    draft: LoadedModel | None,
    plain: float | None,
    clock: Callable[[], float] = perf_counter,
) -> Costs:
    """Time both models with empty caches, and leave the caches empty. `plain`: seconds of one token of the
    main model.

    Raises `ModelError`, `InvalidLogits` or `ValueError` if the models give no sensible figures.
    """
    turns = _Turns(main, plain, clock)
    calls = [_Call(rows, main, rows, rows) for rows in _ROWS if rows < main.capacity]
    size = 0
    if draft is not None:
        turns.take(one := _Call(DRAFT, draft, 1, 1))
        size = turns.affordable(draft)
        calls[2:2] = [_Call(READ, draft, size, 1), one]
    for _ in range(_TIMES):
        for call in calls:
            turns.take(call)
    return _costs(turns, size)


def _costs(turns: _Turns, size: int) -> Costs:
    """Return the costs from the timed calls. The draft read `size` tokens in one call."""
    verify = {rows: turns.seconds(rows) for rows in turns.ratios if rows <= LONGEST + 1}
    if len(verify) == 1:
        verify |= {rows: verify[1] * (1 + _PER_ROW * (rows - 1)) for rows in (2, LONGEST + 1)}
    doubt = {place: turns.doubt(place) for place in turns.ratios}
    draft = turns.seconds(DRAFT) if DRAFT in turns.ratios else verify[1]
    if READ not in turns.ratios:
        return Costs(verify, draft=draft, read=draft / 2, doubt={**doubt, READ: _NO_IDEA})
    read = max((turns.seconds(READ) - draft) / (size - 1), draft / _READ)
    return Costs(verify, draft=draft, read=read, doubt=doubt)


class _Call(NamedTuple):
    """A call to time: `tokens` tokens in an empty cache, with choices at the last `picks`."""

    place: int
    """Index of its cost, as in `Costs`."""
    model: LoadedModel
    tokens: int
    picks: int


class _Turns:
    """Calls in turn with one row of the main model. Each call is compared with the two rows around it.

    So the ratios stay right on a machine whose speed changes slowly, and their median also after a sudden
    change.
    """

    def __init__(self, main: LoadedModel, plain: float | None, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started = clock()
        self._one = _Call(1, main, 1, 1)
        self.ratios: dict[int, list[float]] = {1: [1.0]}
        """By index of a call: its seconds divided by those of one row, for each time."""
        if plain is None:
            self._seconds(self._one)  # warms up
        self._ones = [plain or self._seconds(self._one)]

    def take(self, call: _Call) -> None:
        """Time a call once, if the remaining time allows it."""
        fresh = call.place not in self.ratios
        expected = self._expected(call)
        warm = fresh and expected < _LONG
        spent = self._clock() - self._started
        allowed = SECONDS * (2 if len(self.ratios) < 3 else 1)
        if spent + (1 + warm) * expected + self._ones[-1] > allowed:
            return
        before = self._ones[-1]
        if warm:
            self._seconds(call)
        self._compare(call, before)
        if fresh and not warm and self._seems_busy(call):
            self._compare(call, self._ones[-1])

    def _seems_busy(self, call: _Call) -> bool:
        """Return whether the only time of a call of rows is a long one, and there is time for another."""
        if call.place > LONGEST + 1 or self.ratios[call.place][0] < 1 + _DEAR * (call.tokens - 1):
            return False
        again = self.seconds(call.place) + self._ones[-1]
        return self._clock() - self._started + again < 2 * SECONDS

    def _compare(self, call: _Call, before: float) -> None:
        """Time a call, and compare it with the single rows `before` and after it.

        A long call is timed once or twice. A busy moment in one of these rows would make the call too cheap,
        and the policy would draft at a loss. So a long call is compared with the quicker of the two.
        """
        seconds, after = self._seconds(call), self._seconds(self._one)
        self._ones.append(after)
        one = min(before, after) if seconds > _LONG else sqrt(before * after)
        self.ratios.setdefault(call.place, []).append(seconds / one)

    def _expected(self, call: _Call) -> float:
        """Return the expected seconds of a call: as before, or in proportion to a smaller call."""
        if call.place in self.ratios:
            return self.seconds(call.place)
        if call.place == READ:
            return self.seconds(DRAFT) * call.tokens if DRAFT in self.ratios else inf
        smaller = max((rows for rows in self.ratios if rows < min(call.tokens, DRAFT)), default=1)
        return self.seconds(smaller) * call.tokens / smaller

    def affordable(self, draft: LoadedModel) -> int:
        """Return how many tokens the draft may read in one call, if each takes as long as one alone."""
        one = self.seconds(DRAFT) if DRAFT in self.ratios else self.seconds(1)
        return max(2, min(_READ, draft.capacity - 1, int(SECONDS / 6 / one)))

    def seconds(self, place: int) -> float:
        """Return the seconds of a call, by the median of its ratios, or by the lesser of two.

        A busy moment makes a call longer, and nothing makes it shorter.
        """
        ratios = self.ratios[place]
        return (median(ratios) if len(ratios) > 2 else min(ratios)) * median(self._ones)

    def doubt(self, place: int) -> float:
        """Return the standard error of a ratio's median, as a factor's logarithm; a guess below three
        figures."""
        logs = [log(ratio) for ratio in (self.ratios[place] if place > 1 else self._drift())]
        if len(logs) < 3:
            return _FEW
        spread = 1.5 * median(abs(each - median(logs)) for each in logs)
        return max(_LEAST_DOUBT, 1.25 * spread / sqrt(len(logs)))

    def _drift(self) -> list[float]:
        """Return the ratios of each single row to the one before it."""
        return [after / before for before, after in pairwise(self._ones)]

    def _seconds(self, call: _Call) -> float:
        """Make the call once and return its seconds."""
        text = first_tokens(call.model) * call.tokens
        try:
            call.model.rewind(0)
            call.model.start(Sampler(Chain(), seed=0, start=1))
            began = self._clock()
            call.model.extend(text, call.picks)
            return self._clock() - began
        finally:
            call.model.rewind(0)


def first_tokens(model: LoadedModel) -> list[int]:
    """Return one token that a text may begin with."""
    return (model.vocabulary.encode_start() or model.vocabulary.encode("A") or [0])[:1]


class RememberedCosts:
    """The learned facts about one pair, in a small file."""

    def __init__(self, folder: Path, models: Sequence[LoadedModel], rest: Sequence[str]) -> None:
        """`rest` are the other texts that the figures depend on: backend, device, version."""
        self._note = StoredFact(folder, [model.facts.path for model in models], rest)

    def recall(self, plain: float | None) -> AdaptiveLength | None:
        """Return the stored policy, with its costs scaled to the present speed `plain` (seconds per token).

        None if the speed has changed so much that the ratios cannot be right either.
        """
        try:
            policy = AdaptiveLength.from_dict(self._note.read())
        except ValueError:
            return None
        if plain is None:
            return policy
        if not 1 / _DRIFT < plain / policy.costs.verify[0] < _DRIFT:
            return None
        policy.costs.rescale(plain)
        return AdaptiveLength(policy.costs, policy.skill)

    def keep(self, policy: AdaptiveLength) -> None:
        """Store the policy. A full or read-only disk is not an error."""
        self._note.write(policy.as_dict())


def fresh_policy(
    main: LoadedModel,
    draft: LoadedModel | None,
    plain: float | None,
) -> AdaptiveLength | None:
    """Return a policy for a pair without stored facts; None if the models give no sensible figures."""
    try:
        return AdaptiveLength(measure(main, draft, plain))
    except (ModelError, InvalidLogits, ValueError):
        return None
