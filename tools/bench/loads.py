"""How long a load takes with a draft and without, how long its progress stands still, and how soon it stops.

    python -m tools.bench.loads MAIN=DRAFT... [--runs 1]

Without =DRAFT, Outrider chooses the draft. Each load runs in a fresh process, in which nothing is remembered
of the costs and the rounding of earlier loads. The list of models is read once before. The progress stands
still between two messages to the app. A cancel is heard at the next question whether the load is still
wanted. So the longest time between two questions is the longest wait of a person who cancels. A busy machine
spoils the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, NamedTuple

from tui.choices import AUTO, NONE
from tui.engine.session import Session
from tui.paths import find_costs
from tui.protocol import Event, Load, Loaded, Loading

MOST, ADDED = 1.5, 2.0
"""A load with a draft should take at most so many times as long as without one, and so many seconds more."""


class Gap(NamedTuple):
    """A time in which nothing was shown, or nothing was asked."""

    seconds: float
    stage: str


def load_once(main: str, draft: str) -> dict[str, Any]:
    """Load a pair in this process, and return its figures."""
    shown: list[tuple[float, str]] = []
    asked: list[tuple[float, str]] = []
    events: list[Event] = []

    def send(event: Event) -> None:
        events.append(event)
        if isinstance(event, Loading):
            shown.append((perf_counter(), event.stage))

    def cancelled(number: int) -> bool:
        asked.append((perf_counter(), shown[-1][1] if shown else ""))
        return False

    session = Session(send, cancelled, idle=lambda: False)
    session.preload()
    began, spent = perf_counter(), process_time()
    session.do(Load(main, draft))
    ended, spent = perf_counter(), process_time() - spent
    if not isinstance(loaded := events[-1], Loaded):
        raise SystemExit(str(loaded))
    return {
        "seconds": ended - began,
        "processor": spent,
        "still": _longest([(began, "beginning"), *shown, (ended, "end")]),
        "unheard": _longest([(began, "beginning"), *asked, (ended, "end")]),
        "draft": loaded.draft.name if loaded.draft else "",
    }


def _longest(moments: Sequence[tuple[float, str]]) -> Gap:
    """Return the longest time from one moment to the next, with the stage in which it began."""
    return max(Gap(end - start, stage) for (start, stage), (end, _) in pairwise(moments))


def measured(folder: Path, draft: str) -> dict[str, Any]:
    """Return the figures of a load in a process of its own."""
    shutil.rmtree(find_costs(), ignore_errors=True)
    command = [sys.executable, "-m", "tools.bench.loads", str(folder), "--once", draft]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
    if done.returncode:
        raise SystemExit(f"{folder.name}: {done.stdout}{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(pair: str, runs: int) -> None:
    """Load a pair and its main model alone, in turns, and print a line of the table."""
    main, _, draft = pair.partition("=")
    folder, draft = Path(main), draft or AUTO
    plain, drafted = [], []
    for _ in range(runs):
        plain.append(measured(folder, NONE))
        drafted.append(measured(folder, draft))
    alone, both = (median(each["seconds"] for each in found) for found in (plain, drafted))
    still, unheard = (
        max((Gap(*each[name]) for each in plain + drafted), key=lambda gap: gap.seconds)
        for name in ("still", "unheard")
    )
    within = "yes" if both <= MOST * alone + ADDED else "NO"
    print(
        f"| {folder.name} | {drafted[0]['draft'] or 'lookup'} | {alone:.1f} | {both:.1f} | {within} "
        f"| {still.seconds:.1f} ({still.stage}) | {unheard.seconds:.2f} ({unheard.stage}) |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="How long loads take, and how soon they stop.")
    parser.add_argument("pairs", nargs="+", metavar="MAIN=DRAFT")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--once", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(load_once(options.pairs[0], options.once)))
        return
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"HOME": home, "XDG_CACHE_HOME": f"{home}/cache", "XDG_DATA_HOME": f"{home}/data"}
        measured(Path(options.pairs[0].partition("=")[0]), AUTO)  # reads the list of models
        print("| folder | draft | without, s | with, s | within the limit | stands still, s | not heard, s |")
        print("|---|---|---|---|---|---|---|")
        for pair in options.pairs:
            compare(pair, options.runs)


if __name__ == "__main__":
    main()
