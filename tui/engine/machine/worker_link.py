"""The link to one worker: a process on another machine that computes some layers of the main model.

One ssh runs `outrider worker` there and carries its messages. In the same connection, another ssh process
carries that of llama.cpp, or two carry those of an MLX ring, between a socket of this process and the
loopback address there. No port is open here, except for the moment in which the library connects. The ssh
processes meet at a Unix socket in a folder for this user alone. This module loads no native library.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Condition, Lock, Thread, Timer
from time import monotonic
from typing import TypeVar

from ...errors import OutriderError
from ...host import LOOPBACK, Host, said
from ...protocol import Lines, ProtocolError
from .meeting_place import MeetingPlace
from .worker_messages import (
    LONGEST,
    Alive,
    Chosen,
    FromWorker,
    Greeting,
    Joined,
    Library,
    Listen,
    Listening,
    Probe,
    StageFailed,
    StageReady,
    Survey,
    Surveyed,
    ToWorker,
    Unable,
    from_worker,
    written,
)

START = 10.0
"""Seconds in which a worker must greet, and then survey its devices. ssh waits as long for a machine."""
STALLED = 6.0
"""Seconds without a sign of life after which a worker counts as lost."""
_BEAT, _FIRST_BEATS = 1.0, 0.05
"""Seconds between two probes, and between the first ones, so that the round trip is known soon."""
_ROUND_TRIPS, _ENOUGH = 9, 5
"""Number of the latest probes of which the quickest gives the round trip, and of the first ones: a busy
machine makes single probes late."""
_TAIL = 1 << 14
"""Characters of ssh's and the worker's stderr that are kept, to explain a loss."""
_AGAIN = "Your next prompt starts the engine again, with the workers that are left."
_SAME = "Install the same version of Outrider on both, by `make clean run`."

Kind = TypeVar("Kind", bound=FromWorker)
_OF_RING = StageReady | StageFailed | Chosen


class WorkerLost(OutriderError):
    """A worker cannot be reached, does not fit this installation, or is gone."""


class WorkerLink:
    """A worker that runs, or the reason why it does not. Every method may be called from several threads."""

    def __init__(
        self,
        host: Host,
        greeting: Greeting | None = None,
        on_loss: Callable[[WorkerLink], None] | None = None,
        library: Library = "llama.cpp",
    ) -> None:
        """`greeting` is that of this installation. `on_loss` is called once, from another thread, when an
        attached worker is lost. `library` computes there."""
        self.host = host
        self.loss: WorkerLost | None = None
        """Why there is no worker; None while there is one."""
        self.port: int | None = None
        """The port of the loopback address here that llama.cpp knows the worker by; None if not attached."""
        self.held = 0
        """Bytes that the loaded pair takes there."""
        self.devices: list[int] = []
        """llama.cpp's pointers to the devices, in this process."""
        self.listener: Callable[[FromWorker], None] | None = None
        """Gets the messages of an MLX ring, from another thread."""
        self._library = library
        self._greeting = greeting or Greeting.here()
        self._on_loss = on_loss
        self._changed = Condition()
        self._asking = Lock()
        self._came: dict[type, FromWorker] = {}
        """The latest message of each kind that nobody has taken yet."""
        self._round_trips: deque[float] = deque(maxlen=_ROUND_TRIPS)
        self._sent: dict[int, float] = {}
        """When each probe without a reply was sent."""
        self._heard = monotonic()
        self._greeted = self._attached = False
        self._tail = ""
        self._meeting = MeetingPlace()
        self._ssh: subprocess.Popen[bytes] | None = None
        self._errors: Thread | None = None
        """Reads the stderr of `_ssh`, until its end."""
        self._tunnels: list[subprocess.Popen[bytes]] = []
        self._writing = Lock()

    @property
    def round_trip(self) -> float | None:
        """Seconds from a probe to its reply; None if there was none yet."""
        return min(self._round_trips, default=None)

    def start(self) -> None:
        """Start the worker and compare the versions. Raises `WorkerLost`."""
        self._meeting.prepare()
        command = self.host.command("worker", shared=self._meeting.path)
        try:
            self._ssh = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
            )
        except OSError as error:
            raise self._lose(f"ssh cannot be started: {error.strerror}", "Install it.") from None
        Thread(target=self._read, name=f"worker {self.host.name}", daemon=True).start()
        self._errors = Thread(target=self._read_errors, args=(self._ssh,), name="stderr", daemon=True)
        self._errors.start()
        theirs = self.wait(Greeting, START)
        self._greeted = True
        if fault := _misfit(theirs, self._greeting, self.host.name, self._library):
            raise self._lose(*fault)
        Thread(target=self._beat, name=f"beat {self.host.name}", daemon=True).start()

    def survey(self) -> Surveyed:
        """Return the devices of the worker and their free memory. The round trip is known then.

        Raises `WorkerLost`.
        """
        found = self.ask(Survey(self._library), Surveyed, START)
        with self._changed:
            self._changed.wait_for(lambda: self.loss or len(self._round_trips) >= _ENOUGH, START)
        return found

    def attach(self, connect: Callable[[int], list[int]]) -> list[int]:
        """Let `connect` connect llama.cpp to the worker, by a port of the loopback address here.

        Return its result, the devices. It runs only once in the life of a worker. Raises `WorkerLost`.
        """
        if self.devices:
            return self.devices
        there = self.ask(Listen(), Listening, START).port
        with socket.create_server((LOOPBACK, 0), backlog=1) as door:
            self.port = int(door.getsockname()[1])
            Thread(target=self._carry, args=(door, there), name="tunnel", daemon=True).start()
            self._attached = True
            late = Timer(START, self._too_late)
            late.start()
            try:
                self.devices = connect(self.port)
            finally:
                late.cancel()
        self.send(Joined())
        return self.devices

    def _carry(self, door: socket.socket, there: int) -> None:
        """Give the first connection to an ssh that carries it to the worker. Take no other one."""
        with suppress(OSError):
            connection, _ = door.accept()
            door.close()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.tunnel(connection, there)

    def tunnel(self, connection: socket.socket, port: int, before: Sequence[str] = ()) -> None:
        """Give a connection to an ssh that carries it to a port of the loopback address there.

        `before` are words before the command of ssh.
        """
        command = *before, *self.host.tunnel(port, shared=self._meeting.path)
        with connection:
            end = connection.fileno()
            ssh = subprocess.Popen(command, stdin=end, stdout=end, stderr=subprocess.PIPE)
        self._tunnels.append(ssh)
        Thread(target=self._read_errors, args=(ssh,), name="stderr", daemon=True).start()

    def rely(self) -> None:
        """Report a loss from now on: a library waits for the worker."""
        self._attached = True

    def _too_late(self) -> None:
        """llama.cpp waits for a connection that does not come."""
        with self._changed:
            self.loss = self.loss or self._lost_words("{name} takes no connection of llama.cpp", _AGAIN)
            self._changed.notify_all()
        self._report()

    def close(self) -> None:
        """End the worker and both ssh processes. May be called again."""
        with self._changed:
            self.loss = self.loss or WorkerLost(f"The worker {self.host.name} was closed")
            self._on_loss = None
            self._changed.notify_all()
        self._end()

    def kill(self) -> None:
        """Cut the link without waiting. The worker ends by itself."""
        for process in (self._ssh, *self._tunnels):
            if process and process.returncode is None:
                process.kill()
        self._meeting.remove()

    def lost_within(self, seconds: float) -> bool:
        """Return whether the worker is lost, or will be within `seconds`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.loss is not None, seconds) and self._tunnel_ended():
                words = "The connection to {name} is broken"
                if "prohibited" in self._tail:
                    words = "sshd on {name} forbids the connection of llama.cpp (AllowTcpForwarding)"
                self.loss = self._lost_words(words, _AGAIN)
            return self.loss is not None

    # Messages

    def ask(self, message: ToWorker, kind: type[Kind], seconds: float) -> Kind:
        """Send a message and return the reply. Raises `WorkerLost`."""
        with self._asking:
            with self._changed:
                self._came.pop(kind, None)
                self._came.pop(Unable, None)
            self.send(message)
            return self.wait(kind, seconds)

    def wait(self, kind: type[Kind], seconds: float) -> Kind:
        """Return the next message of this kind. Raises `WorkerLost`."""
        with self._changed:
            self._changed.wait_for(lambda: self.loss or self._came.keys() & {kind, Unable}, seconds)
            if self.loss:
                raise self.loss
            found = self._came.pop(kind, None)
            unable = self._came.pop(Unable, None)
        if isinstance(found, kind):
            return found
        if isinstance(unable, Unable):
            raise self._lose(f"{self.host.name}: {_line(unable.reason)}", "Run `outrider doctor` there.")
        raise self._lose(f"{self.host.name} did not answer within {seconds:g} seconds", "Check the network.")

    def send(self, *messages: ToWorker, patience: float = -1) -> None:
        """Send messages in one piece, unless another thread is sending for longer than `patience` seconds."""
        assert self._ssh and self._ssh.stdin
        if not self._writing.acquire(timeout=patience):
            return
        try:
            left = b"".join(map(written, messages))
            while left:
                left = left[self._ssh.stdin.write(left) or 0 :]
        except (OSError, ValueError):
            pass  # the reader explains the end of the link
        finally:
            self._writing.release()

    def _read(self) -> None:
        assert self._ssh and self._ssh.stdout
        lines = Lines(LONGEST)
        with self._ssh.stdout, suppress(OSError, ValueError, ProtocolError):
            while data := self._ssh.stdout.read(1 << 16):
                for line in lines.feed(data):
                    self._take(from_worker(line))
        self._ended()

    def _take(self, message: FromWorker | None) -> None:
        """Note a message. A login shell may print other lines before the greeting."""
        if message is None or (not self._greeted and not isinstance(message, Greeting | Unable)):
            return
        with self._changed:
            self._heard = monotonic()
            if isinstance(message, Alive):
                if (sent := self._sent.pop(message.number, None)) is not None:
                    self._round_trips.append(self._heard - sent)
            elif not (self.listener and isinstance(message, _OF_RING)):
                self._came[type(message)] = message
            self._changed.notify_all()
        if self.listener and isinstance(message, _OF_RING):
            self.listener(message)

    def _read_errors(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr
        with process.stderr, suppress(OSError, ValueError):
            while data := os.read(process.stderr.fileno(), 1 << 12):
                self._tail = (self._tail + data.decode("utf-8", "replace"))[-_TAIL:]

    def _beat(self) -> None:
        """Probe the worker every second, until it is lost."""
        number, self._heard = 0, monotonic()
        with self._changed:
            while self.loss is None:
                silent = monotonic() - self._heard
                if silent > STALLED:
                    self.loss = self._lost_words(f"{{name}} has not answered for {STALLED:g} seconds", _AGAIN)
                    break
                number += 1
                self._sent[number] = monotonic()
                self.send(Probe(number), patience=0)
                pause = _BEAT if number > _ENOUGH else _FIRST_BEATS
                self._changed.wait_for(lambda: self.loss is not None, pause)
        self._report()

    # The end

    def _ended(self) -> None:
        """The control connection is over: find out why."""
        assert self._ssh
        with suppress(subprocess.TimeoutExpired):
            self._ssh.wait(1)
        if self._errors:
            self._errors.join(1)  # its last words explain the end
        status, name = self._ssh.returncode, self.host.name
        found = said(self.host, status, self._tail)
        words = [line for line in self._tail.splitlines() if line.strip()]
        if self._greeted:  # ssh has the same status if the link breaks and if a signal ends the worker
            line, hint = f"The worker on {name} is gone, or its link is broken", _AGAIN
        elif found:
            line, hint, _ = found
        else:
            last = f": {_line(words[-1])}" if words else ""
            line, hint = f"The worker on {name} does not start{last}", f"Run `outrider doctor --host {name}`."
        with self._changed:
            self.loss = self.loss or WorkerLost(line, hint)
            self._changed.notify_all()
        self._report()

    def _tunnel_ended(self) -> bool:
        return any(each.poll() is not None for each in self._tunnels)

    def _lost_words(self, line: str, hint: str) -> WorkerLost:
        return WorkerLost(line.format(name=self.host.name), hint)

    def _lose(self, message: str, hint: str) -> WorkerLost:
        """End the link. Return the error to raise."""
        with self._changed:
            self.loss = self.loss or WorkerLost(message, hint)
            self._changed.notify_all()
        self._end()
        return self.loss

    def _report(self) -> None:
        """Report a loss once, and only of an attached worker."""
        with self._changed:
            act, self._on_loss = self._on_loss, None
        if act and self._attached:
            act(self)
        self._end()

    def _end(self) -> None:
        if self._ssh and self._ssh.stdin:
            with suppress(OSError):
                self._ssh.stdin.close()  # the worker ends by this
        for process in (self._ssh, *self._tunnels):
            if process and process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    if process is self._ssh:
                        process.wait(0.5)
                process.kill()
                process.wait()
        self._meeting.remove()


def _misfit(theirs: Greeting, ours: Greeting, name: str, library: Library) -> tuple[str, str] | None:
    """Return why the installation there does not fit the one here, and the remedy; None if it fits."""
    if library == "MLX":
        if not theirs.mlx_lm:
            return f"MLX is not installed on {name}", "Install it there: pip install mlx-lm."
    elif not ours.rpc:
        return "The llama.cpp here was built without RPC", "`make clean run` builds it with RPC."
    elif not theirs.llama_cpp:
        return f"llama.cpp is not installed on {name}", "Run `make clean run` there."
    elif theirs.llama_cpp == ours.llama_cpp and not theirs.rpc:
        return f"The llama.cpp on {name} was built without RPC", "Run `make clean run` there."
    for what, there, here in (
        ("Outrider", theirs.outrider, ours.outrider),
        *_versions(theirs, ours, library),
        ("messages of version", str(theirs.messages), str(ours.messages)),
    ):
        if there != here:
            return f"{name} has {what} {_line(there)}, and this machine {here}", _SAME
    return None


def _versions(theirs: Greeting, ours: Greeting, library: Library) -> tuple[tuple[str, str, str], ...]:
    """Return the versions that must be equal for a library: its name, the version there and the one here."""
    if library == "MLX":
        return ("MLX", theirs.mlx, ours.mlx), ("mlx-lm", theirs.mlx_lm, ours.mlx_lm)
    return (
        ("llama-cpp-python", theirs.llama_cpp, ours.llama_cpp),
        ("the RPC of llama.cpp in version", theirs.rpc, ours.rpc),
    )


def _line(text: str) -> str:
    """Return foreign text as a part of a line. The app makes it harmless."""
    return " ".join(text.split())[:160]
