"""How often a call of a model on several machines crosses the line to its workers.

python -m tools.bench.crossings MAIN [--workers 2] [--rows 1 6]

MAIN is a GGUF file. Calls of some rows are timed over lines of two round trips: the difference of the times
by the difference of the round trips is the number of crossings that follow each other. It needs root,
openssh-server and a llama.cpp with RPC.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

from tests.support.slow_line import SlowLine
from tests.support.sshd import Server
from tests.support.workers import worker_hosts
from tui.choices import NONE
from tui.engine.backends import LoadedModel, Options
from tui.engine.backends.selection import open_backend
from tui.engine.machine.worker_pool import WorkerPool
from tui.engine.pair.distribution import distribute
from tui.engine.speculation.sampling import Chain, Sampler
from tui.protocol import Load

TRIPS = (0.01, 0.05)
"""Seconds there and back."""
_RATE = 125e6
"""Bytes a second."""
_HELD, _TIMES = 40, 12
"""Tokens in the cache before each call. Number of calls of each kind."""


class Call(NamedTuple):
    """The median of calls of one kind."""

    seconds: float
    there: float
    """Bytes to all workers."""
    back: float


def timed(model: LoadedModel, line: SlowLine, rows: int) -> Call:
    """Make one call."""
    model.rewind(_HELD)
    before, began = list(line.carried), perf_counter()
    model.extend([5] * rows, rows)
    seconds = perf_counter() - began
    there, back = (now - then for now, then in zip(line.carried, before, strict=True))
    return Call(seconds, there, back)


def calls(model: LoadedModel, line: SlowLine, rows: list[int]) -> dict[str, Call]:
    """Return the medians of calls of each number of rows: one after the other, and in turns."""
    model.start(Sampler(Chain(), seed=0, start=1))
    model.rewind(0)
    model.extend([1] * _HELD, 1)
    found = {f"{each} rows": [timed(model, line, each) for _ in range(_TIMES)][2:] for each in rows}
    turns = [(each, timed(model, line, each)) for _ in range(_TIMES) for each in rows]
    for each in rows:
        found[f"{each} rows in turns"] = [call for count, call in turns if count == each][2:]
    return {name: Call(*map(median, zip(*each, strict=True))) for name, each in found.items()}


def over(server: Server, given: argparse.Namespace, trip: float) -> dict[str, Call]:
    """Load over a line and make the calls."""
    pool = WorkerPool()
    with SlowLine(server.port, _RATE, trip / 2, piece=1 << 16) as line:
        server.configure(port=line.port)
        hosts = worker_hosts(server, *("gpu2", "gpu3")[: given.workers])
        load = Load(given.main, NONE, 1024, workers=hosts)
        options = replace(Options.of(load, "main"), spread=distribute(load, pool).spread)
        model = open_backend(given.main, load.backend).load(given.main, options, lambda share: True)
        try:
            return calls(model, line, given.rows)
        finally:
            model.close()
            pool.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("main")
    options.add_argument("--workers", type=int, default=1)
    options.add_argument("--rows", type=int, nargs="*", default=[1, 6])
    given = options.parse_args()
    server = Server(Path(tempfile.mkdtemp(prefix="outrider-bench-")))
    os.environ["PATH"] = server.path
    try:
        near, far = (over(server, given, trip) for trip in TRIPS)
    finally:
        server.close()
    for name, call in near.items():
        crossings = (far[name].seconds - call.seconds) / (TRIPS[1] - TRIPS[0])
        print(
            f"{name:16} {call.seconds * 1000:6.1f} and {far[name].seconds * 1000:6.1f} ms, {crossings:4.1f} "
            f"crossings, {call.there / 1000:6.1f} KB there, {call.back / 1000:5.1f} KB back",
            flush=True,
        )
    os._exit(0)  # llama.cpp keeps a thread for each connection, which has ended


if __name__ == "__main__":
    main()
