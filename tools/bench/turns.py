"""What the ways to answer took, turn by turn, in a file that can be added to; and the ratios in it.

A turn is one prompt answered in each way, one after the other, so that all of them had the same minute of
the machine. A ratio is taken within a turn; of the same prompt's turns the median counts, and over
prompts the geometric mean. Each turn is a line of JSON: a run that is broken off has lost nothing, and
goes on where it was. This module measures nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from tui.commands.bench.results import geometric_mean


@dataclass(frozen=True)
class Took:
    """One answer, by its program's own clock."""

    tokens: int
    """Those whose time is in `seconds`."""
    seconds: float
    """Without the prompt."""
    wall: float
    """Seconds from asking to the end, prompt and all, by the clock of who asked."""
    prompt: int
    """Its tokens: the same for every program, if all render the template alike."""
    drafted: int = 0
    accepted: int = 0
    text: int = 0
    """Equal for equal texts; 0 where it is not known."""
    threads: int = 0
    """The fewest threads that computed, where other programs took cores; 0 for all, or if it is not known."""


@dataclass(frozen=True)
class Turn:
    """One prompt, answered in each way."""

    main: str
    draft: str
    temperature: float
    prompt: str
    run: int
    """Its number; also the seed."""
    limit: int
    """Tokens, at most."""
    took: Mapping[str, Took] = field(default_factory=dict)

    @property
    def case(self) -> tuple[object, ...]:
        return (self.main, self.draft, self.temperature, self.prompt, self.run, self.limit)

    def ratio(self, way: str, other: str, *, wall: bool = False) -> float | None:
        """How many times as fast `way` was; None if one of them is missing."""
        both = [self.took.get(name) for name in (way, other)]
        rates = [each and (each.tokens / (each.wall if wall else each.seconds)) for each in both]
        return rates[0] / rates[1] if rates[0] and rates[1] else None


class Ratio(NamedTuple):
    """Over the prompts of a pair at a temperature."""

    mean: float
    worst: float
    prompt: str
    """The worst one's."""


def read(path: Path) -> list[Turn]:
    """The turns in a file; none if there is no file yet. A last line that was broken off is cut away."""
    if not path.exists():
        return []
    text = path.read_text("utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, "utf-8")
    return [_turn(json.loads(line)) for line in whole.splitlines()]


def _turn(line: dict[str, Any]) -> Turn:
    return Turn(**{**line, "took": {way: Took(**took) for way, took in line["took"].items()}})


def add(path: Path, turn: Turn) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(turn)) + "\n")


def is_done(turns: Iterable[Turn], wanted: Turn, ways: Iterable[str]) -> bool:
    """Whether a turn of the same case has all these ways."""
    return any(turn.case == wanted.case and set(ways) <= set(turn.took) for turn in turns)


def ratio(turns: Sequence[Turn], way: str, other: str, *, wall: bool = False) -> Ratio | None:
    """`way` beside `other`; None if no turn has both."""
    found: dict[str, list[float]] = {}
    for turn in turns:
        if (each := turn.ratio(way, other, wall=wall)) is not None:
            found.setdefault(turn.prompt, []).append(each)
    if not found:
        return None
    medians = {prompt: median(each) for prompt, each in found.items()}
    worst = min(medians, key=lambda prompt: medians[prompt])
    return Ratio(geometric_mean(medians.values()) or 0.0, medians[worst], worst)


def table(turns: Sequence[Turn]) -> Iterator[str]:
    """Each pair at each temperature: Markdown."""
    groups = dict.fromkeys((turn.main, turn.draft, turn.temperature) for turn in turns)
    for group in groups:
        here = [turn for turn in turns if (turn.main, turn.draft, turn.temperature) == group]
        prompts, runs = len({turn.prompt for turn in here}), len({turn.run for turn in here})
        yield f"{group[0]}, draft {group[1]}, temperature {group[2]:g}: {prompts} prompts, {runs} runs"
        yield ""
        yield from _rows(here)
        unlike = sum(len({took.prompt for took in turn.took.values()}) > 1 for turn in here)
        yield f"\nIn {unlike} turns the programs read prompts of different lengths.\n" if unlike else ""
        if fewer := sum(any(took.threads for took in turn.took.values()) for turn in here):
            yield f"In {fewer} of {len(here)} turns Outrider used fewer threads: other programs took cores.\n"


def _rows(turns: Sequence[Turn]) -> Iterator[str]:
    ways = dict.fromkeys(way for turn in turns for way in turn.took)
    beside = {way: found for way in ways if way != "plain" and (found := ratio(turns, way, "plain"))}
    yield "| | geometric mean | worst prompt | accepted | same text as plain |"
    yield "|---|---|---|---|---|"
    yield f"| plain | {median(_rates(turns, 'plain')):.2f} tokens/s | | | |"
    for way, found in beside.items():
        yield f"| {way} / plain | {_cells(found)} | {_accepted(turns, way)} | {_same(turns, way)} |"
    servers = [way for way in beside if way.startswith("server")]
    best = max(servers, key=lambda way: beside[way].mean, default=None)
    for way in (way for way in beside if not way.startswith("server")):
        for other in dict.fromkeys(name for name in ("server", best) if name in beside):
            if found := ratio(turns, way, str(other)):
                yield f"| {way} / {other} | {_cells(found)} | | |"
    if found := ratio(turns, "auto", "server", wall=True):
        yield f"| auto / server, prompt included | {_cells(found)} | | |"


def _rates(turns: Sequence[Turn], way: str) -> list[float]:
    return [each.tokens / each.seconds for turn in turns if (each := turn.took.get(way))] or [0.0]


def _cells(found: Ratio) -> str:
    return f"{found.mean:.2f} × | {found.worst:.2f} × {found.prompt[:30]!r}"


def _accepted(turns: Sequence[Turn], way: str) -> str:
    took = [each for turn in turns if (each := turn.took.get(way))]
    drafted = sum(each.drafted for each in took)
    return f"{sum(each.accepted for each in took) / drafted:.0%}" if drafted else ""


def _same(turns: Sequence[Turn], way: str) -> str:
    pairs = [
        (turn.took[way].text, turn.took["plain"].text) for turn in turns if {way, "plain"} <= set(turn.took)
    ]
    known = [(text, plain) for text, plain in pairs if text]
    return f"{sum(text == plain for text, plain in known)} of {len(known)}" if known else ""
