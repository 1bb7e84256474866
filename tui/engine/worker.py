"""`outrider worker`: serves the devices of this machine to an engine on another one. A PROCESS OF ITS OWN.

The engine starts it by ssh and speaks to it over the pipe of ssh. llama.cpp takes one connection, on the
loopback address alone, and needs no file. With MLX, the worker opens its own copy of the model
(`ring_follower.py`). The process ends with its link: when the pipe closes, when nothing is heard for some
seconds, or when the connection of llama.cpp is over.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NoReturn

from ..protocol import Lines, ProtocolError
from .machine.hardware import memory_bytes
from .machine.worker_messages import (
    LONGEST_ORDER,
    Alive,
    FromWorker,
    Greeting,
    Joined,
    Listen,
    Listening,
    OfRing,
    Probe,
    Survey,
    Surveyed,
    ToWorker,
    Unable,
    WorkerDevice,
    to_worker,
    written,
)
from .sentences import reason_of
from .server import settle_process, take_descriptors

if TYPE_CHECKING:
    from .ring_follower import RingFollower

SILENCE = 10.0
"""Seconds without a message after which the worker ends itself. The engine sends one every second."""
_OPENING = 5.0
"""Seconds in which llama.cpp must open its port."""


def main(silence: float = SILENCE) -> NoReturn:
    """Serve until the engine is gone. Never returns."""
    if os.isatty(0):
        print("outrider: an engine starts workers by itself: run `outrider --workers THIS-MACHINE` there.")
        sys.exit(2)
    worker = Worker(*take_descriptors(), silence)
    settle_process()
    worker.send(Greeting.here())
    worker.listen()


class Worker:
    """The end of the pipe on the worker's machine. `listen` reads; two threads send and compute."""

    def __init__(self, source: int, sink: int, silence: float) -> None:
        """`source` and `sink` are descriptors to read from and to write to."""
        self._source, self._sink, self._silence = source, sink, silence
        self._writing = threading.Lock()
        self._opened = threading.Lock()
        self._served: ServedDevices | None = None
        self._follower: RingFollower | None = None

    def send(self, message: FromWorker) -> None:
        """Send a message, or end the process if nobody reads it."""
        try:
            with self._writing:
                os.write(self._sink, written(message))
        except OSError:
            _leave(0)

    def listen(self) -> NoReturn:
        """Carry out messages until the engine is gone or silent."""
        lines = Lines(LONGEST_ORDER)
        while select.select([self._source], [], [], self._silence)[0]:
            data = os.read(self._source, 1 << 16)
            if not data:
                _leave(0)
            try:
                for line in lines.feed(data):
                    self._receive(to_worker(line))
            except ProtocolError:
                _leave(1)
        print(f"nothing heard from the engine for {self._silence:g} s", file=sys.stderr, flush=True)
        _leave(1)

    def _receive(self, message: ToWorker | None) -> None:
        match message:
            case Probe():
                self.send(Alive(message.number))
            case _ if isinstance(message, OfRing) or message == Survey("MLX"):
                self._follow(message)
            case Survey() | Listen():  # they load the library, and probes must be answered meanwhile
                threading.Thread(target=self._carry_out, args=(message,), daemon=True).start()
            case Joined():
                if self._served:
                    self._served.close_door()
            case None:
                self.send(Unable("a message was not understood"))

    def _follow(self, message: OfRing | Survey) -> None:
        if self._follower is None:
            from .ring_follower import RingFollower  # after the greeting: it imports numpy

            self._follower = RingFollower(self.send)
        self._follower.put(message)

    def _carry_out(self, message: Survey | Listen) -> None:
        try:
            with self._opened:
                self._served = served = self._served or ServedDevices()
            self.send(served.survey() if isinstance(message, Survey) else Listening(served.open()))
        except Exception as error:  # the process edge: a foreign library may raise anything
            self.send(Unable(reason_of(error)))


class ServedDevices:
    """The devices that llama.cpp serves: all GPUs, or else the processor."""

    def __init__(self) -> None:
        """Load llama.cpp. Raises any error of it."""
        from .backends.llama_cpp import native, rpc

        self._native, self._rpc = native, rpc
        self._library: Any = native.bindings()
        native.NativeLog().install(self._library)
        self._library.llama_backend_init()
        self._link = rpc.Rpc(self._library)
        self._port = 0

    def survey(self) -> Surveyed:
        """Return the devices with their free memory."""
        gpus = self._native.gpus(self._library)
        devices = [WorkerDevice(gpu.name[:200], gpu.free, gpu.total) for gpu in gpus]
        if not devices:
            total, free = memory_bytes()
            threads = self._native.physical_cores()
            name = f"CPU, {threads} thread{'' if threads == 1 else 's'}"
            devices = [WorkerDevice(name, total if free is None else free, total)]
        return Surveyed(self._link.build, tuple(devices))

    def open(self) -> int:
        """Take connections on a free port of the loopback address. Return the port."""
        if not self._port:
            threading.Thread(target=self._serve, name="rpc", daemon=True).start()
            self._port = self._wait_for_door()
        return self._port

    def close_door(self) -> None:
        """Take no further connection. The process ends with the one that is open."""
        self._rpc.close_door()

    def _serve(self) -> NoReturn:
        gpus = [gpu.handle for gpu in self._native.gpus(self._library)]
        try:
            self._link.serve(gpus or [self._native.processor(self._library)], self._native.physical_cores())
        finally:
            _leave(0)

    def _wait_for_door(self) -> int:
        until = time.monotonic() + _OPENING
        while time.monotonic() < until:
            if found := self._rpc.door():
                return found[1]
            time.sleep(0.01)
        raise TimeoutError("llama.cpp opens no port")


def _leave(status: int) -> NoReturn:
    """End the process at once, because a native call on another thread cannot be waited for."""
    os._exit(status)
