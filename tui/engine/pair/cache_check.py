"""A trial of a main model: is its cache, after rejected tokens, what it was before them?

Speculative decoding stands on that: where a rewind leaves something behind, or takes too much, the text
would change with the draft. Runs of the same shape are compared: the same calls, of the same sizes, once with
rejected tokens and a rewind in between, once without. They must give the same bits, so the rounding
of a kernel cannot hide a fault, nor be taken for one. (How far several rows lie from single ones is another
question: `rounding`.) Some devices never give the same bits twice; that is measured first, and is what a
rewind is then held against.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from ...protocol import Obstacle
from ..backends import LoadedModel, ModelError, RestoresEarly
from ..eligibility import NOT_RESTORED, broken_trial, short_context
from ..speculation.sampling import InvalidLogits, Logits
from .deviation import Watched, deviation, known_tokens
from .reading import loses

_BASE = 6
"""Tokens before the first batch: few, so that a single wrong one in the cache weighs much."""
_BATCH = 4
_REJECTED = (1, 3, 7)
"""How many tokens are rejected, time after time."""
_NEEDED = _BASE + 2 * _BATCH + max(_REJECTED)
_UNSTEADY = 4.0
"""Where the same bits cannot be asked for: how many times the distance of two sound runs a rewind may add."""
_LOST = 0.15
"""Root mean square, in standard deviations: more than this between two runs of different shapes means that a
token is missing. Real kernels stay below 0.08. In a cache of ten, a token too many makes 0.14 at least, and
the last one lost 0.4; but one lost further back can make as little as 0.03, which only the bits tell."""
_CARRIED = 8.0
"""How many times the rounding of some rows the rows behind them may move: twice was seen, in real models."""

_SECONDS = 10.0
"""Longest time to read behind a window."""
_FIRST = 32
"""Tokens of the first call there. It tells how long the reading would take."""


def trial(main: LoadedModel) -> Obstacle | None:
    """Why nothing may draft for `main`; None if all is well. Leaves the cache empty.

    Takes some 20 calls of 1 to 11 tokens.
    """
    if main.capacity < _NEEDED:
        return short_context(main.capacity)
    try:
        return None if _restores(main) and _reaches_back(main) else NOT_RESTORED
    except (ModelError, InvalidLogits) as error:
        return broken_trial(error)
    finally:
        main.rewind(0)


def trial_of_checkpoints(main: LoadedModel) -> bool:
    """Whether the checkpoints of `main` can be trusted. Leaves the cache empty.

    A batch runs behind some tokens. Then these are read again, with a checkpoint behind them, others follow
    until no cut reaches back, and the checkpoint is put back. The same batch must now have the same bits.
    Where reading so far takes long, a model that can put the checkpoint back earlier does so. For others the
    answer is no: without checkpoints a text is read again, which is slow but right.
    """
    try:
        return not loses(main) or _puts_back(main)
    except (ModelError, InvalidLogits):
        return False
    finally:
        main.checkpoint(0)
        main.rewind(0)


def _puts_back(main: LoadedModel) -> bool:
    if main.capacity < _NEEDED:
        return False
    text, watched = known_tokens(main, main.capacity), Watched(main)
    base, batch, others = text[:_BASE], text[_BASE : _BASE + _BATCH], _others(text, _BATCH)
    unsteady = _UNSTEADY * _distance_of_two(watched, base, batch)
    watched.begin(base)
    expected = watched.run(batch)
    main.checkpoint(_BASE)
    watched.begin(base)
    watched.run(batch)
    watched.run(others)
    began = perf_counter()
    while main.reach(_BASE + 1) > _BASE or main.length < main.drops_from:  # the window holds the base still
        due = _SECONDS * min(1.0, main.length / max(1, main.drops_from))
        step = _FIRST if main.length < 2 * _FIRST else main.chunk
        until = min(main.length + min(step, main.drops_from or _BATCH), main.capacity)
        if until == main.length:
            return False
        if perf_counter() - began > due:
            if not isinstance(main, RestoresEarly):
                return False
            main.put_back(_BASE)
            break
        main.extend(text[main.length : until], picks=0)
    main.rewind(_BASE)
    return deviation(expected, watched.run(batch)) <= unsteady


class _Batches:
    """Runs of a text in three parts: a base, and two batches behind it."""

    def __init__(self, main: LoadedModel) -> None:
        self._main = main
        self.text = known_tokens(main, _BASE + 2 * _BATCH)
        self._watched = Watched(main)

    def first(self, rejected: Sequence[int] = ()) -> list[Logits]:
        """Read the base, and return the rows of the first batch. A rewind ends the call, as in a round.

        `rejected` run in the same call, and the rewind takes them back.
        """
        self._watched.begin(self.text[:_BASE])
        rows = self._watched.run([*self.text[_BASE:-_BATCH], *rejected])[:_BATCH]
        self._main.rewind(_BASE + _BATCH)
        return rows

    def reject(self, count: int) -> None:
        """Run other tokens behind the first batch, and take them back."""
        self._watched.run(_others(self.text, count))
        self._main.rewind(_BASE + _BATCH)

    def second(self) -> list[Logits]:
        """Return the rows of the second batch, which runs behind the first one."""
        return self._watched.run(self.text[-_BATCH:])

    def together(self) -> list[Logits]:
        """Return the rows of the second batch, which runs in one call with the first one."""
        self._watched.begin(self.text[:_BASE])
        return self._watched.run(self.text[_BASE:])[_BATCH:]


def _restores(main: LoadedModel) -> bool:
    """Return whether the rows behind a rewind are those of a cache that was never cut."""
    batches = _Batches(main)
    batches.first()
    expected = batches.second()
    alone = batches.first()
    for count in _REJECTED:
        batches.reject(count)
    after = deviation(expected, batches.second())
    beside, rows = batches.first(_others(batches.text, 3)), batches.second()
    batches.first(_others(batches.text[:-1], 3))
    apart, moved = deviation(rows, batches.second()), deviation(expected, rows)
    if not (after or apart or moved):
        return True  # the same bits need no tolerance, which takes time to measure
    batches.first()
    unsteady = _UNSTEADY * deviation(expected, batches.second())
    if main.rewinds != "anywhere":  # it may run lost tokens again in front of the next ones: another shape
        unsteady = min(_LOST, max(unsteady, _UNSTEADY * deviation(expected, batches.together())))
    carried = _LOST
    if main.rewinds == "anywhere":  # where the first batch has the same bits, the second one must have them
        carried = min(_LOST, _CARRIED * deviation(alone, beside))
    return max(after, apart) <= unsteady and moved <= max(carried, unsteady)


def _reaches_back(main: LoadedModel) -> bool:
    """Whether a cut far back, where a window has dropped its first cells, gives what a fresh cache gives.

    The model may have kept what it needs, or run it again in front of the next tokens: either shape is right.
    Where reading so far would take long, no such cut is tried.
    """
    size = main.drops_from + _NEEDED  # once all cells are taken, the next call takes those of the base
    if not main.drops_from or main.capacity < size:
        return True
    text, watched = known_tokens(main, size), Watched(main)
    base, batch = text[:_BASE], text[_BASE : _BASE + _BATCH]
    watched.begin(())
    again = watched.run([*base, *batch], rows=_BATCH)
    unsteady = _UNSTEADY * _distance_of_two(watched, base, batch)
    watched.begin(base)
    kept = watched.run(batch)
    began = perf_counter()
    while main.length < size:
        step = _FIRST if main.length < _FIRST else main.chunk
        main.extend(text[main.length : min(main.length + step, size)], picks=0)
        if perf_counter() - began > _SECONDS * main.length / size:
            return True
    main.rewind(_BASE)
    found = watched.run(batch)
    return min(deviation(kept, found), deviation(again, found)) <= unsteady


def _distance_of_two(watched: Watched, base: Sequence[int], batch: Sequence[int]) -> float:
    """How far two runs that should be equal lie apart."""
    watched.begin(base)
    rows = watched.run(batch)
    watched.begin(base)
    return deviation(rows, watched.run(batch))


def _others(text: Sequence[int], count: int) -> list[int]:
    """`count` tokens that do not follow the text: its own, backwards."""
    return list(reversed(text))[:count]
