"""A trial of a main model: is its cache after rejected tokens the same as before them?

Speculative decoding depends on it. If a rewind leaves something behind, or removes too much, the text would
change with the draft. The trial compares runs of the same shape: the same calls, of the same sizes, once with
rejected tokens and a rewind in between, once without. Both must give the same bits, so the rounding of a
kernel can neither hide a fault nor look like one. (The difference between several rows and single ones is
another question: `rounding`.) Some devices never give the same bits twice. That difference is measured first,
and a rewind is compared with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from ...protocol import Obstacle
from ..backends import LoadedModel, ModelError
from ..eligibility import NOT_RESTORED, broken_trial, short_context
from ..speculation.sampling import InvalidLogits, Logits
from .deviation import Watched, deviation, known_tokens
from .reading import loses

_BASE = 6
"""Tokens before the first batch: few, so that a single wrong token in the cache weighs much."""
_BATCH = 4
_REJECTED = (1, 3, 7)
"""Numbers of rejected tokens, one after the other."""
_NEEDED = _BASE + 2 * _BATCH + max(_REJECTED)
_UNSTEADY = 4.0
"""Largest difference after a rewind, in multiples of the difference of two sound runs, where equal bits are
impossible."""
_LOST = 0.15
"""Root mean square, in standard deviations. A larger difference between two runs of different shapes means
that a token is missing. Real kernels stay below 0.08. In a cache of ten, one token too many makes at least
0.14, and the loss of the last one 0.4. But one lost further back can make as little as 0.03, which only the
bits show."""
_CARRIED = 8.0
"""Largest movement of the next rows, in multiples of the rounding of the rows before: real models showed
two."""

_SECONDS = 10.0
"""Longest time to read beyond a window."""


def trial(main: LoadedModel) -> Obstacle | None:
    """Return why nothing may draft for `main`; None if all is well. Leaves the cache empty.

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
    """Return whether the checkpoints of `main` can be trusted. Leaves the cache empty.

    A batch runs after some tokens. Then these are read again, with a checkpoint after them. Other tokens
    follow until no cut reaches back, and the checkpoint is restored. The same batch must now have the same
    bits. If reading so many tokens takes long, the answer is no: without checkpoints a text is read again,
    which is slow but right.
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
    while main.reach(_BASE + 1) > _BASE or main.length < main.drops_from:  # the window still holds the base
        due = _SECONDS * min(1.0, main.length / max(1, main.drops_from))
        until = min(main.length + min(main.chunk, main.drops_from or _BATCH), main.capacity)
        if until == main.length or perf_counter() - began > due:
            return False
        main.extend(text[main.length : until], picks=0)
    main.rewind(_BASE)
    return deviation(expected, watched.run(batch)) <= unsteady


def _restores(main: LoadedModel) -> bool:
    """Return whether rows after a rewind are those of a cache that was never cut."""
    text = known_tokens(main, _BASE + 2 * _BATCH)
    base, first, second = text[:_BASE], text[_BASE:-_BATCH], text[-_BATCH:]
    watched = Watched(main)

    def begin() -> list[Logits]:
        """Read the base, and run the first batch as a round does, with a rewind that removes nothing."""
        watched.begin(base)
        rows = watched.run(first)
        main.rewind(_BASE + _BATCH)
        return rows

    def uncut() -> list[Logits]:
        begin()
        return watched.run(second)

    expected = uncut()
    unsteady = _UNSTEADY * deviation(expected, uncut())
    if main.rewinds != "anywhere":  # it may run lost tokens again before the next ones: another shape
        watched.begin(base)
        together = watched.run([*first, *second])[_BATCH:]
        unsteady = min(_LOST, max(unsteady, _UNSTEADY * deviation(expected, together)))

    alone = begin()
    for count in _REJECTED:
        watched.run(_others(text, count))
        main.rewind(_BASE + _BATCH)
    if deviation(expected, watched.run(second)) > unsteady:
        return False

    def cut_within(rejected: Sequence[int]) -> tuple[list[Logits], list[Logits]]:
        """Return the rows of both batches. `rejected` ran together with the first, and was removed before the
        second."""
        watched.begin(base)
        beside = watched.run([*first, *rejected])[:_BATCH]
        main.rewind(_BASE + _BATCH)
        return beside, watched.run(second)

    beside, rows = cut_within(_others(text, 3))
    _, other = cut_within(_others(text[:-1], 3))
    carried = _LOST
    if main.rewinds == "anywhere":  # where the first batch has the same bits, the second one must have them
        carried = min(_LOST, _CARRIED * deviation(alone, beside))
    return deviation(rows, other) <= unsteady and deviation(expected, rows) <= max(carried, unsteady)


def _reaches_back(main: LoadedModel) -> bool:
    """Return whether a cut far back, where a window has dropped its first cells, equals a fresh cache.

    The model may have kept the needed cells, or run them again before the next tokens: either shape is right.
    If reading so many tokens would take long, the trial is left out.
    """
    size = main.drops_from + _NEEDED  # once all cells are used, the next call overwrites those of the base
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
        main.extend(text[main.length : min(main.length + main.chunk, size)], picks=0)
        if perf_counter() - began > _SECONDS * main.length / size:
            return True
    main.rewind(_BASE)
    found = watched.run(batch)
    return min(deviation(kept, found), deviation(again, found)) <= unsteady


def _distance_of_two(watched: Watched, base: Sequence[int], batch: Sequence[int]) -> float:
    """Return the difference of two runs that should be equal."""
    watched.begin(base)
    rows = watched.run(batch)
    watched.begin(base)
    return deviation(rows, watched.run(batch))


def _others(text: Sequence[int], count: int) -> list[int]:
    """Return `count` tokens that do not continue the text: its own, backwards."""
    return list(reversed(text))[:count]
