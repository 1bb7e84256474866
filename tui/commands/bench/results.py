"""Computes speeds, speed-ups and acceptance from measured answers. It asks no engine and prints nothing.

The speed of an answer is its tokens divided by the seconds from the start of its first round to its end. So
it does not include prefill; the time to first token is a separate figure. A prompt is answered several times
each way, plain and drafted. Medians are compared, and speed-ups are averaged geometrically.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from math import exp, log
from statistics import median

from ...chat.trace import Tries, acceptance
from ...client.parting import first_difference
from ...protocol import Loaded, Rounding, Statistics
from .plan import BenchPlan, Prompt

ALL = "all"
"""Stands for all categories together."""


@dataclass(frozen=True)
class BenchRun:
    """One answer to one prompt."""

    prompt: Prompt
    temperature: float
    drafted: bool
    """False for plain decoding."""
    tokens: tuple[int, ...]
    statistics: Statistics
    rounds: tuple[tuple[int, int], ...]
    """(drafted, accepted) of each round."""
    not_drafting: str = ""
    """The reason why nothing was drafted; empty if something was, or nothing should be."""


@dataclass(frozen=True)
class Timing:
    """The runs of one prompt in one way, plain or drafted. None means unknown."""

    runs: int
    tokens_per_second: float | None
    """Median over the runs."""
    spread: float | None
    """(largest - smallest) / median of the tokens per second; None for a single run."""
    time_to_first_token: float | None
    """Median in seconds. The whole prompt is read anew each time."""


@dataclass(frozen=True)
class Result:
    """One prompt at one temperature: plain beside drafted."""

    prompt: Prompt
    temperature: float
    plain: Timing
    drafted: Timing
    acceptance_rate: float | None
    """Accepted divided by drafted tokens; None if nothing was drafted."""
    tokens_per_round: float | None
    draft_length: float | None
    """Mean number of drafted tokens in a round, including rounds without any."""
    positions: tuple[Tries, ...]
    """The positions of the drafts that were reached, the first one first."""
    differs_at: int | None
    """Index of the first token in which two runs differ; None if all runs have the same text."""
    parting: str = ""
    """The reason for that difference, if it was asked for."""
    not_drafting: str = ""
    """The reason why nothing was drafted in any run; empty if something was."""

    @property
    def ratio(self) -> float | None:
        """Speed of drafting divided by the speed of plain decoding."""
        plain, drafted = self.plain.tokens_per_second, self.drafted.tokens_per_second
        return drafted / plain if plain and drafted else None


@dataclass(frozen=True)
class Series:
    """All results of one main model with one draft."""

    loaded: Loaded
    results: tuple[Result, ...]
    peak_memory: int | None
    """Most bytes used by the engine's process."""
    rounding: Rounding | None = None
    """The last known rounding."""


def series_of(
    loaded: Loaded, runs: Sequence[BenchRun], partings: Mapping[tuple[Prompt, float], str] | None = None
) -> Series:
    """Return the results in the order of measurement. A case without a run each way gives no result.

    `partings` has the reasons why the texts of a case differ.
    """
    cases: dict[tuple[Prompt, float], list[BenchRun]] = {}
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


def result_of(runs: Sequence[BenchRun]) -> Result:
    """Return the result of one prompt at one temperature. Each way must have a run."""
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
        positions=tuple(
            each for each in acceptance(pair for run in drafted for pair in run.rounds) if each.reached
        ),
        differs_at=first_difference([run.tokens for run in (*plain, *drafted)]),
        not_drafting="" if proposed else next((run.not_drafting for run in drafted if run.not_drafting), ""),
    )


def timing(runs: Sequence[BenchRun]) -> Timing:
    """Return the median speed of `runs`, its spread, and the median time to the first token."""
    speeds = [speed for run in runs if (speed := run.statistics.tokens_per_second)]
    waits = [wait for run in runs if (wait := run.statistics.time_to_first_token) is not None]
    middle = median(speeds) if speeds else None
    return Timing(
        runs=len(runs),
        tokens_per_second=middle,
        spread=(max(speeds) - min(speeds)) / middle if middle and len(speeds) > 1 else None,
        time_to_first_token=median(waits) if waits else None,
    )


def joined(results: Iterable[Result]) -> tuple[Tries, ...]:
    """Return the positions of several results together."""
    columns = zip_longest(*(result.positions for result in results), fillvalue=Tries(0, 0))
    return tuple(Tries(*map(sum, zip(*column, strict=True))) for column in columns)


def geometric_mean(values: Iterable[float | None]) -> float | None:
    """Return the geometric mean of the known `values`; None if there are none."""
    logs = [log(value) for value in values if value]
    return exp(sum(logs) / len(logs)) if logs else None


def mean_ratios(results: Sequence[Result]) -> Mapping[float, Mapping[str, float | None]]:
    """Return the mean speed-up by temperature and category. `ALL` is all categories together."""
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
    """A whole benchmark, or the results until it was broken off."""

    date: str
    """Date, ISO 8601 in UTC."""
    version: str
    plan: BenchPlan
    series: tuple[Series, ...]
    """One series for each draft. There is at least one, and each has results."""
    complete: bool
