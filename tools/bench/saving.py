"""The cost of saving chats: to an answer that comes, to the next question, and to the frames of the screen.

    python -m tools.bench.saving MAIN [--tokens 2000] [--answer 48] [--times 7]

Two sessions with the same model answer the same chat in turns. One saves nothing, the other saves to the disk
and in memory. Before each question, the second one is in the middle of a save, as if the question had come
then, so its answer runs while the system still writes to the disk. Then the parts of a save are timed: the
copy of the cache, and the pieces that go to the disk. A question can wait for one of these. Last, another
process ticks 30 times a second, as the app does while an answer comes, and tells how late its ticks are: with
an engine that sleeps, and with one that saves. Medians, with the smallest and the largest value.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter, process_time, sleep

from tui.engine.session import Session
from tui.engine.states.state_folder import StateWriter
from tui.protocol import Event, Finished, Generate, Load, Loaded, Message, Sampling

_TEXT = "The river rises in the hills, and the people of the valley say that it is older than the hills. "
_ROOM = 1 << 36
_PIECES = 2
"""Pieces that are written before a question interrupts a save."""
_TICKS = """
import sys, time
late, tick, until = [], 1 / 30, time.perf_counter() + float(sys.argv[1])
due = time.perf_counter() + tick
while due < until:
    time.sleep(max(0.0, due - time.perf_counter()))
    late.append(time.perf_counter() - due)
    due = max(due + tick, time.perf_counter())
late.sort()
print(1e3 * late[len(late) // 2], 1e3 * late[int(len(late) * 0.95)], 1e3 * late[-1])
"""


class Talk:
    """A session that has loaded the model, and the seconds of its answers."""

    def __init__(self, options: argparse.Namespace, *, saves: bool) -> None:
        self._events: list[Event] = []
        self._numbers = count(1)
        self.session = Session(self._events.append, lambda _: False)
        room = _ROOM if saves else -1
        load = Load(
            str(options.main), "none", options.tokens + 4096, disk_cache=room, memory_cache=max(0, room)
        )
        self.session.do(load)
        if not isinstance(self._events[-1], Loaded):
            raise SystemExit(str(self._events[-1]))
        encode = self.session._loaded.main.vocabulary.encode
        self._chat = [Message("user", _TEXT * (options.tokens // len(encode(_TEXT))))]
        self._most = options.answer

    def ask(self) -> tuple[float, float]:
        """Answer, and ask on. Return the milliseconds for a token: on the clock, and of the processor."""
        began = process_time()
        command = Generate(
            next(self._numbers), tuple(self._chat), 1, Sampling(temperature=0.0), draft_length=0,
            lookup=False, max_tokens=self._most, ignore_eos=True, chat="long",
        )  # fmt: skip
        self.session.do(command)
        end = self._events[-1]
        if not isinstance(end, Finished):
            raise SystemExit(str(end))
        busy = process_time() - began
        self._chat += [Message("assistant", "Yes."), Message("user", "Then tell me more about the river.")]
        return 1e3 * end.statistics.seconds / end.statistics.tokens, 1e3 * busy / end.statistics.tokens

    def interrupted_save(self) -> None:
        """Begin to save the whole chat, until a question comes."""
        chats = self.session._chats
        for states in chats._states:
            states.forget("long")
        written = iter(range(_PIECES + 1))
        chats.save(lambda: next(written, None) is not None)

    def steps_of_a_save(self) -> Iterator[tuple[str, float]]:
        """Save the whole chat. Yield the name and the milliseconds of each step."""
        chats = self.session._chats
        for states in chats._states:
            states.forget("long")
        began = perf_counter()
        chats._take(lambda covered: 1)
        yield "the copy of the cache", 1e3 * (perf_counter() - began)
        step, times = StateWriter.step, list[float]()

        def timed(writer: StateWriter) -> bool:
            began = perf_counter()
            done = step(writer)
            times.append(1e3 * (perf_counter() - began))
            return done

        StateWriter.step = timed  # type: ignore[method-assign, assignment]
        chats.save(lambda: True)
        StateWriter.step = step  # type: ignore[method-assign]
        yield from (("a piece to the disk", each) for each in times)


def spread(values: list[float]) -> str:
    return f"{median(values):8.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("main", type=Path)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--answer", type=int, default=48, help="tokens of an answer")
    parser.add_argument("--times", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        _measure(options)


def _measure(options: argparse.Namespace) -> None:
    plain, saving = Talk(options, saves=False), Talk(options, saves=True)
    for each in (plain, saving):
        each.ask()
    times: dict[str, list[tuple[float, float]]] = {"saves nothing": [], "saves": []}
    for _ in range(options.times):
        times["saves nothing"].append(plain.ask())
        saving.interrupted_save()
        times["saves"].append(saving.ask())
    print("milliseconds for a token of an answer: median (smallest to largest)")
    for name, found in times.items():
        clock, busy = (list(column) for column in zip(*found, strict=True))
        print(f"  {name:14} clock {spread(clock)}   processor {spread(busy)}", flush=True)
    steps: dict[str, list[float]] = {}
    for _ in range(options.times):
        for name, milliseconds in saving.steps_of_a_save():
            steps.setdefault(name, []).append(milliseconds)
    print("milliseconds that a question can wait for a save")
    for name, found_ in steps.items():
        print(f"  {name:22} {spread(found_)}", flush=True)
    print("milliseconds that a tick of another process is late: median, 95 of 100, latest")
    for name, work in (("an engine that sleeps", None), ("an engine that saves", saving)):
        print(f"  {name:22} {_lateness(work)}", flush=True)


def _lateness(saving: Talk | None, seconds: float = 10.0) -> str:
    """Return how late another process ticks while the chat is saved again and again, or while we sleep."""
    child = subprocess.Popen([sys.executable, "-c", _TICKS, str(seconds)], stdout=subprocess.PIPE, text=True)
    while child.poll() is None:
        if saving is None:
            sleep(0.1)
        else:
            list(saving.steps_of_a_save())
    assert child.stdout
    return "  ".join(f"{float(each):7.2f}" for each in child.stdout.read().split())


if __name__ == "__main__":
    main()
