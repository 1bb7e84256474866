"""The measured speed-ups of whole answers on this machine, and the cost of a drafted token, for each pair.

One file per pair holds the latest. If two engines write at once, one answer may be lost, and nothing else.
This module decides nothing.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from math import exp, isfinite, log
from pathlib import Path

from ...choices import DraftChoice
from ...protocol import Finished
from ..machine.stored_facts import StoredFact

KEPT = 64
"""Number of latest answers in a mean."""
SHORTEST = 32
"""Tokens of the shortest answer with a meaningful speed-up."""
COMPLETE = ("stop", "length")
"""Reasons for the end of an answer that was neither stopped nor cut."""
_LOW, _HIGH = 0.05, 50.0
"""Smallest and largest speed-up that counts as valid."""


@dataclass(frozen=True)
class Measured:
    speed_up: float
    """Geometric mean of `Statistics.speed_up`."""
    answers: int


class Records:
    """The speed-ups measured on one machine."""

    def __init__(self, folder: Path) -> None:
        """`folder` need not exist."""
        self._folder = folder

    def keep(self, main: str, draft: DraftChoice, finished: Finished) -> None:
        """Keep a complete, long enough answer's speed-up. A full disk is not an error.

        `main` is a path, `draft` a path, `HEAD` or `LOOKUP`.
        """
        done, ratio = finished.statistics, finished.statistics.speed_up
        if finished.reason not in COMPLETE or done.tokens < SHORTEST:
            return
        if ratio is None or not _LOW < ratio < _HIGH:
            return
        file = self._file(main, draft)
        file.write([*_ratios(file), round(ratio, 4)][-KEPT:])

    def measured(self, main: str, draft: DraftChoice) -> Measured | None:
        """Return the mean speed-up of `draft` for `main`; None if there is no answer yet."""
        ratios = _ratios(self._file(main, draft))
        return Measured(exp(sum(map(log, ratios)) / len(ratios)), len(ratios)) if ratios else None

    def keep_cost(self, main: str, draft: DraftChoice, cost: float) -> None:
        """Keep the time of a drafted token, as a share of that of a main model's token."""
        self._file(main, draft, "cost").write(round(cost, 4))

    def cost(self, main: str, draft: DraftChoice) -> float | None:
        """Return the cost of a drafted token that was measured last; None if the pair was never loaded."""
        cost = self._file(main, draft, "cost").read()
        return cost if isinstance(cost, float) and isfinite(cost) and cost > 0 else None

    def _file(self, main: str, draft: str, *kind: str) -> StoredFact:
        return StoredFact(self._folder, (), [*(f"{name} {_size(name)}" for name in (main, draft)), *kind])


def _ratios(file: StoredFact) -> list[float]:
    """Return the speed-ups in a file; none if the file is invalid."""
    data = file.read()
    kept = data[-KEPT:] if isinstance(data, list) else []
    return kept if all(isinstance(each, float) and _LOW < each < _HIGH for each in kept) else []


def _size(name: str) -> int:
    """Return the size of a file, which tells apart models that lay at the same path at different times."""
    with suppress(OSError, ValueError):
        return Path(name).stat().st_size
    return 0
