"""A line with a rate, a delay and little room, between a client and a port of this machine."""

from __future__ import annotations

import asyncio
import socket
import threading
from time import monotonic

from tests.support.terminal import Terminal

LETTERS = "αβγδεζηθικλμνξπρστυφχψω"
"""Nothing that is shown has them."""
_PIECE = 1_024
_PIECES = 16
"""Pieces that wait at its beginning; what more there is waits with the sender."""


def keys_while_streaming(
    terminal: Terminal, line: SlowLine, keys: int, warm_up: float
) -> tuple[list[float], float]:
    """Ask the chat in `terminal` something; after `warm_up` seconds of its answer press so many keys.

    The seconds from each key to the screen, and the bytes a second that come over `line` meanwhile.
    """
    terminal.wait(b"ready")
    terminal.send(b"go\r")
    terminal.wait(b"answering")
    terminal.pump(warm_up)
    before, began = line.carried[1], monotonic()
    waits = []
    for letter in LETTERS[:keys]:
        terminal.pump(0.35)
        pressed = monotonic()
        terminal.send(letter.encode())
        terminal.wait(letter.encode())
        waits.append(monotonic() - pressed)
    return waits, (line.carried[1] - before) / (monotonic() - began)


class SlowLine:
    """Takes connections on `port` and carries them to another, each way at `rate` bytes a second, `delay`
    seconds late. Use as a context manager.

    It carries `piece` bytes at a time: small pieces for a slow terminal, large ones for weights."""

    def __init__(self, target: int, rate: float, delay: float, piece: int = _PIECE) -> None:
        self.rate, self.delay = rate, delay
        self._piece, self._room = piece, _PIECES * piece
        self.carried = [0, 0]
        """Bytes to the target, and from it."""
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._room)
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> SlowLine:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result()
        return self

    def __exit__(self, *exception: object) -> None:
        async def stop() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._listener.close()

    async def _serve(self) -> None:
        await asyncio.start_server(self._connected, sock=self._listener, limit=self._room)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = socket.socket()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._room)
        # asyncio does it only for sockets that name their protocol. Else each short piece behind another one
        # would wait up to 40 ms for a delayed acknowledgement.
        for each in (there, writer.get_extra_info("socket")):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        there.connect(("127.0.0.1", self._target))
        far_reader, far_writer = await asyncio.open_connection(sock=there, limit=self._room)
        try:
            await asyncio.gather(self._carry(reader, far_writer, 0), self._carry(far_reader, writer, 1))
        except (OSError, asyncio.CancelledError):
            pass  # one end is gone, or all of it is over
        finally:
            writer.close()
            far_writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: int) -> None:
        free = 0.0  # when the line has sent all that it took
        try:
            while data := await reader.read(self._piece):
                self.carried[way] += len(data)
                free = max(free, monotonic()) + len(data) / self.rate
                await asyncio.sleep(free - monotonic())
                asyncio.get_running_loop().call_later(self.delay, writer.write, data)
        finally:
            asyncio.get_running_loop().call_later(self.delay, writer.close)
