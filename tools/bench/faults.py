"""Breaks the workers of an engine in many ways, and counts how each of them ends.

python -m tools.bench.faults MAIN [--times 20] [--only stalls]

MAIN is a GGUF file or an MLX folder. Two workers run on this machine, behind a real sshd. A fault passes if
one line names the reason within 10 seconds, if no process of the workers or of ssh is left, and if the next
load answers with the workers that are left. It needs root, openssh-server and, for GGUF, a llama.cpp with
RPC.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.slow_line import SlowLine
from tests.support.sshd import Server
from tests.support.workers import children, worker_hosts
from tui.choices import NONE
from tui.client import EngineClient, EngineDied, EngineError, running
from tui.engine.library.mlx_folder import is_folder
from tui.host import HERE
from tui.protocol import Finished, Generate, Load, Loaded, Loading, Message, Sampling, TextRound, WorkerHost

LONGEST = 10.0
"""Seconds that a fault may take to become a line, and processes to end."""
QUESTION = (Message("user", "Write a short story about a lighthouse."),)
SHORT, LONG = 24, 600
"""Tokens of an answer, and of one that is still coming when a fault happens."""
_SLOW = 4e6
"""Bytes a second of the slow line."""
_LATE = """
import resource, tui.engine.{module} as m
whole = m.{owner}.{method}
def limited(*given):
    held = next(l for l in open("/proc/self/status") if l.startswith("VmData:"))
    most = (int(held.split()[1]) << 10) + {room}
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    return whole(*given)
m.{owner}.{method} = limited
"""
"""Takes the memory of a worker away, down to so many bytes, before a method."""
_PATCHES = {
    "another version": "import tui; tui.__version__ = '9.9.9'",
    "no free memory": (
        "import tui.engine.machine.hardware as h; h.memory_bytes = lambda: (1 << 34, 1 << 16)"
    ),
    "memory runs out, GGUF": _LATE.format(
        module="worker", owner="ServedDevices", method="open", room=1 << 20
    ),
    "memory runs out, MLX": _LATE.format(
        module="ring_follower", owner="RingFollower", method="_load", room=1 << 20
    ),
}
"""Python that a faulty worker runs before it begins."""

Act = Callable[[], None]


@dataclass
class Outcome:
    """One fault: how it ended."""

    seconds: float = 0.0
    """From the fault to the line; 0 if the load went on without the worker."""
    line: str = ""
    left: int = 0
    """Processes of workers and ssh that were left."""
    used: tuple[int, ...] = ()
    """Layers of each worker at the next load."""
    answered: bool = False
    """Whether the next load answered."""

    @property
    def passed(self) -> bool:
        return self.seconds < LONGEST and bool(self.line) and not self.left and self.answered


@dataclass
class Place:
    """The machines of one run."""

    server: Server
    main: str
    folder: Path
    stopped: list[int] = field(default_factory=list)

    @property
    def good(self) -> tuple[WorkerHost, ...]:
        return worker_hosts(self.server, "gpu2", "gpu3")

    def faulty(self, kind: str) -> tuple[WorkerHost, ...]:
        """A worker that is broken from its start, and one that works."""
        program = self.folder / kind.replace(" ", "-").replace(",", "")
        code = program.with_suffix(".py")
        code.write_text(f"{_PATCHES[kind]}\nfrom tui.engine.worker import main\nmain()\n")
        program.write_text(
            f"#!/bin/sh\nexport {self.server.mark} HOME={self.server.home} PYTHONPATH={ROOT}\n"
            f"exec {sys.executable} {code}\n"
        )
        program.chmod(0o755)
        return WorkerHost("gpu2", "gpu2", str(program)), self.good[1]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to one of the workers, and to no relay of a ring."""
        worker = min(each for each in self.server.processes() if b"relay" not in command_of(each))
        os.kill(worker, number)
        if number == signal.SIGSTOP:
            self.stopped.append(worker)

    def revive(self) -> None:
        for each in self.stopped:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGCONT)
        self.stopped.clear()


