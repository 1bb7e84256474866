"""The engine's process: reads commands from standard input and writes events to standard output.

Native libraries print anywhere and crash at any time. So the protocol gets its own descriptors before one is
imported. One thread reads commands: it answers pings while a model runs, and ends the process when the app is
gone or silent. Another thread writes events, so that a slow line never delays a model. The session carries
out the commands.
"""

from __future__ import annotations

import ctypes
import os
import queue
import resource
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, NoReturn

from .. import protocol
from ..choices import LONGEST_DRAFT, DraftLength
from .outbox import Outbox

if TYPE_CHECKING:
    from .machine.worker_pool import WorkerPool

HEARTBEAT = 20.0
"""Seconds without a line from the app after which the engine ends itself. The app pings every 5."""

LAST_SAVE = 1.8
"""Seconds that a session may take to save a chat at its end. The app waits 2."""
_PRELOAD_AFTER = 0.05
_LAST_WORDS = 2.0
_LOAD = 0
_LENGTHS = range(LONGEST_DRAFT + 1)
_PR_SET_PDEATHSIG = 1
_OF_HUB = ("HF_", "HUGGING_FACE_", "HUGGINGFACE_")
_OF_ALL = ("HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE")
"""Those variables of the hub that are not secret and that an engine needs."""


def main(heartbeat: float = HEARTBEAT) -> NoReturn:
    """Serve until the app is gone. Never returns."""
    channel = Channel(*take_descriptors(), heartbeat)
    channel.for_hub = taken_for_hub()
    settle_process()
    channel.send(protocol.Hello(protocol.PROTOCOL, _version(), os.getpid()))
    threading.Thread(target=channel.speak, name="events", daemon=True).start()
    threading.Thread(target=channel.listen, name="commands", daemon=True).start()
    from .session import Session  # imports numpy and much else: after Hello

    session = Session(
        channel.send, channel.cancelled, channel.draft_length, idle=channel.idle, workers=channel.workers()
    )
    if channel.quiet(_PRELOAD_AFTER):
        session.preload()
    channel.saves = lambda: session.saves
    session.serve(channel.commands())
    try:
        session.save()
    finally:
        _leave(0)


