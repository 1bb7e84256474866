"""Decides at load whether anything may draft for a main model, and how exact its drafts are. The result is
kept on disk.

There are two separate questions. Does a rewind restore the cache after rejected tokens (`cache_check`)? This
decides. How much do several rows differ from single ones (`rounding`)? This is recorded, and exact mode rests
on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from msgspec import to_builtins

from ...paths import find_costs
from ...protocol import Load, Obstacle, Rounding
from ..backends import Backend, Doubling, LoadedModel, ModelError
from ..eligibility import NO_TWO_ROWS, UNCUT, broken_trial, far_rounding
from ..machine.stored_facts import StoredFact
from ..speculation.sampling import InvalidLogits
from .cache_check import trial, trial_of_checkpoints
from .rounding import (  # fmt: skip
    EXPLICABLE,
    LONG,
    MOST_ROWS,
    Exactness,
    Going,
    exactness,
    measure_long,
    measure_rounding,
    measure_views,
)
from .stages import Stages

CHECKING = "Checking that drafting keeps the text"
EXACT = "Measuring which rows are exact"

_LAST = "rounding, as it was last seen"

_TOKENS, _TOKENS_OF_VIEWS = 150, 700
"""Tokens that a model runs in the two stages, at most about. A window takes some more."""


@dataclass(frozen=True)
class Judged:
    """The result of both questions."""

    obstacle: Obstacle | None = None
    """The reason why nothing may draft; None if all is well."""
    rounding: Rounding | None = None
    later: Callable[[Going], Rounding] | None = None
    """Measures the facts that a load need not wait for, in an empty cache that it leaves empty. Raises
    `GivenUp`."""
    checkpoints: bool = False
    """Whether checkpoints of its cache can be trusted."""


def judge(command: Load, backend: Backend, main: LoadedModel, stages: Stages) -> Judged:
    """Ask both questions of a loaded model, and set it up for exact mode if that is wanted. Empties its
    cache."""
    rest = [backend.name, backend.version, backend.device(), command.cache_type, str(command.gpu_layers)]
    known = StoredFact(find_costs(), [main.facts.path], ["rounding", *rest])
    value = known.read()
    kept = value if isinstance(value, dict) else {}
    try:
        deviation, checkpoints = kept.get("deviation"), kept.get("checkpoints")
        if not isinstance(deviation, float) or not isinstance(checkpoints, bool):
            with stages.running(CHECKING, _TOKENS + main.drops_from, main):
                if obstacle := trial(main):
                    return Judged(obstacle)
                deviation = measure_rounding(main).largest
                if deviation > EXPLICABLE:
                    return Judged(far_rounding(deviation), Rounding(deviation))
                checkpoints = trial_of_checkpoints(main)
            kept = {"deviation": deviation, "checkpoints": checkpoints}
            known.write(kept)
        if not command.exact:
            return replace(_fast(main, known, kept, deviation), checkpoints=checkpoints)
        found = _recalled(kept.get("exact"))
        if found is None:
            with stages.running(EXACT, _TOKENS_OF_VIEWS, main):
                found = exactness(*measure_views(main))
            known.write({**kept, "exact": asdict(found)})
        return replace(_exact(main, found, deviation), checkpoints=checkpoints)
    except (ModelError, InvalidLogits) as error:
        return Judged(broken_trial(error))


def _fast(main: LoadedModel, known: StoredFact, kept: dict[str, object], deviation: float) -> Judged:
    """Return the rounding of a short cache, and a function that measures that of a longer one."""
    if isinstance(long := kept.get("long"), float):
        return Judged(None, Rounding(max(deviation, long)))

    def later(going: Going) -> Rounding:
        long = measure_long(main, going).largest
        known.write({**kept, "long": long})
        return Rounding(max(deviation, long))

    return Judged(None, Rounding(deviation), later if main.capacity > LONG + MOST_ROWS else None)


def _recalled(value: object) -> Exactness | None:
    match value:
        case {"rows": int(rows), "doubled_from": int() | None as doubled_from} if rows > 0:
            return Exactness(rows, doubled_from)
    return None


def _exact(main: LoadedModel, found: Exactness, deviation: float) -> Judged:
    """Have `main` run its single rows as `found` says. Returns the limits of its drafts then."""
    if main.rewinds != "anywhere":
        return Judged(UNCUT, Rounding(deviation, True))
    if found.doubled_from is not None:
        if not isinstance(main, Doubling):
            return Judged(NO_TWO_ROWS, Rounding(deviation, True))
        main.double_single_rows(found.doubled_from)
    if found.rows == 1:
        return Judged(NO_TWO_ROWS, Rounding(deviation, True))
    return Judged(None, Rounding(deviation, True, found.rows))


def keep_last(path: str, rounding: Rounding) -> None:
    """Remember the rounding of the model at `path`, for callers that do not load it."""
    StoredFact(find_costs(), [path], [_LAST]).write(to_builtins(rounding))


def last_known(path: str) -> Rounding | None:
    """Return the rounding of the model at `path` when it was loaded last; None if it is unknown."""
    match StoredFact(find_costs(), [path], [_LAST]).read():
        case {"deviation": float(deviation), "exact": bool(exact), "rows": int(rows)}:
            return Rounding(deviation, exact, rows)
    return None