@dataclass
class Trial:
    """One engine, in which something breaks."""

    place: Place
    workers: tuple[WorkerHost, ...]
    at: str = ""
    """When the fault happens: "load", "answer" or "" for a worker that is broken from its start."""
    fault: Act = lambda: None
    _began: float = 0.0
    _engine: int = 0
    _helpers: list[int] = field(default_factory=list)
    """The ssh processes of the engine when the fault happened."""

    async def run(self) -> Outcome:
        outcome = Outcome()
        async with running(EngineClient(HERE, self.place.folder / "log", os.environ, agent=True)) as client:
            self._engine = (await client.start()).pid
            try:
                loaded = await self._once(client, self.workers)
                outcome.line = next((each.fault for each in loaded.workers if each.fault), "")
            except EngineError as error:
                outcome.line = error.message
                outcome.seconds = time.monotonic() - self._began if self._began else 0.0
                if isinstance(error, EngineDied):
                    self.place.revive()
                    outcome.left = await self._left(self._helpers)
                    await client.start()
            self.at = ""
            loaded = await self._next(client)
            outcome.used = tuple(each.layers for each in loaded.workers)
            outcome.answered = True
        outcome.left += await self._left([])
        return outcome

    async def _next(self, client: EngineClient) -> Loaded:
        """Load and answer with workers that work. MLX may need a new engine for them."""
        try:
            return await self._once(client, self.place.good)
        except EngineDied:
            await client.start()
            return await self._once(client, self.place.good)

    async def _once(self, client: EngineClient, workers: tuple[WorkerHost, ...]) -> Loaded:
        """Load and answer."""
        load = Load(self.place.main, NONE, 1024, workers=workers)
        loaded = await client.load(load, self._progress)
        most = LONG if self.at == "answer" else SHORT
        wish = Generate(1, QUESTION, 7, Sampling(temperature=0.0), lookup=False, fresh=True, max_tokens=most)
        async with aclosing(client.generate(wish)) as events:
            async for event in events:
                if isinstance(event, TextRound):
                    self._strike("answer")
                elif isinstance(event, Finished):
                    return loaded
        raise AssertionError("the answer did not finish")

    def _progress(self, progress: Loading) -> None:
        if progress.fraction is not None:
            self._strike("load")

    def _strike(self, moment: str) -> None:
        if self.at == moment:
            self.at, self._began = "", time.monotonic()
            self._helpers = [pid for pid in children(self._engine) if _alive(pid)]
            self.fault()

    async def _left(self, helpers: list[int]) -> int:
        """Return how many processes are left after a while."""
        until = time.monotonic() + LONGEST
        while time.monotonic() < until:
            left = len(self.place.server.processes()) + sum(map(_alive, helpers))
            if not left:
                return 0
            await asyncio.sleep(0.05)
        return left


def command_of(pid: int) -> bytes:
    """The command line of a process; empty if it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _alive(pid: int) -> bool:
    return b"ssh" in command_of(pid)


def _trials(place: Place) -> dict[str, Callable[[], Trial]]:
    """Return each kind of fault by its name."""

    def struck(at: str, number: signal.Signals) -> Callable[[], Trial]:
        return lambda: Trial(place, place.good, at, lambda: place.signal(number))

    other = "GGUF" if is_folder(Path(place.main)) else "MLX"

    def faulty(kind: str) -> Trial:
        return Trial(place, place.faulty(kind))

    return {
        "dies while loading": struck("load", signal.SIGKILL),
        "dies in an answer": struck("answer", signal.SIGKILL),
        "stalls while loading": struck("load", signal.SIGSTOP),
        "stalls in an answer": struck("answer", signal.SIGSTOP),
        "loses its link": lambda: Trial(place, place.good, "answer", place.server.cut),
        **{kind: partial(faulty, kind) for kind in _PATCHES if not kind.endswith(other)},
    }


def _report(kind: str, found: list[Outcome]) -> None:
    passed = sum(each.passed for each in found)
    slowest = max(each.seconds for each in found)
    left, back = sum(each.left for each in found), sum(min(each.used, default=0) > 0 for each in found)
    print(f"{kind:24} {passed:3} of {len(found)}, slowest {slowest:4.1f} s, {left} left, both back {back}")
    for line, count in Counter(each.line for each in found).most_common():
        print(f"{'':24} {count:3} times: {line or 'NO LINE'}", flush=True)


def _slow_transfer(place: Place) -> None:
    """Load over a slow line, and cancel such a load."""

    async def load(stop: bool) -> float:
        async with running(EngineClient(HERE, place.folder / "log", os.environ, agent=True)) as client:
            await client.start()
            began = time.monotonic()
            wish = client.load(Load(place.main, NONE, 1024, workers=place.good), lambda progress: None)
            if not stop:
                await wish
                return time.monotonic() - began
            task = asyncio.create_task(wish)
            await asyncio.sleep(4)
            began = time.monotonic()
            await client.cancel(0)
            with suppress(EngineError, asyncio.CancelledError):
                await task
            return time.monotonic() - began

    with SlowLine(place.server.port, _SLOW, 0.005, piece=1 << 16) as line:
        place.server.configure(port=line.port)
        loaded = asyncio.run(load(False))
        sent = line.carried[0] / 1e6
        cancelled = asyncio.run(load(True))
    print(f"slow transfer: loaded in {loaded:.0f} s, {sent:.0f} MB sent; cancelled in {cancelled:.1f} s")
    place.server.configure()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("main")
    options.add_argument("--times", type=int, default=20)
    options.add_argument("--only", default="")
    given = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="outrider-faults-"))
    server = Server(folder)
    os.environ["PATH"] = server.path
    place = Place(server, given.main, folder)
    try:
        for kind, make in _trials(place).items():
            if given.only in kind:
                _report(kind, [asyncio.run(make().run()) for _ in range(given.times)])
        if given.only in "slow transfer":
            _slow_transfer(place)
    finally:
        place.revive()
        server.close()


if __name__ == "__main__":
    main()
