"""One model on several machines, which are this one: workers by a real sshd, behind lines of several kinds.

python -m tools.bench.machines MAIN [DRAFT] [--tokens 96] [--workers 2] [--draft-length 4] [--times 3]
    [--only LINE]

MAIN is a GGUF file or an MLX folder. It compares the tokens with those of the model alone, at temperature 0.
It needs root, openssh-server and, for GGUF, a llama.cpp with RPC. Where other programs run too, only the
ratios of neighboring rows count, and only if each row is repeated.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from contextlib import aclosing, nullcontext
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.support.slow_line import SlowLine
from tests.support.sshd import Server
from tests.support.workers import worker_hosts
from tui.choices import AUTO, NONE, DraftLength
from tui.client import EngineClient, running
from tui.host import HERE
from tui.protocol import Finished, Generate, Load, Message, Sampling, TextRound, WorkerHost

PROMPTS = ("Write a short story about a lighthouse.", "Explain how a bicycle stays upright.")
_GIGABIT = 125e6
"""Bytes a second."""


class Line(NamedTuple):
    """The line to the workers."""

    name: str
    delay: float
    """Seconds each way."""
    rate: float = _GIGABIT
    """Bytes a second."""


ALONE, DIRECT = Line("alone", 0), Line("no line", 0)
LINES = (
    ALONE,
    DIRECT,
    Line("1 ms, 1 Gbit/s", 0.0005),
    Line("1 ms, 100 Mbit/s", 0.0005, _GIGABIT / 10),
    Line("10 ms, 1 Gbit/s", 0.005),
    Line("10 ms, 100 Mbit/s", 0.005, _GIGABIT / 10),
)


class Row(NamedTuple):
    """The answers of one load."""

    tokens: list[int]
    per_second: float
    drafted: int
    accepted: int
    round_trips: tuple[float | None, ...]
    load_seconds: float

    def __str__(self) -> str:
        trips = ", ".join(f"{each * 1000:.1f}" for each in self.round_trips if each is not None) or "-"
        return (
            f"{self.per_second:6.1f} tok/s {self.accepted:4} of {self.drafted:4} drafted accepted, "
            f"round trips {trips} ms, loaded in {self.load_seconds:.0f} s"
        )


async def answered(load: Load, tokens: int, log: Path, length: DraftLength) -> Row:
    """Load in a new engine and answer all prompts."""
    found: list[int] = []
    seconds, drafted, accepted = 0.0, 0, 0
    async with running(EngineClient(HERE, log, os.environ, agent=True)) as client:
        loaded = await client.load(load, lambda progress: None)
        for number, prompt in enumerate(PROMPTS, 1):
            wish = Generate(
                number, (Message("user", prompt),), 7, Sampling(temperature=0.0), length,
                lookup=False, fresh=True, max_tokens=tokens,
            )  # fmt: skip
            async with aclosing(client.generate(wish)) as events:
                async for event in events:
                    if isinstance(event, TextRound):
                        found += event.tokens
                    elif isinstance(event, Finished):
                        seconds += event.statistics.seconds
                        drafted += event.statistics.drafted
                        accepted += event.statistics.accepted
    trips = tuple(each.round_trip for each in loaded.workers)
    return Row(found, len(found) / seconds, drafted, accepted, trips, loaded.seconds)


def measured(server: Server, given: argparse.Namespace) -> None:
    """Print a line for each kind of line, with a draft and without, and the ratio of both."""
    alone: list[int] = []
    hosts = worker_hosts(server, *("gpu2", "gpu3")[: given.workers])
    for kind in (each for each in LINES if each is ALONE or given.only in each.name):
        workers: tuple[WorkerHost, ...] = () if kind is ALONE else hosts
        speeds: dict[str, list[float]] = {}
        for each in (NONE, given.draft) * given.times:
            line = SlowLine(server.port, kind.rate, kind.delay, piece=1 << 16) if kind.delay else None
            load = Load(given.main, each, 1024, workers=workers)
            with line or nullcontext():
                server.configure(port=line.port if line else 0)
                row = asyncio.run(answered(load, given.tokens, server.folder / "log", given.draft_length))
            alone = alone or row.tokens
            speeds.setdefault(each, []).append(row.per_second)
            same = "same tokens" if row.tokens == alone else "OTHER TOKENS"
            print(f"{kind.name:20} {'draft' if each != NONE else 'plain'}  {row}, {same}", flush=True)
        plain, drafted = (median(speeds[each]) for each in (NONE, given.draft))
        print(f"{kind.name:20} ratio {drafted / plain:.2f}", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("main")
    options.add_argument("draft", nargs="?", default=NONE)
    options.add_argument("--tokens", type=int, default=96)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--times", type=int, default=1)
    options.add_argument("--draft-length", type=int, default=AUTO)
    options.add_argument("--only", default="", help="a part of the names of lines")
    given = options.parse_args()
    server = Server(Path(tempfile.mkdtemp(prefix="outrider-bench-")))
    os.environ["PATH"] = server.path
    try:
        measured(server, given)
    finally:
        server.close()


if __name__ == "__main__":
    main()
