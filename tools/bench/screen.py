"""Times what a person feels, in a real pty: start, first paint, key echo, toggling. Prints a table.

Every figure that has a rival is taken in the same run, one after the other in turns: an empty Textual app for
the start. Run it on a quiet machine: `make bench`.
"""

from __future__ import annotations

import compileall
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.support.terminal import Terminal, python

PACKAGE = Path(__file__).parent.parent.parent / "tui"
EMPTY_APP = """
from textual.app import App
from textual.widgets import Static
class Empty(App):
    def compose(self): yield Static("FIRST-PAINT")
Empty().run()
"""
TOKENS_PER_ROUND = 2.77
"""Of four drafted tokens, each accepted with 0.7: (1 - 0.7 ** 5) / (1 - 0.7)."""
PLACEHOLDER = b"sk something"
"""Of the composer, without its first letter, on which the cursor stands."""
KEYS = 60
TYPED = [chr(0x3B1 + i % 24) for i in range(KEYS)]
"""Greek letters: the streamed sample has none, so that their first appearance is the echo."""


def outrider(main: str = "", draft: str = "") -> Terminal:
    """The chat in a terminal of 120x40, with the starter pair if no main model is named."""
    home = Path(tempfile.mkdtemp(prefix="outrider-bench-"))
    (home / "outrider").mkdir()
    (home / "outrider" / "config.toml").write_text("[models]\ncontext_length = 50_000\n")
    env = {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_STATE_HOME": str(home)}
    options = ["--main", main, "--draft", draft] if main else []
    command = str(Path(sys.executable).with_name("outrider"))
    return Terminal([command, *options], rows=40, columns=120, env=env)


def seconds_until(terminal: Terminal, started: float, what: Callable[[], object] | bytes) -> float:
    terminal.wait(what, 30)
    return time.perf_counter() - started


def median_ms(values: list[float]) -> float:
    return statistics.median(values) * 1000


def starts(times: int) -> Iterator[tuple[str, float]]:
    """First bytes, the chat's first paint, the engine ready; beside an empty Textual app, in turns."""
    first: list[float] = []
    painted: list[float] = []
    ready: list[float] = []
    empty: list[float] = []
    compileall.compile_dir(PACKAGE, quiet=1)  # as an installation does, whatever PYTHONDONTWRITEBYTECODE says
    for _ in range(times):
        began = time.perf_counter()
        with outrider() as terminal:
            first.append(seconds_until(terminal, began, lambda: terminal.output))
            painted.append(seconds_until(terminal, began, PLACEHOLDER))
            ready.append(seconds_until(terminal, began, b"ready"))
        began = time.perf_counter()
        with python(EMPTY_APP) as terminal:
            empty.append(seconds_until(terminal, began, b"FIRST-PAINT"))
    yield "first frame of ours after exec, ms", median_ms(first)
    yield "the chat painted, ms", median_ms(painted)
    yield "an empty Textual app painted, ms", median_ms(empty)
    yield "the chat painted / an empty Textual app", median_ms(painted) / median_ms(empty)
    yield "engine ready with the starter pair, ms", median_ms(ready)


@contextmanager
def streaming(tokens: int, rate: int) -> Iterator[Terminal]:
    """A chat in which an answer of that many tokens has just been painted, and another streams at `rate`."""
    total = tokens + rate * 60
    main = f"scripted:sample?rate={rate / TOKENS_PER_ROUND}&tokens={total}"
    with outrider(main, "scripted:draft?acceptance=0.7") as terminal:
        terminal.wait(b"ready", 30)
        terminal.send(b"go\r")
        terminal.pump(1 + tokens / rate)
        yield terminal


def _came(terminal: Terminal, letter: bytes, seen: int) -> bool:
    return terminal.output.count(letter) > seen


def echo(terminal: Terminal) -> list[float]:
    """Seconds from a key press to its letter on the screen."""
    taken = []
    for letter in TYPED:
        seen = terminal.output.count(letter.encode())
        pressed = time.perf_counter()
        terminal.send(letter.encode())
        terminal.wait(partial(_came, terminal, letter.encode(), seen), 10)
        taken.append(time.perf_counter() - pressed)
        terminal.pump(0.08)
    return taken


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def while_streaming(rate: int) -> Iterator[tuple[str, float]]:
    for length in (100, 5000):
        with streaming(length, rate) as terminal:
            taken = sorted(echo(terminal))
            before, began = cpu_seconds(terminal.pid), time.perf_counter()
            terminal.pump(5)
            spent = (cpu_seconds(terminal.pid) - before) / (time.perf_counter() - began)
        where = f"{rate} tokens/s, after {length:,} tokens"
        yield f"key echo, median ms, {where}", median_ms(taken)
        yield f"key echo, 95th percentile ms, {where}", taken[int(len(taken) * 0.95)] * 1000
        yield f"the app's CPU, ms a frame of 1/30 s, {where}", spent / 30 * 1000


def toggling(tokens: int) -> Iterator[tuple[str, float]]:
    """From ctrl+t to the last byte of the repaint, on a finished answer."""
    main = f"scripted:sample?rate=0&tokens={tokens}"
    with outrider(main, "scripted:draft?acceptance=0.7") as terminal:
        terminal.wait(b"ready", 30)
        terminal.send(b"go\r")
        terminal.wait(b"tok/s", 60)
        terminal.pump(2)
        taken = [burst(terminal, b"\x14") for _ in range(12)]
    yield f"highlight toggled on {tokens:,} tokens, median ms", median_ms(taken)


def burst(terminal: Terminal, key: bytes) -> float:
    """Seconds from a key to the last byte before 100 ms of silence."""
    size, pressed, last = len(terminal.output), time.perf_counter(), 0.0
    terminal.send(key)
    while time.perf_counter() - pressed - last < 0.1 or not last:
        terminal.pump(0.002)
        if len(terminal.output) > size:
            size, last = len(terminal.output), time.perf_counter() - pressed
    return last


def main() -> None:
    parts = [starts(5), while_streaming(400), toggling(5000)]
    for part in parts:
        for name, value in part:
            print(f"{value:10.2f}  {name}", flush=True)


if __name__ == "__main__":
    main()
