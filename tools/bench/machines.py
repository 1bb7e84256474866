"""One model on several machines, which are this one: workers by a real sshd, behind lines of several kinds.

python -m tools.bench.machines MAIN [DRAFT] [--tokens 96] [--workers 2] [--draft-length 4] [--times 3]
    [--only LINE ...] [--ask PROMPT ...] [--exact]

MAIN is a GGUF file or an MLX folder. Each load answers plainly and with the draft, in turns, so that both
see the same minutes. It compares the tokens with those of the model alone, at temperature 0. It needs root,
openssh-server and, for GGUF, a llama.cpp with RPC.
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
from tui.protocol import Finished, Generate, Load, Loaded, Message, Sampling, TextRound, WorkerHost

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
    """The answers to all prompts, made in one way."""

    tokens: list[int]
    per_second: float
    rounds: int
    drafted: int
    accepted: int

    def __str__(self) -> str:
        return (
            f"{self.per_second:6.1f} tok/s {len(self.tokens) / self.rounds:4.1f} tokens a round, "
            f"{self.accepted:4} of {self.drafted:4} drafted accepted"
        )


class Place(NamedTuple):
    """The rows of one load, plain and with the draft in turns."""

    loaded: Loaded
    plain: list[Row]
    drafted: list[Row]

    def __str__(self) -> str:
        trips = ", ".join(f"{(each.round_trip or 0) * 1000:.1f}" for each in self.loaded.workers) or "-"
        layers = ", ".join(str(each.layers) for each in self.loaded.workers) or "-"
        return f"layers {layers}, round trips {trips} ms, loaded in {self.loaded.seconds:.0f} s"


async def measured(load: Load, given: argparse.Namespace, log: Path) -> Place:
    """Load in a new engine, and answer all prompts plainly and with the draft, in turns."""
    async with running(EngineClient(HERE, log, os.environ, agent=True)) as client:
        place = Place(await client.load(load, lambda progress: None), [], [])
        for _ in range(given.times):
            place.plain.append(await answered(client, 0, given))
            if load.draft != NONE:
                place.drafted.append(await answered(client, given.draft_length, given))
    return place


async def answered(client: EngineClient, length: DraftLength, given: argparse.Namespace) -> Row:
    """Answer all prompts."""
    found: list[int] = []
    seconds, rounds, drafted, accepted = 0.0, 0, 0, 0
    for number, prompt in enumerate(given.ask, 1):
        wish = Generate(
            number, (Message("user", prompt),), 7, Sampling(temperature=0.0), length,
            lookup=False, fresh=True, max_tokens=given.tokens,
        )  # fmt: skip
        async with aclosing(client.generate(wish)) as events:
            async for event in events:
                if isinstance(event, TextRound):
                    found += event.tokens
                elif isinstance(event, Finished):
                    seconds += event.statistics.seconds
                    rounds += event.statistics.rounds
                    drafted += event.statistics.drafted
                    accepted += event.statistics.accepted
    return Row(found, len(found) / seconds, rounds, drafted, accepted)


def compare(server: Server, given: argparse.Namespace) -> None:
    """Print the rows of each kind of line, and the ratio of the medians with the draft and without."""
    alone: list[int] = []
    hosts = worker_hosts(server, *("gpu2", "gpu3")[: given.workers])
    for kind in (each for each in LINES if each is ALONE or any(part in each.name for part in given.only)):
        workers: tuple[WorkerHost, ...] = () if kind is ALONE else hosts
        line = SlowLine(server.port, kind.rate, kind.delay, piece=1 << 16) if kind.delay else None
        load = Load(given.main, given.draft, 1024, exact=given.exact, workers=workers)
        with line or nullcontext():
            server.configure(port=line.port if line else 0)
            place = asyncio.run(measured(load, given, server.folder / "log"))
        print(f"{kind.name:20} {place}")
        alone = alone or place.plain[0].tokens
        for way in ("plain", "drafted"):
            for row in getattr(place, way):
                same = "same tokens" if row.tokens == alone else "OTHER TOKENS"
                print(f"{kind.name:20} {way:8} {row}, {same}", flush=True)
        if place.drafted:
            plain, drafted = (median(each.per_second for each in rows) for rows in place[1:])
            print(f"{kind.name:20} {plain:.1f}, {drafted:.1f} tok/s, ratio {drafted / plain:.2f}", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("main")
    options.add_argument("draft", nargs="?", default=NONE)
    options.add_argument("--tokens", type=int, default=96)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--times", type=int, default=1)
    options.add_argument(
        "--draft-length", type=lambda word: word if word == AUTO else int(word), default=AUTO
    )
    options.add_argument("--only", nargs="*", default=[""], help="parts of the names of lines")
    options.add_argument("--ask", nargs="*", default=PROMPTS, help="prompts")
    options.add_argument("--exact", action="store_true")
    given = options.parse_args()
    server = Server(Path(tempfile.mkdtemp(prefix="outrider-bench-")))
    os.environ["PATH"] = server.path
    try:
        compare(server, given)
    finally:
        server.close()


if __name__ == "__main__":
    main()
