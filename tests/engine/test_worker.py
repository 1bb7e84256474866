"""`outrider worker` as a real process: it serves the loopback address alone, once, and ends with its link."""

from __future__ import annotations

import os
import pty
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support.workers import LOOPBACK, listening, with_rpc
from tui.engine.machine.worker_messages import (
    LONGEST_ORDER,
    RPC_PROTOCOL,
    Alive,
    FromWorker,
    Greeting,
    Joined,
    Listen,
    Listening,
    Probe,
    Survey,
    Surveyed,
    Unable,
    from_worker,
    written,
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
Kind = TypeVar("Kind", bound=FromWorker)
SOON = 30.0
"""Seconds in which a process ends or a library is loaded, on a busy machine too."""


class WorkerProcess:
    """A worker and both ends of its pipe."""

    def __init__(self, log: Path, silence: float = 600.0) -> None:
        code = f"from tui.engine.worker import main\nmain({silence})"
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, bufsize=0,
            )  # fmt: skip
        self._rest = b""

    def send(self, *messages: object) -> None:
        assert self.process.stdin
        for message in messages:
            self.process.stdin.write(message if isinstance(message, bytes) else written(message))  # type: ignore[arg-type]

    def next(self, kind: type[Kind]) -> Kind:
        """The next message, which must be of this kind."""
        assert self.process.stdout
        while b"\n" not in self._rest:
            assert select.select([self.process.stdout], [], [], SOON)[0], "the worker says nothing"
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            assert data, "the worker has ended"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        message = from_worker(line)
        assert isinstance(message, kind), line
        return message

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()


Start = Callable[..., WorkerProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    made: list[WorkerProcess] = []

    def make(**how: float) -> WorkerProcess:
        made.append(WorkerProcess(tmp_path / f"log{len(made)}", **how))
        return made[-1]

    yield make
    for each in made:
        each.close()


def until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + SOON
    while not (true := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return true


def test_it_greets_with_its_versions_and_ends_with_its_pipe(start: Start) -> None:
    worker = start()
    assert worker.next(Greeting) == Greeting.here()
    worker.send(Probe(7))
    assert worker.next(Alive).number == 7
    assert worker.process.stdin
    worker.process.stdin.close()
    assert worker.process.wait(SOON) == 0


def test_it_ends_when_nothing_is_heard(start: Start) -> None:
    assert start(silence=0.3).process.wait(SOON) == 1


@pytest.mark.parametrize(
    "line", [b'{"type": "survey"', b"\xff\xfe", b'{"type": "listen", "address": "0.0.0.0"']
)
def test_a_message_that_is_none_is_rejected(start: Start, line: bytes) -> None:
    worker = start()
    worker.next(Greeting)
    worker.send(line + b"\n", Probe(1))
    assert worker.next(Unable).reason == "a message was not understood"
    assert worker.next(Alive).number == 1, "it goes on"


def test_a_line_without_end_ends_it(start: Start) -> None:
    worker = start()
    worker.next(Greeting)
    worker.send(b"x" * (LONGEST_ORDER + 1))
    assert worker.process.wait(SOON) == 1


def test_a_person_who_starts_it_is_told_how_it_is_meant() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "tui", "worker"]
    ran = subprocess.run(command, stdin=theirs, capture_output=True, text=True, timeout=60, check=False)
    os.close(ours)
    os.close(theirs)
    assert ran.returncode == 2 and "--workers" in ran.stdout + ran.stderr and "{" not in ran.stdout


@with_rpc
def test_it_surveys_its_devices_and_takes_probes_meanwhile(start: Start) -> None:
    worker = start()
    worker.next(Greeting)
    worker.send(Survey(), Probe(1))
    worker.next(Alive)  # the library is not loaded yet
    found = worker.next(Surveyed)
    assert found.build and found.devices
    assert all(0 < device.free <= device.total for device in found.devices)


@with_rpc
@linux
def test_it_listens_on_the_loopback_address_alone_and_not_for_long(start: Start) -> None:
    worker = start()
    worker.next(Greeting)
    assert listening([worker.process.pid]) == set(), "nothing before it is asked"
    worker.send(Listen())
    port = worker.next(Listening).port
    assert listening([worker.process.pid]) == {(LOOPBACK, port)}
    worker.send(Listen())
    assert worker.next(Listening).port == port
    with socket.create_connection(("127.0.0.1", port)) as connection:
        assert hello(connection).startswith(bytes(map(int, RPC_PROTOCOL.split("."))))
        worker.send(Joined(), Probe(2))
        worker.next(Alive)
        assert until(lambda: listening([worker.process.pid]) == set())
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port))
        assert worker.process.poll() is None, "the connection goes on"
    assert worker.process.wait(SOON) == 0, "it ends with its connection"


@with_rpc
def test_it_ends_with_its_pipe_also_while_it_is_connected(start: Start) -> None:
    worker = start()
    worker.next(Greeting)
    worker.send(Listen())
    with socket.create_connection(("127.0.0.1", worker.next(Listening).port)) as connection:
        hello(connection)
        assert worker.process.stdin
        worker.process.stdin.close()
        assert worker.process.wait(SOON) == 0


def hello(connection: socket.socket) -> bytes:
    """The versions in the reply to the first command of RPC: its number, and 24 bytes of capabilities."""
    connection.settimeout(SOON)
    connection.sendall(bytes([14]) + (24).to_bytes(8, "little") + bytes(24))
    reply = b""
    while len(reply) < 12 and (data := connection.recv(64)):
        reply += data
    return reply[8:]
