"""One child process with its three pipes: bytes in, bytes out, its stderr in a log, and its end.

It leads a process group of its own, so that its own children end with it. This module knows no protocol: the
client gives the bytes a meaning.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..clean import clean
from ..files import make_folder

MAX_LOG = 1 << 20
"""Bytes of stderr that one child may add to the log; also the size from which an old log is dropped."""
TAIL = 1 << 16
"""Characters of stderr kept in memory, to explain a death."""
GRACE = 0.5
"""Seconds between the first sign of the end and the last: another process may hold the pipes open."""
PIPE = 1 << 16
"""Bytes that a pipe holds. asyncio would ask for four times as many at each read. For so many the allocator
asks the system and gives them back: a fifth of the time of a line."""

_KEPT = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TZDIR", "TMPDIR", "VIRTUAL_ENV"}
    | {"XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"}
    | {"HF_HOME", "HF_HUB_CACHE", "OLLAMA_MODELS"}
    | {"HF_ENDPOINT", "SSL_CERT_FILE", "SSL_CERT_DIR"}
    | {name for each in ("http", "https", "all", "no") for name in (f"{each}_proxy", f"{each}_proxy".upper())}
)
_KEPT_PREFIXES = (
    *("OUTRIDER_", "PYTHON", "LC_", "LD_", "DYLD_"),
    *("CUDA", "NVIDIA_", "NCCL_", "GGML_", "LLAMA_", "OMP_", "KMP_", "GOMP_"),
    *("MKL_", "OPENBLAS_", "BLIS_", "METAL_", "MTL_", "MLX_", "HIP_", "ROCR_", "ROCM_", "HSA_", "VK_", "ZE_"),
)

_OF_HUB = ("HF_", "HUGGING_FACE_", "HUGGINGFACE_")


def engine_environment(environ: Mapping[str, str], *, remote: bool = False) -> dict[str, str]:
    """Return the part of `environ` that an engine may see: paths of libraries and devices, but no secrets.
    The ssh process of a `remote` engine may ask the agent for keys."""
    kept = {key: value for key, value in environ.items() if key in _KEPT or key.startswith(_KEPT_PREFIXES)}
    if remote and (agent := environ.get("SSH_AUTH_SOCK")):
        kept["SSH_AUTH_SOCK"] = agent
    # A debugger that ggml's crash handler attaches would write to stdout. Only downloads ask the network, in
    # a process of their own.
    return kept | {"GGML_NO_BACKTRACE": "1", "HF_HUB_OFFLINE": "1"}


def hub_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of `environ` that a downloader may see: the user's variables for the hub, a token
    included."""
    of_hub = {key: value for key, value in environ.items() if key.startswith(_OF_HUB)}
    kept = engine_environment(environ)
    del kept["HF_HUB_OFFLINE"]
    return kept | of_hub | {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}


class EngineLog:
    """A child's stderr: cleaned, in a file that only its owner can read, and its tail in memory.

    Without a writable file, only the tail is kept.
    """

    def __init__(self, path: Path) -> None:
        self.tail = ""
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._room = MAX_LOG
        self._file: int | None = None
        with contextlib.suppress(OSError):
            make_folder(path.parent)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
            os.fchmod(self._file, 0o600)
            if os.fstat(self._file).st_size > MAX_LOG:
                os.ftruncate(self._file, 0)

    def write(self, data: bytes) -> None:
        text = self._decode(data)
        self.tail = (self.tail + text)[-TAIL:]
        line = clean(text).encode("utf-8")[: self._room]
        self._room -= len(line)
        if self._file is not None and line:
            with contextlib.suppress(OSError):
                os.write(self._file, line)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


class Child(asyncio.SubprocessProtocol):
    """A running child. `received` gets its stdout in pieces; `ended` is called once, after all of them."""

    def __init__(self, log: EngineLog, received: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        self.log = log
        self.exited = asyncio.Event()
        self.status: int | None = None
        """Exit status, negative for a signal; None while it runs."""
        self._received = received
        self._ended = ended
        self._open = {1, 2}
        self._over = False
        self._deadline: asyncio.TimerHandle | None = None
        self._transport: asyncio.SubprocessTransport | None = None

    async def spawn(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the command. Raises `OSError` if that is impossible."""
        # The engine must not depend on the folder in which the app was started.
        await asyncio.get_running_loop().subprocess_exec(
            lambda: self, *command, env=environment, cwd="/", start_new_session=True
        )

    def write(self, data: bytes) -> None:
        """Queue bytes for its stdin. Does nothing if the child no longer reads."""
        pipe = self._transport and self._transport.get_pipe_transport(0)
        if isinstance(pipe, asyncio.WriteTransport) and not pipe.is_closing():
            pipe.write(data)

    async def wait(self, seconds: float) -> bool:
        """Wait for its exit, and return whether it came; a child that was never started has none."""
        if self._transport is None:
            return True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.exited.wait(), seconds)
        return self.exited.is_set()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its process group."""
        if self._transport is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._transport.get_pid(), number)

    def end(self) -> None:
        """Kill it with all its children, and ignore its output from now on. May be called again."""
        self._over = True
        if self._deadline is not None:
            self._deadline.cancel()
        self.log.close()
        if self._transport is None:
            return
        self.signal(signal.SIGKILL)
        # Not `self._transport.close()`: that may reap the process before asyncio's watcher does, which then
        # warns on stderr.
        for number in (0, 1, 2):
            pipe = self._transport.get_pipe_transport(number)
            if isinstance(pipe, asyncio.WriteTransport) and not pipe.is_closing():
                pipe.abort()
            elif pipe is not None:
                pipe.close()
        if self.exited.is_set():
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport
        if (pipe := transport.get_pipe_transport(1)) is not None:
            vars(pipe)["max_size"] = PIPE

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2:
            self.log.write(data)
        elif not self._over:
            self._received(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open.discard(fd)
        if fd == 1 or not self._open:
            self._ending()

    def process_exited(self) -> None:
        assert self._transport is not None
        self.status = self._transport.get_returncode()
        self.exited.set()
        if self._over:
            self._transport.close()
        self._ending()

    def _ending(self) -> None:
        if self._over:
            return
        if self.exited.is_set() and not self._open:
            self._conclude()
        elif self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(GRACE, self._conclude)

    def _conclude(self) -> None:
        self._over = True
        self._ended()
