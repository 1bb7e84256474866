"""The line of the benchmarks is late by its delay alone."""

from __future__ import annotations

import gc
import socket

from tests.support.slow_line import SlowLine


def test_no_piece_waits_for_an_acknowledgement_of_the_one_before() -> None:
    """Both sockets of the line send at once."""
    with (
        socket.create_server(("127.0.0.1", 0)) as target,
        SlowLine(target.getsockname()[1], 1e9, 0.0) as line,
        socket.create_connection(("127.0.0.1", line.port)) as here,
    ):
        here.sendall(b"x")
        there, _ = target.accept()
        with there:
            assert there.recv(1) == b"x"
            ends = {here.getpeername(), there.getpeername()}
            own = [each for each in _sockets() if each.getsockname() in ends]
            assert len(own) == 2
            assert all(each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for each in own)


def _sockets() -> list[socket.socket]:
    """All connected sockets of this process."""
    found = []
    for each in gc.get_objects():
        if isinstance(each, socket.socket) and each.fileno() >= 0 and each.family == socket.AF_INET:
            try:
                each.getpeername()
            except OSError:
                continue
            found.append(each)
    return found
