"""The lines of an MLX ring: each machine has a connection to the one before it and to the one behind it.

mlx opens both by itself: it takes one connection at a port, and connects to another. Here both ports are on
the loopback address, and ssh carries the bytes between the machines. All doors close at their first
connection.

mlx stops all Python of its process while it waits for a connection. So its own two connections are made at
once and without a remote machine: a helper process dials its port, and the other port is a door whose queue
takes the connection. On a worker, the helper then joins the ends of ssh to those of mlx, and carries the
bytes. On the engine's machine, it becomes the ssh process itself. This module loads no native library.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from threading import Thread
from time import monotonic, sleep
from typing import NoReturn, Protocol

from ...host import LOOPBACK

_OPENING = 20.0
"""Seconds in which mlx must open its port."""
_AGAIN = 0.005
_PIECE = 1 << 16
_HELPER = (sys.executable, "-m", __name__)

Join = Callable[[int, int], None]
"""Joins the ring: takes a connection at the first port and connects to the second."""


class RingMember(Protocol):
    """A worker whose entrance is open."""

    def tunnel(self, connection: socket.socket, port: int, before: Sequence[str] = ()) -> None:
        """Carry a connection to a port of the loopback address there. `before` are words before ssh."""
        ...


class Entrance:
    """The doors of one worker: two for ssh, and one for mlx on this machine."""

    def __init__(self) -> None:
        self._doors = tuple(_door() for _ in range(3))
        self.left, self.right, self._inner = map(_port, self._doors)
        """The ports for ssh: the line to the machine before this one, and to the one behind it."""
        self._helper: subprocess.Popen[bytes] | None = None

    def join(self, join: Join) -> None:
        """Let mlx join the ring. Raises its errors. The helper ends when this process ends."""
        with _reserved() as kept:
            accepts = _port(kept)
            numbers = [each.fileno() for each in self._doors]
            words = [*_HELPER, "relay", str(accepts), *map(str, numbers)]
            self._helper = subprocess.Popen(words, stdin=subprocess.PIPE, pass_fds=numbers)
            for each in self._doors:
                each.close()
            join(accepts, self._inner)


def close_ring(members: Sequence[tuple[RingMember, int, int]], join: Join) -> None:
    """Connect all machines of a ring, with this one as the first.

    `members` are the workers in their order, each with the ports of its entrance: left and right.
    """
    (first, left, _), (last, _, right) = members[0], members[-1]
    with _reserved() as kept, _door() as door:
        accepts = _port(kept)
        one, other = socket.socketpair()  # the helper replaces it by its connection to mlx
        other.close()
        last.tunnel(one, right, before=[*_HELPER, "dial", str(accepts)])
        join(accepts, _port(door))
        first.tunnel(_first(door), left)
    for (before, _, leads), (behind, enters, _) in pairwise(members):
        one, other = socket.socketpair()
        before.tunnel(one, leads)
        behind.tunnel(other, enters)


def _door() -> socket.socket:
    return socket.create_server((LOOPBACK, 0), backlog=1)


def _reserved() -> socket.socket:
    """Return a socket that keeps a free port for mlx, which shares the port and listens there."""
    kept = socket.socket()
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        kept.setsockopt(socket.SOL_SOCKET, option, 1)
    kept.bind((LOOPBACK, 0))
    return kept


def _port(each: socket.socket) -> int:
    return int(each.getsockname()[1])


def _first(door: socket.socket) -> socket.socket:
    """Return the first connection at a door, and close the door."""
    with door:
        connection, _ = door.accept()
    return _quick(connection)


def _dialed(port: int) -> socket.socket:
    """Return a connection to a port of this machine as soon as it opens. Raises `OSError` after a while."""
    until = monotonic() + _OPENING
    while True:
        try:
            return _quick(socket.create_connection((LOOPBACK, port)))
        except OSError:
            if monotonic() > until:
                raise
            sleep(_AGAIN)


def _quick(connection: socket.socket) -> socket.socket:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


# The helper


def dial(port: int, command: Sequence[str]) -> NoReturn:
    """Become `command`, with a connection to a port of this machine as its standard input and output."""
    connection = _dialed(port)
    for descriptor in (0, 1):
        os.dup2(connection.fileno(), descriptor)
    os.execvp(command[0], list(command))


def relay(port: int, doors: Sequence[int]) -> None:
    """Carry bytes between mlx and ssh, until standard input closes.

    mlx listens at `port`. The doors are for the machine before this one, for the one behind it, and for mlx.
    """
    left, right, inner = (socket.socket(fileno=each) for each in doors)
    mine = _dialed(port)
    Thread(target=lambda: _joined(_first(left), mine), daemon=True).start()
    Thread(target=lambda: _joined(_first(inner), _first(right)), daemon=True).start()
    while os.read(0, 1):
        pass
    os._exit(0)


def _joined(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways between two connections until one of them ends."""
    for source, sink in ((one, other), (other, one)):
        Thread(target=_carry, args=(source, sink), name="ring line", daemon=True).start()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    room = memoryview(bytearray(_PIECE))
    with suppress(OSError):
        while count := source.recv_into(room):
            sink.sendall(room[:count])
    for each in (source, sink):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    _, way, number, *rest = sys.argv
    if way == "dial":
        dial(int(number), rest)
    relay(int(number), [int(each) for each in rest])