class Channel:
    """The two ends of the pipe to the app. Safe to use from several threads."""

    def __init__(self, source: int, sink: int, heartbeat: float) -> None:
        """`source` and `sink` are descriptors to read from and to write to, both blocking."""
        self._source = source
        self._outbox = Outbox(sink)
        self.send = self._outbox.put
        self._heartbeat = self._patience = heartbeat
        self.for_hub: Mapping[str, str] = {}
        """The variables for the hub. Only a downloader gets them."""
        self._pool: WorkerPool | None = None
        self._making_pool = threading.Lock()
        self._waiting: queue.SimpleQueue[protocol.Command | None] = queue.SimpleQueue()
        self.saves: Callable[[], bool] = lambda: False
        """Returns whether the session needs time at its end, to save a chat."""
        self._over = False
        """Whether the app is gone or wants the end."""
        self._commanded = threading.Event()
        self._unwanted: set[int] = set()
        self._wished: dict[int, DraftLength] = {}

    def cancelled(self, answer: int) -> bool:
        """Return whether the app has canceled this answer; for 0, the load in progress."""
        return self._over or answer in self._unwanted

    def draft_length(self, command: protocol.Generate) -> DraftLength:
        """Return the present draft length that the app asks for."""
        return self._wished.get(command.id, command.draft_length)

    def idle(self) -> bool:
        """Return whether no command is waiting."""
        return self._waiting.empty()

    def quiet(self, seconds: float) -> bool:
        """Wait for a command for `seconds`. Return whether none has come."""
        return not self._commanded.wait(seconds)

    def workers(self) -> WorkerPool:
        """Return the workers that loads may use: the same ones at each call."""
        with self._making_pool:
            if self._pool is None:
                from .machine.worker_pool import WorkerPool  # after Hello, as below

                self._pool = WorkerPool()
            return self._pool

    def commands(self) -> Iterator[protocol.Command]:
        """Yield Load, Generate and Unload in order, until the app is gone."""
        while (command := self._waiting.get()) is not None:
            yield command

    def speak(self) -> NoReturn:
        """Write events until the app is gone; then end the process."""
        try:
            self._outbox.write()
        except OSError:
            self._leave(0)
        except Exception:  # the process edge: without this thread the app would hear nothing
            traceback.print_exc(file=sys.stderr)
        self._leave(1)

    def listen(self) -> NoReturn:
        """Read commands until the app is gone; then end the process, even if a model is running."""
        try:
            self._read()
        except Exception:  # the process edge: without this thread nobody would hear the app
            traceback.print_exc(file=sys.stderr)
        self._leave(1)

    def _read(self) -> None:
        lines = protocol.Lines()
        while select.select([self._source], [], [], self._patience)[0]:
            data = os.read(self._source, 1 << 16)
            if not data:
                self._end()
            try:
                for line in lines.feed(data):
                    self._receive(line)
            except protocol.ProtocolError:
                self.send(protocol.Failed(_LOAD, f"A command is longer than {protocol.MAX_LINE} bytes."))
                self._outbox.drain(_LAST_WORDS)
                self._leave(1)
        print(f"nothing heard from the app for {self._patience:g} s", file=sys.stderr, flush=True)

    def _receive(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            command = protocol.decode_command(line)
        except protocol.ProtocolError as error:
            self.send(protocol.Failed(_LOAD, f"A command was not understood: {error}."))
            return
        self._patience = self._heartbeat
        match command:
            case protocol.Ping():
                self._patience = max(self._heartbeat, command.silence)
                self.send(protocol.Pong())
            case protocol.Quit():
                self._end()
            case protocol.Cancel():
                self._unwanted.add(command.id)
            case protocol.ForgetStates():  # the session may be about to save one
                self._waiting.put(command)
            case _ if isinstance(command, protocol.Question):
                threading.Thread(target=self._answer, args=(command,), name="library", daemon=True).start()
            case protocol.SetDraftLength(id=answer, draft_length=int(length)) if length not in _LENGTHS:
                words = f"The draft length must be 0 to {LONGEST_DRAFT}, not {length}: it stays as it was."
                self.send(protocol.Notice(answer, words))
            case protocol.SetDraftLength():
                self._wished = {command.id: command.draft_length}  # only one answer runs at a time
            case _:
                self._unwanted.discard(getattr(command, "id", _LOAD))
                self._waiting.put(command)
                self._commanded.set()

    def _end(self) -> NoReturn:
        """End the process. If a chat may be unsaved, the session gets a moment to save it first."""
        self._over = True
        if self.saves():
            self._waiting.put(None)
            time.sleep(LAST_SAVE)
        self._forget()
        self._leave(0)

    def _forget(self) -> None:
        """Remove the saved states that the session was still to remove: a load may keep it busy."""
        with suppress(queue.Empty):
            while True:
                if isinstance(command := self._waiting.get_nowait(), protocol.ForgetStates):
                    from ..paths import find_states
                    from .states.state_folder import StateFolder

                    StateFolder(find_states(), 0).forget(command.chat or None)

    def _answer(self, question: protocol.Question) -> None:
        from .library_service import answer  # after Hello, like all that takes time to import

        wanted = partial(self._is_wanted, question.id)
        answer(question, self.send, wanted, self.for_hub, self.workers())

    def _is_wanted(self, question: int) -> bool:
        return question not in self._unwanted

    def _leave(self, status: int) -> NoReturn:
        """End the process and the links to all workers."""
        if self._pool:
            self._pool.kill()
        _leave(status)


def take_descriptors() -> tuple[int, int]:
    """Reserve standard input and output for the protocol. All other output there goes to standard error."""
    source, sink = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return source, sink


def taken_for_hub() -> dict[str, str]:
    """Remove the hub's variables, also a token, from the environment, and return them.

    No library in this process asks the hub, and of its children only a downloader does. On another machine,
    the variables are those of the login there.
    """
    names = [name for name in os.environ if name.startswith(_OF_HUB) and name not in _OF_ALL]
    taken = {name: os.environ.pop(name) for name in names}
    os.environ["HF_HUB_OFFLINE"] = "1"
    return taken


def settle_process() -> None:
    """Disable core dumps, debuggers at a crash and Ctrl+C; let no child outlive the app."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ["GGML_NO_BACKTRACE"] = "1"  # else ggml runs gdb, which prints to any stream
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _version() -> str:
    try:
        return metadata.version("outrider")
    except metadata.PackageNotFoundError:
        return "unknown"


def _leave(status: int) -> NoReturn:
    """End the process at once, because a native call on another thread cannot be waited for."""
    os._exit(status)
