"""One model on three machines, which are this one: two workers by a real sshd, behind lines of some delays.

python -m tools.bench.machines MAIN [DRAFT] [--tokens 96]

It compares the tokens with those of the model alone, at temperature 0. It needs root, openssh-server and a
llama.cpp with RPC.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from contextlib import aclosing, nullcontext
from pathlib import Path
from typing import NamedTuple

from tests.support.slow_line import SlowLine
from tests.support.sshd import Server
from tests.support.workers import worker_hosts
from tui.choices import AUTO, NONE
from tui.client import EngineClient, running
from tui.host import HERE
from tui.protocol import Finished, Generate, Load, Message, Sampling, TextRound, WorkerHost

PROMPTS = ("Write a short story about a lighthouse.", "Explain how a bicycle stays upright.")
DELAYS = (None, 0.0, 0.0005, 0.005)
"""Seconds each way of the line to the workers; None for the model alone, 0 without a line."""
RATE = 125e6
"""Bytes a second of the line: 1 Gbit/s."""


class Row(NamedTuple):
    """The answers of one load."""

    tokens: list[int]
    per_second: float
    drafted: int
    round_trips: tuple[float | None, ...]
    load_seconds: float

    def __str__(self) -> str:
        trips = ", ".join(f"{each * 1000:.1f}" for each in self.round_trips if each is not None) or "-"
        return (
            f"{self.per_second:6.1f} tok/s {self.drafted:5} drafted, round trips {trips} ms, loaded in "
            + (f"{self.load_seconds:.0f} s")
        )


async def answered(load: Load, tokens: int, log: Path) -> Row:
    """Load in a new engine and answer all prompts."""
    found: list[int] = []
    seconds, drafted = 0.0, 0
    async with running(EngineClient(HERE, log, os.environ, agent=True)) as client:
        loaded = await client.load(load, lambda progress: None)
        for number, prompt in enumerate(PROMPTS, 1):
            wish = Generate(
                number, (Message("user", prompt),), 7, Sampling(temperature=0.0), AUTO,
                lookup=False, fresh=True, max_tokens=tokens,
            )  # fmt: skip
            async with aclosing(client.generate(wish)) as events:
                async for event in events:
                    if isinstance(event, TextRound):
                        found += event.tokens
                    elif isinstance(event, Finished):
                        seconds += event.statistics.seconds
                        drafted += event.statistics.drafted
    trips = tuple(each.round_trip for each in loaded.workers)
    return Row(found, len(found) / seconds, drafted, trips, loaded.seconds)


def measured(server: Server, main: str, draft: str, tokens: int) -> None:
    """Print a line for each delay, with a draft and without."""
    alone: list[int] = []
    for delay in DELAYS:
        workers: tuple[WorkerHost, ...] = () if delay is None else worker_hosts(server, "gpu2", "gpu3")
        for each in dict.fromkeys((NONE, draft)):
            line = SlowLine(server.port, RATE, delay, piece=1 << 16) if delay else None
            with line or nullcontext():
                server.configure(port=line.port if line else 0)
                row = asyncio.run(
                    answered(Load(main, each, 1024, workers=workers), tokens, server.folder / "log")
                )
            alone = alone or row.tokens
            where = "alone" if delay is None else f"two workers, {2 * delay * 1000:.0f} ms"
            same = "same tokens" if row.tokens == alone else "OTHER TOKENS"
            print(f"{where:20} {'draft' if each != NONE else 'plain'}  {row}, {same}", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("main")
    options.add_argument("draft", nargs="?", default=NONE)
    options.add_argument("--tokens", type=int, default=96)
    given = options.parse_args()
    server = Server(Path(tempfile.mkdtemp(prefix="outrider-bench-")))
    os.environ["PATH"] = server.path
    try:
        measured(server, given.main, given.draft, given.tokens)
    finally:
        server.close()


if __name__ == "__main__":
    main()
