"""Measured answers -> speeds, ratios and acceptance. Pure arithmetic: it asks no engine and prints nothing.

The speed of an answer is its tokens divided by the seconds from the start of its first round to its end, so
prompt processing is not in it; the time to the first token is a figure of its own. A prompt is answered
several times each way, plain and drafted; medians are compared, and ratios are averaged geometrically.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from statistics import median
from typing import NamedTuple

from ...protocol import Loaded, Rounding, Statistics
from .plan import Plan
from .prompts import Prompt

ALL = "all"
"""Stands for all categories together."""


@dataclass(frozen=True)
class Run:
    """One answer to one prompt."""

    prompt: Prompt
    temperature: float
    drafted: bool
    """False for plain decoding."""
    tokens: tuple[int, ...]
    statistics: Statistics
    rounds: tuple[tuple[int, int], ...]
    """(drafted, accepted) of each round."""


class Position(NamedTuple):
    """A place in a draft, over many rounds."""

    reached: int
    """Rounds in which all drafted tokens before it were accepted, so that it was decided on."""
    accepted: int


@dataclass(frozen=True)
class Timing:
    """The runs of one prompt in one way, plain or drafted. None is not known."""

    runs: int
    tokens_per_second: float | None
    """The median."""
    spread: float | None
    """(largest - smallest) / median of the tokens per second; None of a single run."""
    time_to_first_token: float | None
    """The median, in seconds; the whole prompt is read anew each time."""


@dataclass(frozen=True)
class Result:
    """One prompt at one temperature: what drafting changed."""

    prompt: Prompt
    temperature: float
    plain: Timing
    drafted: Timing
    acceptance_rate: float | None
    """None if nothing was drafted."""
    tokens_per_round: float | None
    draft_length: float | None
    """Mean number of proposed tokens in a round; rounds without any count, too."""
    positions: tuple[Position, ...]
    differs_at: int | None
    """The first token in which two of its runs differ, from 0; None if all have the same text."""
    parting: str = ""
    """Why, as far as that was asked."""

    @property
    def ratio(self) -> float | None:
        """How many times as fast drafting is."""
        plain, drafted = self.plain.tokens_per_second, self.drafted.tokens_per_second
        return drafted / plain if plain and drafted else None


@dataclass(frozen=True)
class Series:
    """All results of one main model with one draft."""

    loaded: Loaded
    results: tuple[Result, ...]
    peak_memory: int | None
    """Bytes, of the engine's process."""
    rounding: Rounding | None = None
    """As it was known at the end."""


def series_of(
    loaded: Loaded, runs: Sequence[Run], partings: Mapping[tuple[Prompt, float], str] | None = None
) -> Series:
    """The results in the order in which they were measured; without a run each way there is none.

    `partings` says why the texts of a case differ.
    """
    cases: dict[tuple[Prompt, float], list[Run]] = {}
    for run in runs:
        cases.setdefault((run.prompt, run.temperature), []).append(run)
    complete = (case for case in cases.values() if {run.drafted for run in case} == {False, True})
    peaks = [peak for run in runs if (peak := run.statistics.peak_memory) is not None]
    why = partings or {}
    results = (
        replace(result_of(case), parting=why.get((case[0].prompt, case[0].temperature), ""))
        for case in complete
    )
    known = runs[-1].statistics.rounding if runs else None
    return Series(loaded, tuple(results), max(peaks, default=None), known or loaded.rounding)


def result_of(runs: Sequence[Run]) -> Result:
    """What the runs of one prompt at one temperature say together; each way must have one."""
    plain = [run for run in runs if not run.drafted]
    drafted = [run for run in runs if run.drafted]
    costs = [run.statistics for run in drafted]
    proposed, rounds = sum(cost.drafted for cost in costs), sum(cost.rounds for cost in costs)
    return Result(
        prompt=runs[0].prompt,
        temperature=runs[0].temperature,
        plain=timing(plain),
        drafted=timing(drafted),
        acceptance_rate=sum(cost.accepted for cost in costs) / proposed if proposed else None,
        tokens_per_round=sum(cost.tokens for cost in costs) / rounds if rounds else None,
        draft_length=proposed / rounds if rounds else None,
        positions=positions(each for run in drafted for each in run.rounds),
        differs_at=first_difference([run.tokens for run in (*plain, *drafted)]),
    )


def timing(runs: Sequence[Run]) -> Timing:
    """The median speed of `runs`, its spread and the median time to the first token."""
    speeds = [speed for run in runs if (speed := run.statistics.tokens_per_second)]
    waits = [wait for run in runs if (wait := run.statistics.time_to_first_token) is not None]
    middle = median(speeds) if speeds else None
    return Timing(
        runs=len(runs),
        tokens_per_second=middle,
        spread=(max(speeds) - min(speeds)) / middle if middle and len(speeds) > 1 else None,
        time_to_first_token=median(waits) if waits else None,
    )


def positions(rounds: Iterable[tuple[int, int]]) -> tuple[Position, ...]:
    """How each place of a draft fared, from (drafted, accepted) of each round; the first place first.

    A round says nothing of the places behind its first refusal: the estimate of P(accepted | reached) is
    that of Kaplan and Meier for censored data.
    """
    reached: list[int] = []
    kept: list[int] = []
    for drafted, accepted in rounds:
        decided = min(accepted + 1, drafted)
        missing = decided - len(reached)
        reached += [0] * missing
        kept += [0] * missing
        for place in range(decided):
            reached[place] += 1
            kept[place] += place < accepted
    return tuple(map(Position, reached, kept))


def joined(results: Iterable[Result]) -> tuple[Position, ...]:
    """The positions of several results together."""
    total: list[Position] = []
    for result in results:
        total += [Position(0, 0)] * (len(result.positions) - len(total))
        for place, (reached, accepted) in enumerate(result.positions):
            total[place] = Position(total[place].reached + reached, total[place].accepted + accepted)
    return tuple(total)


def first_difference(texts: Sequence[Sequence[int]]) -> int | None:
    """The first index at which two of `texts` differ, be it that one ends there; None if all are equal."""
    for place, tokens in enumerate(zip(*texts, strict=False)):
        if len(set(tokens)) > 1:
            return place
    lengths = set(map(len, texts))
    return min(lengths) if len(lengths) > 1 else None


def geometric_mean(values: Iterable[float | None]) -> float | None:
    """Of those `values` that are known; None if there are none."""
    logs = [log(value) for value in values if value]
    return exp(sum(logs) / len(logs)) if logs else None


def mean_ratios(results: Sequence[Result]) -> Mapping[float, Mapping[str, float | None]]:
    """Temperature -> category -> geometric mean of the ratios; `ALL` is all of a temperature together."""
    means: dict[float, dict[str, float | None]] = {}
    for temperature in dict.fromkeys(result.temperature for result in results):
        here = [result for result in results if result.temperature == temperature]
        categories = dict.fromkeys(result.prompt.category for result in here)
        means[temperature] = {
            name: geometric_mean(result.ratio for result in here if result.prompt.category == name)
            for name in categories
        } | {ALL: geometric_mean(result.ratio for result in here)}
    return means


@dataclass(frozen=True)
class Bench:
    """A whole benchmark, or what was measured of it before it was broken off."""

    date: str
    """ISO 8601, UTC."""
    version: str
    plan: Plan
    series: tuple[Series, ...]
    """One for each draft; not empty, and none of them without results."""
    complete: bool
