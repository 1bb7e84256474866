"""What drafting brought on this machine, pair by pair: the speed-ups of whole answers.

A file for each pair holds the last of them. Two engines may write: one answer may then be lost, and nothing
else. It decides nothing.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from math import exp, log
from pathlib import Path

from ... import files
from ...protocol import Finished

KEPT = 64
"""Answers that a mean is taken over, the latest."""
SHORTEST = 32
"""Tokens of an answer whose speed-up says something."""
COMPLETE = ("stop", "length")
"""How an answer ended that was neither stopped nor cut."""
LOOKUP = "lookup"
"""Stands for a draft where n-gram lookup alone proposed."""
_LOW, _HIGH = 0.05, 50.0


@dataclass(frozen=True)
class Measured:
    speed_up: float
    """Geometric mean of what `Statistics.speed_up` was."""
    answers: int


class Records:
    """The memory of one machine."""

    def __init__(self, folder: Path) -> None:
        """`folder` need not exist."""
        self._folder = folder

    def keep(self, main: str, draft: str, finished: Finished) -> None:
        """Remember an answer that is complete, long enough and had drafts; a full disk is no failure.

        `main` is a path, `draft` a path or `LOOKUP`.
        """
        done, ratio = finished.statistics, finished.statistics.speed_up
        if finished.reason not in COMPLETE or done.tokens < SHORTEST:
            return
        if ratio is None or not _LOW < ratio < _HIGH:
            return
        path = self._path(main, draft)
        ratios = [*_read(path), round(ratio, 4)][-KEPT:]
        with suppress(OSError):
            files.replace(path, json.dumps(ratios))

    def measured(self, main: str, draft: str) -> Measured | None:
        """What `draft` brought for `main` so far; None if nothing is known."""
        ratios = _read(self._path(main, draft))
        return Measured(exp(sum(map(log, ratios)) / len(ratios)), len(ratios)) if ratios else None

    def _path(self, main: str, draft: str) -> Path:
        key = "\n".join(f"{name} {_size(name)}" for name in (main, draft))
        return self._folder / f"{sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.json"


def _read(path: Path) -> list[float]:
    """The ratios of a file; none if it is not what was written."""
    try:
        data = json.loads(path.read_bytes()[:10_000])
    except (OSError, ValueError, RecursionError):
        return []
    sound = isinstance(data, list) and all(isinstance(each, float) and _LOW < each < _HIGH for each in data)
    return data[-KEPT:] if sound else []


def _size(name: str) -> int:
    """Of a file: another model may come to lie at the same path."""
    with suppress(OSError, ValueError):
        return Path(name).stat().st_size
    return 0
