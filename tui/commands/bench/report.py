"""A benchmark as text for a terminal and as Markdown. All text that is not ours is cleaned.

It measures and computes nothing. Unknown values are a dash.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

from ...choices import AUTO
from ...clean import clean_line
from ...protocol import ModelFacts
from ...quantities import rounding, size
from .plan import BenchPlan
from .results import ALL, Bench, Result, Series, Timing, mean_ratios

WIDTH = 100
_PROMPT = 12
"""Fewest cells for a prompt, even beside wide figures."""
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|&~#])")


class Column(NamedTuple):
    """A column of figures in the table."""

    above: str
    below: str
    """The second of the two header lines on a terminal; the first is `above`."""
    title: str
    """The header in Markdown."""
    cell: Callable[[Result], str]


COLUMNS = (
    Column("", "temp", "temperature", lambda result: f"{result.temperature:g}"),
    Column("plain", "tok/s", "plain tok/s", lambda result: number(result.plain.tokens_per_second)),
    Column("drafted", "tok/s", "drafted tok/s", lambda result: number(result.drafted.tokens_per_second)),
    Column("", "speed-up", "speed-up", lambda result: number(result.ratio, 2)),
    Column("", "spread", "spread", lambda result: percent(spread(result))),
    Column("accep-", "tance", "acceptance", lambda result: percent(result.acceptance_rate)),
    Column("tokens", "/round", "tokens per round", lambda result: number(result.tokens_per_round, 2)),
    Column("drafted", "/round", "drafted per round", lambda result: number(result.draft_length)),
    Column("TTFT ms", "plain", "plain TTFT, ms", lambda result: seconds(result.plain)),
    Column("TTFT ms", "drafted", "drafted TTFT, ms", lambda result: seconds(result.drafted)),
)


def as_text(bench: Bench) -> Iterator[str]:
    """Yield the lines for a terminal, at most `WIDTH` cells wide."""
    for series in bench.series:
        for name, value in facts(bench, series):
            yield from textwrap.wrap(value, WIDTH, initial_indent=f"{name:13}", subsequent_indent=" " * 13)
        yield ""
        yield from text_table(series.results)
        yield ""
        yield from _means(series)
        yield ""
    if not bench.complete:
        yield "Not complete: this is what was measured."


def as_markdown(bench: Bench) -> Iterator[str]:
    """Yield the same facts and figures as `as_text`, as Markdown."""
    for series in bench.series:
        yield from (f"- {name}: {escaped(value)}" for name, value in facts(bench, series))
        yield ""
        yield from _markdown_table(
            ["prompt", "category", *(column.title for column in COLUMNS)],
            [[*map(escaped, _names(result, 60)), *_cells(result)] for result in series.results],
        )
        yield ""
        head, *rows = _mean_rows(series)
        yield from _markdown_table(
            ["geometric mean of speed-ups", *head[1:]], [list(map(escaped, row)) for row in rows]
        )
        yield ""
    if not bench.complete:
        yield "Not complete: this is what was measured."


def as_line(result: Result) -> str:
    """Return one result as a line, for use as soon as it is measured."""
    plain, drafted = (number(each.tokens_per_second) for each in (result.plain, result.drafted))
    same = "" if result.differs_at is None else ", another text"
    idle = f", no drafts: {clean_line(result.not_drafting, 80)}" if result.not_drafting else ""
    prompt = shortened(result.prompt.text, 32)
    speeds = f"{plain} tok/s plain, {drafted} drafted: {number(result.ratio, 2)} ×"
    return f"{prompt} at {result.temperature:g}: {speeds}{same}{idle}"


def facts(bench: Bench, series: Series) -> Iterator[tuple[str, str]]:
    """Yield the facts of the measurement as (name, value): models, settings, machine. The text is clean."""
    loaded, plan = series.loaded, bench.plan
    yield "measured", f"{bench.date}, Outrider {clean_line(bench.version)}"
    yield "device", clean_line(f"{loaded.backend} on {loaded.device}", 80)
    yield "main", described(loaded.main)
    yield "draft", described(loaded.draft) if loaded.draft else "none"
    yield "drafting", drafting(plan)
    yield (
        "runs",
        f"medians of {plan.runs} plain and {plan.runs} drafted in turn; "
        f"at most {plan.max_tokens} tokens each, seed {plan.seed}",
    )
    yield "peak memory", f"{series.peak_memory / 2**30:.2f} GiB" if series.peak_memory else "unknown"
    if series.rounding:
        yield rounding(series.rounding)
    yield "same text", same_text(series.results)
    if idle := [result for result in series.results if result.not_drafting]:
        reasons = ", ".join(dict.fromkeys(clean_line(result.not_drafting, 80) for result in idle))
        yield "no drafts", f"in {len(idle)} of {len(series.results)}: {reasons}"


def described(model: ModelFacts) -> str:
    return ", ".join((clean_line(model.name, 60), *([size(model.size)] if model.size else [])))


def drafting(plan: BenchPlan) -> str:
    length = plan.draft_length
    how = "as many tokens per round as pay" if length == AUTO else f"{length} tokens per round"
    return f"{how}, lookup {'on' if plan.lookup else 'off'}"


def same_text(results: Sequence[Result]) -> str:
    """Return how many results have the same text in all runs, and the names of the others."""
    wrong = [result for result in results if result.differs_at is not None]
    said = f"{len(results) - len(wrong)} of {len(results)}"
    names = (
        f'"{clean_line(result.prompt.text, 24)}" at {result.temperature:g} '
        + (result.parting or f"from token {result.differs_at}")
        for result in wrong
    )
    return f"{said}; not {', '.join(names)}" if wrong else said


def text_table(results: Sequence[Result]) -> Iterator[str]:
    """Yield the results as an aligned table, at most `WIDTH` cells wide if the figures fit."""
    rows = [
        ["", *(column.above for column in COLUMNS)],
        ["category", *(column.below for column in COLUMNS)],
        *([_names(result, 12)[1], *_cells(result)] for result in results),
    ]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    room = max(_PROMPT, WIDTH - sum(widths) - len(widths))
    prompts = ["", "prompt", *(_names(result, room)[0] for result in results)]
    for prompt, (category, *cells) in zip(prompts, rows, strict=True):
        figures = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        yield " ".join([set_cell_size(prompt, room), set_cell_size(category, widths[0]), *figures]).rstrip()


def _means(series: Series) -> Iterator[str]:
    head, *rows = _mean_rows(series)
    width = max(map(cell_len, (row[0] for row in (head, *rows))))
    for first, *cells in (head, *rows):
        yield " ".join([set_cell_size(first, width), *(cell.rjust(7) for cell in cells)])


def _mean_rows(series: Series) -> list[list[str]]:
    means = mean_ratios(series.results)
    named = dict.fromkeys(name for found in means.values() for name in found if name != ALL)
    return [
        ["geometric mean of speed-ups", *(f"at {temperature:g}" for temperature in means)],
        *(
            [clean_line(name, 24), *(number(found.get(name), 2) for found in means.values())]
            for name in (*named, ALL)
        ),
    ]


def _names(result: Result, limit: int) -> tuple[str, str]:
    return shortened(result.prompt.text, limit), shortened(result.prompt.category, 12)


def _cells(result: Result) -> list[str]:
    return [column.cell(result) for column in COLUMNS]


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + " --- |" * len(head)
    yield from (f"| {' | '.join(row)} |" for row in rows)


def shortened(text: str, cells: int) -> str:
    """Return a prompt as one clean line of at most `cells` cells."""
    line = " ".join(clean_line(text, 4 * cells).split())
    return line if cell_len(line) <= cells else set_cell_size(line, cells - 1).rstrip() + "…"


def escaped(text: str) -> str:
    """Return the text with all Markdown characters escaped."""
    return _MARKDOWN.sub(r"\\\1", text)


def spread(result: Result) -> float | None:
    """Return the larger spread of the two ways."""
    return max(
        (each for each in (result.plain.spread, result.drafted.spread) if each is not None), default=None
    )


def number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def seconds(timing: Timing) -> str:
    """Return the time to the first token in milliseconds."""
    wait = timing.time_to_first_token
    return "-" if wait is None else f"{1000 * wait:.0f}" if wait >= 0.1 else f"{1000 * wait:.1f}"
