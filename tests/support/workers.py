"""Workers for tests: real ones behind a real sshd, and programs that stand in for ssh and the worker."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.support.engine import Engine
from tests.support.sshd import SOON, Server
from tui.client import EngineClient, running
from tui.engine.machine.worker_messages import has_rpc
from tui.host import HERE
from tui.protocol import (
    Finished,
    Generate,
    Hello,
    Load,
    Loaded,
    Message,
    Statistics,
    TextRound,
    WorkerHost,
)

with_rpc = pytest.mark.skipif(
    not has_rpc(), reason="llama.cpp was built without RPC: `make clean test` builds it with RPC"
)


def worker_hosts(server: Server, *names: str) -> tuple[WorkerHost, ...]:
    """Machines of the server's ssh under `names`: "gpu", "gpu2", "gpu3"."""
    return tuple(WorkerHost(name, name, str(server.program)) for name in names)


def fake_ssh(folder: Path, program: str) -> Path:
    """A folder for PATH whose `ssh` runs `program`, in Python, in place of a login.

    The program has `hello`, the greeting of this installation as a dictionary, `say(message)`, and `heard`,
    which yields the messages of the engine.
    """
    folder.mkdir()
    ssh = folder / "ssh"
    ssh.write_text(f"#!{sys.executable}\n{_BEFORE}\n{program}\n")
    ssh.chmod(0o755)
    return folder


_BEFORE = """
import json, os, sys, time
import msgspec
from tui.engine.machine.worker_messages import Greeting
hello = {"type": "greeting", **msgspec.to_builtins(Greeting("0.1.0", "1.2.3", "7.0"))}
def say(message):
    print(message if isinstance(message, str) else json.dumps(message), flush=True)
def listen():
    for line in sys.stdin:
        yield json.loads(line)
heard = listen()
"""


class HeldTunnels:
    """An ssh whose tunnels wait, so that the doors of both ends stay open."""

    def __init__(self, folder: Path, server: Server) -> None:
        folder.mkdir()
        self._go = folder / "go"
        ssh = folder / "ssh"
        ssh.write_text(
            f'#!/bin/sh\ncase "$*" in *" -W "*) while [ ! -e {self._go} ]; do sleep 0.05; done;; esac\n'
            f'exec {shutil.which("ssh", path=server.path)} "$@"\n'
        )
        ssh.chmod(0o755)
        self.path = f"{folder}:{server.path}"
        self._server = server

    async def doors_of(self, load: Load, log: Path) -> set[tuple[str, int]]:
        """Load in a new engine. Return the doors of all processes while the tunnels wait."""
        async with running(EngineClient(HERE, log, os.environ)) as client:
            hello = await client.start()
            watching = asyncio.get_running_loop().run_in_executor(None, self._doors, hello.pid)
            await client.load(load, lambda progress: None)
            return await watching

    def _doors(self, engine: int) -> set[tuple[str, int]]:
        """Wait until a worker has opened doors, and let the tunnels go on. Return all doors."""
        found: set[tuple[str, int]] = set()
        until = monotonic() + 60
        while not found and monotonic() < until:
            found = listening(self._server.processes())
            sleep(0.02)
        found |= listening([engine, *children(engine)])
        self._go.touch()
        return found


def listening(pids: list[int]) -> set[tuple[str, int]]:
    """The addresses and ports at which one of the processes takes connections. Linux only."""
    sockets = {name for pid in pids for name in _descriptors(pid)}
    found = set()
    for name, length in (("tcp", 8), ("tcp6", 32)):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and f"socket:[{rest[5]}]" in sockets:
                address, port = local.split(":")
                assert len(address) == length
                found.add((address, int(port, 16)))
    return found


LOOPBACK = "0100007F"
"""127.0.0.1 as the kernel writes it."""


def _descriptors(pid: int) -> list[str]:
    """The open files of a process, as the kernel names them. One that closes meanwhile is left out."""
    found = []
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found.append(str(link.readlink()))
    return found


QUESTION = (Message("user", "What is a draft model?"),)


async def answered(
    load: Load, log: Path, meanwhile: Callable[[int], None] = lambda pid: None, **how: object
) -> tuple[Loaded, list[int], Statistics]:
    """Load in a new engine and answer a question.

    `meanwhile` is called with the engine's process during the answer.
    """
    client = EngineClient(HERE, log, os.environ, agent=True)
    tokens: list[int] = []
    async with running(client):
        hello = await client.start()
        loaded = await client.load(load, lambda progress: None)
        wish = Generate(1, QUESTION, 5, **{"max_tokens": 60, "lookup": False, **how})  # type: ignore[arg-type]
        async with aclosing(client.generate(wish)) as events:
            async for event in events:
                if isinstance(event, TextRound):
                    tokens += event.tokens
                    meanwhile(hello.pid)
                    meanwhile = lambda pid: None  # noqa: E731
                elif isinstance(event, Finished):
                    return loaded, tokens, event.statistics
    raise AssertionError("the answer did not finish")


def check_killed_engine(load: Load, log: Path, server: Server) -> None:
    """Neither the workers with their helpers nor the ssh processes outlive an engine that is killed."""
    engine = Engine(log)
    try:
        engine.until(Hello)
        engine.send(load)
        engine.until(Loaded)
        links = [pid for pid in children(engine.process.pid) if is_ssh(pid)]
        assert len(links) >= 4 and server.processes()
        engine.process.kill()
        assert server.ends()
        end = monotonic() + SOON
        while any(map(is_ssh, links)) and monotonic() < end:
            sleep(0.05)
        assert not any(map(is_ssh, links))
    finally:
        engine.close()


def children(pid: int) -> list[int]:
    """The processes that `pid` has started."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(place.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(place.parent.name))
        except OSError:
            continue
    return found


def is_ssh(pid: int) -> bool:
    """Whether the process still runs. A dead one that nobody has waited for has no command line."""
    try:
        return b"ssh" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
