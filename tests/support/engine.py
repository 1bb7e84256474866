"""An engine as a real child process, spoken to over its pipes."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeVar

from tui.choices import LOOKUP
from tui.protocol import (
    Command,
    Event,
    Finished,
    Generate,
    Load,
    Loaded,
    Message,
    Origin,
    Rounds,
    TextRound,
    decode_event,
    encode,
)

Kind = TypeVar("Kind", bound=Event)


class Engine:
    """A child process and both ends of its pipe."""

    def __init__(self, log: Path, heartbeat: float = 20.0, before: str = "") -> None:
        """`before` is Python that the child runs first."""
        code = f"{before}\nfrom tui.engine.server import main\nmain({heartbeat})"
        self.log = log
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
            )
        self._pending = b""

    def send(self, *commands: Command | bytes) -> None:
        assert self.process.stdin is not None
        for command in commands:
            data = memoryview(command if isinstance(command, bytes) else encode(command))
            while data:
                data = data[self.process.stdin.write(data) :]

    def next(self, seconds: float = 60.0) -> Event:
        """The next event; every line must be one."""
        assert self.process.stdout is not None
        while b"\n" not in self._pending:
            assert select.select([self.process.stdout], [], [], seconds)[0], "the engine says nothing"
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            if not data:
                raise EOFError(self.process.wait(60))
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return decode_event(line)

    def until(self, kind: type[Kind], seconds: float = 60.0) -> tuple[Kind, list[Event]]:
        """The next event of a kind, and what came before it."""
        before: list[Event] = []
        while not isinstance(event := self.next(seconds), kind):
            before.append(event)
        return event, before

    def load(self, main: str, draft: str = LOOKUP, context_length: int = 0) -> Loaded:
        self.send(Load(main, draft, context_length, threads=1))
        return self.until(Loaded)[0]

    def answer(self, command: Generate) -> tuple[str, Finished]:
        self.send(command)
        finished, events = self.until(Finished)
        return text_of(events), finished

    def ended(self, seconds: float = 60.0) -> int:
        return self.process.wait(seconds)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def rounds_of(events: list[Event]) -> list[TextRound]:
    return [each for event in events if isinstance(event, Rounds) for each in event.rounds]


def text_of(events: list[Event]) -> str:
    pieces = (piece for each in rounds_of(events) for piece in each.pieces)
    return "".join(text for text, origin in pieces if origin != Origin.REJECTED)


def question(answer: int = 1, text: str = "Hello?", **settings: Any) -> Generate:
    return Generate(answer, (Message("user", text),), **{"seed": 1, "lookup": False, **settings})
