"""`outrider bench`: measures the speed-up from drafting, on this machine and with these models.

It asks an engine the same prompts with and without drafting, prints the result of each prompt, and then the
medians. The models and the engine's settings come from the command line and config.toml. The sampling
settings come only from the command line, so that the figures of two users can be compared. It changes no
setting and stores no text.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from ...chat.requests import load_request
from ...choices import AUTO, LOOKUP, NONE
from ...config import Settings
from ...protocol import Load
from ..models import show
from ..setup import UsageError, set_up, with_models
from .as_json import as_json
from .chart import chart
from .measure import Measurement
from .plan import SHIPPED, BenchPlan, quick, read_prompts
from .progress import Progress
from .report import as_markdown, as_text
from .results import Bench

if TYPE_CHECKING:
    import argparse

TEMPERATURES = (0.0, 0.8)
_DONE, _FAILED, _INTERRUPTED = 0, 1, 130


def run(arguments: argparse.Namespace) -> int:
    """Measure, report and return the exit code. Raises `UsageError`."""
    setup = set_up(arguments)
    plan = plan_of(arguments)
    loads = loads_of(arguments, setup.settings)
    check(plan, loads, arguments.svg)
    progress = Progress(sys.stderr, plan.answers * len(loads))
    for problem in setup.problems:
        progress.remark(str(problem))
    measured = [Measurement(setup.client(), load, plan, progress) for load in loads]
    status = _measured(measured)
    progress.clear()
    if bench := bench_of(plan, measured):
        show(arguments.json, as_json(bench), (as_markdown if arguments.markdown else as_text)(bench))
        sys.stdout.flush()
        if arguments.svg is not None:
            arguments.svg.write_text(chart(bench), "utf-8")
    elif status > _FAILED:
        progress.remark("ended before anything was measured")
    return status


def _measured(measurements: Sequence[Measurement]) -> int:
    """Measure until all is done or a signal ends it (Ctrl+C, a closed terminal). Return the exit code."""
    ended: list[int] = []
    try:
        asyncio.run(_all(measurements, ended))
        return _DONE if all(each.complete for each in measurements) else _FAILED
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 128 + ended[0] if ended else _INTERRUPTED


def plan_of(arguments: argparse.Namespace) -> BenchPlan:
    """Return the plan of the command line. Raises `UsageError`."""
    prompts = read_prompts(arguments.prompts or SHIPPED)
    return BenchPlan(
        prompts=quick(prompts) if arguments.quick else prompts,
        temperatures=tuple(dict.fromkeys(arguments.temperature or TEMPERATURES)),
        seed=arguments.seed or 0,
        max_tokens=arguments.max_tokens,
        runs=arguments.runs,
        draft_length=AUTO if arguments.draft_length is None else arguments.draft_length,
        lookup=not arguments.no_lookup,
    )


def loads_of(arguments: argparse.Namespace, settings: Settings) -> list[Load]:
    """Return the loads, one for each draft, in their order."""
    drafts = arguments.drafts or [arguments.draft]
    main, backend, exact = arguments.main, arguments.backend, arguments.exact
    return [load_request(with_models(settings, main, draft, backend, exact)) for draft in drafts]


def check(plan: BenchPlan, loads: Sequence[Load], svg: Path | None) -> None:
    """Check in advance for faults that would show only after the measurement. Raises `UsageError`."""
    if plan.draft_length == 0:
        raise UsageError("draft length 0 is plain decoding: there is nothing to compare")
    silent = {NONE} if plan.lookup else {NONE, LOOKUP}
    if any(load.draft in silent for load in loads):
        raise UsageError("without a draft model and without lookup there is nothing to compare; give --draft")
    if svg is not None and (svg.is_dir() or not os.access(svg.parent, os.W_OK)):
        raise UsageError(f"{svg} cannot be written")


async def _all(measurements: Iterable[Measurement], ended: list[int]) -> None:
    """Run all measurements. A signal raises `CancelledError` and leaves its number in `ended`."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task

    def end(number: int) -> None:
        ended.append(number)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end, number)
    for each in measurements:
        await each.run()


def bench_of(plan: BenchPlan, measured: Sequence[Measurement]) -> Bench | None:
    """Return the benchmark with all results so far; None if there are none."""
    series = tuple(found for each in measured if (found := each.series))
    if not series:
        return None
    return Bench(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        version=metadata.version("outrider"),
        plan=plan,
        series=series,
        complete=all(each.complete for each in measured),
    )
