"""Measures what the app's process takes: CPU and wakeups a second, at rest and while an answer comes.

The engine is a process of its own and is not counted. Linux only: the figures are the kernel's, of /proc.

    python -m tools.bench.app_cpu [--seconds 10] [MODEL [DRAFT]]

With a model it streams answers of that one too, at the speed that it has here. No part of the test suite.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.terminal import Terminal

RATES = (2, 10, 20)
"""Tokens a second of the scripted model."""
PROMPT = b"Write a long story about the keeper of a lighthouse.\r"
FRAME = b"\x1b[?2026h"
"""What each paint begins with."""
_TOKENS = re.compile(rb"([\d,]+) tokens .{1,3} [\d,.]+ tok/s")
"""In the line under an answer."""


@dataclass(frozen=True)
class Usage:
    """What a process has taken since it began."""

    seconds: float
    """On a processor."""
    wakeups: int
    """How often a thread of it had waited and went on."""

    @classmethod
    def of(cls, pid: int) -> Usage:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        spent = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)
        waits = sum(_waits((task / "status").read_text()) for task in tasks)
        return cls(spent / 1e9, waits)


def _waits(status: str) -> int:
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


@contextmanager
def chat(main: str, draft: str = "none", size: tuple[int, int] = (120, 40)) -> Iterator[Terminal]:
    """The chat with these models loaded, in a terminal of that many columns and rows."""
    with tempfile.TemporaryDirectory(prefix="outrider-bench-") as home:
        command = [sys.executable, "-m", "tui", "--main", main, "--draft", draft]
        env = {"HOME": home, "XDG_CONFIG_HOME": home, "XDG_STATE_HOME": home}
        with Terminal(command, columns=size[0], rows=size[1], env=env) as terminal:
            terminal.wait(b"ready", 300)
            terminal.pump(3)  # what is done once after the start
            yield terminal


def report(name: str, terminal: Terminal, seconds: float) -> None:
    """Measure for that long, and print it as a row."""
    before, paints, written = Usage.of(terminal.pid), terminal.output.count(FRAME), len(terminal.output)
    terminal.pump(seconds)
    after = Usage.of(terminal.pid)
    figures = (
        (after.seconds - before.seconds) / seconds * 100,
        (after.wakeups - before.wakeups) / seconds,
        (terminal.output.count(FRAME) - paints) / seconds,
        (len(terminal.output) - written) / seconds / 1000,
    )
    print(f"{name:40}{figures[0]:8.1f}{figures[1]:10.1f}{figures[2]:9.1f}{figures[3]:9.1f}", flush=True)


def streaming(name: str, terminal: Terminal, seconds: float) -> None:
    """A row of an answer that comes, and one of the rest after it."""
    terminal.send(PROMPT)
    terminal.wait(b"answering", 300)
    terminal.pump(3)
    report(name, terminal, seconds)
    terminal.send(b"\x1b")
    terminal.wait(lambda: _TOKENS.search(terminal.output), 60)
    terminal.pump(2)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("models", nargs="*", help="a main model, and a draft")
    options.add_argument("--seconds", type=float, default=10, help="how long each row is measured")
    given = options.parse_args()
    print(f"{'the app, 120x40':40}{'CPU %':>8}{'wakeups/s':>10}{'paints/s':>9}{'KB/s':>9}")
    for rate in RATES:
        with chat(f"scripted:sample?rate={rate}&tokens=4000") as terminal:
            if rate == RATES[0]:
                report("at rest, nothing asked yet", terminal, given.seconds)
            streaming(f"scripted, {rate} tokens/s", terminal, given.seconds)
            if rate == RATES[-1]:
                report("at rest, an answer there", terminal, given.seconds)
    if given.models:
        with chat(*given.models[:2]) as terminal:
            streaming(f"{Path(given.models[0]).stem[:38]}", terminal, given.seconds)
            report("at rest, an answer there", terminal, given.seconds)


if __name__ == "__main__":
    main()
