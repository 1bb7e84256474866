"""What a busy machine costs: all threads against as many as are of use, with other programs and without.

    python -m tools.bench.busy MAIN [DRAFT] [--busy 1] [--seconds 15] [--turns 2]

Answers go on for some seconds each, in turns: threads fixed and adapted, plain and drafted, alone and beside
`--busy` programs that do nothing but compute. Then these end in the middle of an answer, and it is timed how
soon all threads are at work again. Nothing else should run: the figures are of this machine alone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from time import perf_counter, sleep

from tui.choices import AUTO, LOOKUP
from tui.engine.answer.answer import Answer
from tui.engine.answer.templates import TemplateRenderer
from tui.engine.pair.pair import Pair, load_pair
from tui.engine.pair.threads import Threaded
from tui.protocol import Busy, Event, Generate, Load, Message, Rounds

PROMPT = "def quicksort(numbers):\n"
CROWDED = 5.0
"""Seconds that an answer goes on beside them before they end."""
PATIENCE = 10.0
"""Seconds after the end of the other programs in which all threads should be back."""


@contextmanager
def others(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many programs that keep a core busy each."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        sleep(1.0)
        yield running
    finally:
        end(running)


def end(running: list[subprocess.Popen[bytes]]) -> None:
    for each in running:
        each.kill()
        each.wait()


class Stage:
    """Answers of one pair, each for some seconds."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._templates = TemplateRenderer()

    def close(self) -> None:
        self._templates.close()
        self._pair.close()

    def speed(self, seconds: float, *, adapted: bool, drafted: bool) -> float:
        """Tokens per second, from the prompt on."""
        tokens = 0
        took = 0.0

        def hear(event: Event, now: float) -> None:
            nonlocal tokens, took
            if isinstance(event, Rounds):
                tokens, took = tokens + sum(len(each.tokens) for each in event.rounds), now

        self._answer(lambda now: now > seconds, hear, adapted=adapted, drafted=drafted)
        return tokens / took if took else 0.0

    def back(self, running: list[subprocess.Popen[bytes]]) -> float | None:
        """Seconds from the end of the others until all threads are at work; None if they never are."""
        ended: list[float] = []
        found: list[float] = []

        def over(now: float) -> bool:
            if now > CROWDED and not ended:
                end(running)
                ended.append(now)
            return bool(found) or now > CROWDED + PATIENCE

        def hear(event: Event, now: float) -> None:
            if ended and isinstance(event, Busy) and event.threads == event.most:
                found.append(now - ended[0])

        self._answer(over, hear, adapted=True, drafted=False)
        return found[0] if found else None

    def _answer(
        self,
        over: Callable[[float], bool],
        hear: Callable[[Event, float], None],
        *,
        adapted: bool,
        drafted: bool,
    ) -> None:
        pair, began = self._pair, perf_counter()
        if not adapted:
            for model in (pair.main, pair.draft):
                if isinstance(model, Threaded):
                    model.set_threads(model.threads)
            pair = replace(pair, crew=None)
        command = Generate(
            1, (Message("user", PROMPT),), 1, raw=True, ignore_eos=True, fresh=True, lookup=False,
            draft_length=AUTO if drafted else 0,
        )  # fmt: skip

        def since() -> float:
            return perf_counter() - began

        Answer(pair, command, lambda event: hear(event, since()), lambda: over(since())).run(self._templates)


def measured(stage: Stage, options: argparse.Namespace) -> dict[tuple[str, str, str], list[float]]:
    """Tokens per second by machine, way of answering and threads."""
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    ways = ["plain", "drafted"] if options.draft != LOOKUP else ["plain"]
    for _ in range(options.turns):
        for machine, count in (("quiet", 0), ("busy", options.busy)):
            with others(count):
                for way, threads in product(ways, ("fixed", "adapted")):
                    speed = stage.speed(
                        options.seconds, adapted=threads == "adapted", drafted=way == "drafted"
                    )
                    found[machine, way, threads].append(speed)
                    print(f"{machine:>6} {way:>8} {threads:>8} {speed:8.2f} tok/s", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="All threads against as many as are of use.")
    add = parser.add_argument
    add("main")
    add("draft", nargs="?", default=LOOKUP)
    add("--busy", type=int, default=1)
    add("--seconds", type=float, default=15)
    add("--turns", type=int, default=2)
    add("--threads", type=int, default=0)
    options = parser.parse_args()
    command = Load(options.main, options.draft, 2048, threads=options.threads)
    stage = Stage(load_pair(command, lambda stage, fraction: True))
    try:
        found = measured(stage, options)
        for (machine, way, threads), speeds in found.items():
            if threads == "adapted":
                fixed = sum(found[machine, way, "fixed"])
                ratio = sum(speeds) / fixed if fixed else float("inf")
                print(f"{machine:>6} {way:>8}: adapted over fixed {ratio:.2f} x")
        with others(options.busy) as running:
            soon = stage.back(running)
        print("all threads again:", "not seen" if soon is None else f"after {soon:.1f} s")
    finally:
        stage.close()


if __name__ == "__main__":
    main()
