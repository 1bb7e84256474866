"""Measures the rounding: the difference between rows computed together and rows computed one by one.

Kernels for several rows add their numbers in another order than kernels for one row, and some quantize the
factors in another way. If two choices are closer than that rounding, a draft can change the choice. Some
numbers of rows give exactly the bits of single rows. This depends on library, processor, threads and file, so
it is measured here and never listed.

Kernels see the cache in steps of `STEP` cells, and a longer cache may get another kernel. (From the second
step on, llama.cpp divides a single row's attention among the threads.) So there are two views: a cache within
the first step, and one within the second.

In exact mode, no round verifies more rows than have the bits of single rows. Sometimes a single row differs
from all others, while two, three, ... rows agree with each other. Then a single row runs beside a copy of
itself, which is discarded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from time import perf_counter

from ..backends import GivenUp, LoadedModel, ModelError
from ..speculation.chances import LONGEST
from ..speculation.sampling import Logits
from .deviation import Watched, deviation, known_tokens

STEP = 256
"""Cells. Kernels see the cache in steps of this size."""
SHORT, LONG = 16, STEP + 8
"""Tokens in the cache before the rows of each view: one in the first step, one in the second."""
MOST_ROWS = LONGEST + 1
"""Most rows in a round: the longest draft, and the token before it."""
_TELLING = (2, 3, 4, 8, 16)
"""Numbers of rows to try if only the size of the rounding is asked for."""
_SINGLES = 8
"""Single rows to compare with, if only the size of the rounding is asked for."""
_SECONDS = 2.0
"""Seconds for the rows, if only the size of the rounding is asked for. A slow model runs fewer rows."""
_SLICE = 32
"""Tokens that are read in one call, so that the load can be canceled after each."""
EXPLICABLE = 0.3
"""Largest value that rounding can explain: root mean square, in standard deviations of a row. The files
tried, from F16 to Q2_K, have 0.0006 to 0.075. MLX folders in 16 bits differ from 32 bits by 0.004 to 0.09, as
kernels of a GPU may. A wrong token in the cache gives 0.17 to 2.2. A kernel that moves every score by a third
of their spread computes something else."""


Going = Callable[[float], bool]
"""Receives the progress from 0 to 1. Returns False to cancel."""


@dataclass(frozen=True)
class View:
    """The rounding at one length of the cache. Each mapping goes from a number of rows to a deviation (see
    `rows`)."""

    alone: dict[int, float] = field(default_factory=dict)
    """Deviations from single rows."""
    paired: dict[int, float] = field(default_factory=dict)
    """Deviations from rows that run two by two."""

    @property
    def largest(self) -> float:
        return max(self.alone.values(), default=0.0)


@dataclass(frozen=True)
class Exactness:
    """The limits of exact mode."""

    rows: int
    """Most rows in a round; 1 means no drafts."""
    doubled_from: int | None
    """Number of tokens in the cache from which a single row runs beside a copy; None for never."""


def measure_rounding(main: LoadedModel, going: Going = lambda fraction: True) -> View:
    """Return the rounding after a short text. Takes as long as about 20 tokens, but hardly longer than
    `_SECONDS`; empties the cache."""
    counts = [rows for rows in _TELLING if SHORT + rows < main.capacity]
    return _measure(main, SHORT, counts, _SINGLES, going, pairs=False)


def measure_long(main: LoadedModel, going: Going) -> View:
    """Return the rounding in the second step of the cache. Raises `GivenUp`; empties the cache."""
    return _measure(main, LONG, _TELLING, _SINGLES, going, pairs=False)


def measure_views(main: LoadedModel, going: Going = lambda fraction: True) -> tuple[View, View]:
    """Return both views, up to the first number of rows that agrees with nothing. Leaves the cache empty.

    Reads about 300 tokens and runs up to 400 rows. Raises `ModelError` if the context is too short for that,
    and `GivenUp`.
    """
    if main.capacity < LONG + MOST_ROWS + 2:
        raise ModelError(f"exact needs a context of {LONG + MOST_ROWS + 2} tokens", "Load with a longer one.")
    counts = range(2, MOST_ROWS + 1)
    short = _measure(main, SHORT, counts, MOST_ROWS, lambda part: going(part / 2), pairs=True)
    long = _measure(main, LONG, counts, MOST_ROWS, lambda part: going((1 + part) / 2), pairs=True)
    return short, long


def exactness(short: View, long: View) -> Exactness:
    """Return the most rows with the fewest copies: copies never, only in a long context, or always."""
    ways = (
        (None, short.alone, long.alone),
        (STEP, short.alone, long.paired),
        (0, short.paired, long.paired),
    )
    for doubled_from, *views in ways:
        rows = min(_same_up_to(view) for view in views)
        if rows > 1:
            return Exactness(rows, doubled_from)
    return Exactness(1, None)


def _same_up_to(deviations: dict[int, float]) -> int:
    """Return the largest number of rows up to which every number gives the same bits."""
    rows = 1
    while deviations.get(rows + 1, 1.0) == 0.0:
        rows += 1
    return rows


def _measure(
    main: LoadedModel, base: int, counts: Sequence[int], singles: int, going: Going, *, pairs: bool
) -> View:
    text = known_tokens(main, base + MOST_ROWS + 1)
    watched, view = Watched(main), View()
    try:
        watched.begin(())
        began = perf_counter()
        for at in range(0, base, _SLICE):
            if not going(0.0):
                raise GivenUp("the load was given up")
            main.extend(text[at : min(at + _SLICE, base)], picks=0)
        if not pairs:
            counts = _affordable(counts, (perf_counter() - began) / base)
            singles = min(singles, counts[-1])
        alone = _by(watched, text[base : base + singles], 1)
        main.rewind(base)
        paired = _by(watched, text[base:], 2) if pairs else []
        began = called = perf_counter()
        for done, rows in enumerate(counts):
            row = (perf_counter() - called) / counts[done - 1] if done and not pairs else 0.0
            called = perf_counter()
            if row and called - began + rows * row > _SECONDS:
                break  # rows with their scores may take longer than tokens that are only read
            if not going(done / len(counts)):
                raise GivenUp("the load was given up")
            main.rewind(base)
            found = watched.run(text[base : base + rows])
            view.alone[rows] = deviation(alone, found)
            if pairs:
                found += watched.run(text[base + rows : base + rows + 1] * 2)[:1] if rows < MOST_ROWS else []
                view.paired[rows] = deviation(paired, found)
                if view.alone[rows] and view.paired[rows]:
                    break
    finally:
        main.rewind(0)
    return view


def _affordable(counts: Sequence[int], row: float) -> Sequence[int]:
    """Return the first of `counts` whose rows take at most `_SECONDS`, by the seconds of a row, but one at
    least."""
    sums = list(accumulate(counts))
    return [rows for rows, whole in zip(counts, sums, strict=True) if whole * row <= _SECONDS] or counts[:1]


def _by(watched: Watched, tokens: Sequence[int], size: int) -> list[Logits]:
    """Return the rows of `tokens`, run `size` at a time."""
    return [row for at in range(0, len(tokens), size) for row in watched.run(tokens[at : at + size])]
