"""What a pair costs on this machine: measured when it is loaded, remembered on disk.

The pace decides by these figures and keeps them true; here they are only taken, kept and found again. A file
that is damaged, or that was written for other models, other hardware or another version, is as good as none.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from time import perf_counter

from .backends import LoadedModel, ModelError
from .speculation.estimates import Costs
from .speculation.pacing import Auto
from .speculation.sampling import Chain, InvalidLogits, Sampler

SECONDS = 1.2
"""How long measuring may take, two calls of the main model apart."""
_ROWS = (1, 4, 8, 2, 16, 3, 6, 12, 9, 5)
"""Numbers of rows to verify, the telling ones first."""
_READ = 64
_TIMES = 3
_LONG = 0.2
"""A call of so many seconds needs no other before it to warm up."""
_END = 64 * 1024
_DRIFT = 1.5
"""A remembered speed that is off by more than this factor is of another time: measure again."""


def measure(
    main: LoadedModel,
    draft: LoadedModel | None,
    plain: float | None,
    clock: Callable[[], float] = perf_counter,
) -> Costs:
    """Time both models with empty caches, and leave them so. `plain`: seconds of one token of the main model.

    Raises `ModelError`, `InvalidLogits` or `ValueError` where the models give no sensible figures.
    """
    until = clock() + SECONDS
    verify = {} if plain is None else {1: plain}
    for place, rows in enumerate(_ROWS):
        if rows not in verify and rows < main.capacity and (place < 2 or clock() < until):
            verify[rows] = _fastest(main, rows, rows, until, clock)
    if min(verify.values()) < verify[1]:  # one row is never dearer than several: the machine was busy before
        verify[1] = min(verify[1], _fastest(main, 1, 1, clock() + SECONDS / 4, clock))
    if draft is None:
        return Costs(verify, draft=verify[1], read=verify[1])
    one = _fastest(draft, 1, 1, until, clock)
    size = min(_READ, draft.capacity - 1)
    many = _fastest(draft, size, 1, until, clock)
    return Costs(verify, draft=one, read=max((many - one) / (size - 1), one / _READ))


def _fastest(model: LoadedModel, tokens: int, picks: int, until: float, clock: Callable[[], float]) -> float:
    """Seconds of one call over so many tokens: the least of some, after one to warm up, or of a long one."""
    text = first_tokens(model) * tokens
    taken: list[float] = []
    try:
        for turn in count():
            model.rewind(0)
            model.start(Sampler(Chain(), seed=0, start=1))
            began = clock()
            model.extend(text, picks)
            seconds = clock() - began
            if turn or seconds > _LONG:
                taken.append(seconds)
            if len(taken) == _TIMES or (taken and clock() > until):
                return min(taken)
    finally:
        model.rewind(0)
    raise AssertionError  # count() has no end


def first_tokens(model: LoadedModel) -> list[int]:
    """One token that a text may begin with."""
    return (model.vocabulary.encode_start() or model.vocabulary.encode("A") or [0])[:1]


class Memory:
    """What was learned of one pair, in one small file of a folder."""

    def __init__(self, folder: Path, models: Sequence[LoadedModel], rest: Sequence[str]) -> None:
        """`rest` is what else the figures depend on: backend, device, version."""
        marks = [_fingerprint(Path(model.path)) for model in models]
        key = hashlib.sha256("\n".join([*marks, *rest]).encode()).hexdigest()
        self._path = folder / f"{key[:32]}.json"

    def recall(self, plain: float | None) -> Auto | None:
        """The pace as it was left, if `plain` (seconds a token, now) shows that its costs still hold."""
        try:
            pace = Auto.from_dict(json.loads(self._path.read_bytes()))
        except (OSError, ValueError):
            return None
        if plain is None:
            return pace
        if not 1 / _DRIFT < plain / pace.costs.verify[0] < _DRIFT:
            return None
        pace.costs.verify[0] = plain
        return Auto(pace.costs, pace.acceptance, pace.draft, pace.lookup)

    def keep(self, pace: Auto) -> None:
        """Write it down; a full or read-only disk is no failure."""
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new = self._path.with_suffix(f".{os.getpid()}")
            new.write_text(json.dumps(pace.as_dict()), encoding="utf-8")
            new.replace(self._path)


def fresh_pace(main: LoadedModel, draft: LoadedModel | None, plain: float | None) -> Auto | None:
    """The pace for a pair of which nothing is known yet; None if the models give no sensible figures."""
    try:
        return Auto(measure(main, draft, plain))
    except (ModelError, InvalidLogits, ValueError):
        return None


def _fingerprint(path: Path) -> str:
    """Size and both ends of a file, as all of it takes too long to read; of a folder, those of its files."""
    if path.is_dir():
        return "\n".join(
            f"{each.name} {_fingerprint(each)}" for each in sorted(path.iterdir()) if each.is_file()
        )
    with suppress(OSError), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        digest = hashlib.sha256(str(size).encode())
        for place in (0, max(0, size - _END)):
            file.seek(place)
            digest.update(file.read(_END))
        return digest.hexdigest()
    return str(path)
