"""llama.cpp's RPC backend: this process as a worker, and workers as devices of a model.

The backend compares no password and trusts its peer. So this module serves on the loopback address alone, and
the tunnel is the work of others (`engine/machine/worker_link.py`). It splits no model.
"""

from __future__ import annotations

import ctypes
import os
import socket
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ....host import LOOPBACK
from . import native


class Rpc:
    """Both ends of the RPC backend in one library."""

    def __init__(self, library: Any) -> None:
        """`library` is the ctypes layer of llama-cpp-python.

        Raises `FileNotFoundError` if it was built without RPC.
        """
        # A handle also finds the functions of the libraries that it needs. Another copy of them would have
        # devices of its own.
        self._ggml = library._lib
        self._rpc = self._ggml if _has_rpc(self._ggml) else native.sibling(library, "ggml-rpc")
        pointer, size = ctypes.c_void_p, ctypes.c_size_t
        _declare(self._rpc.ggml_backend_rpc_init, pointer, ctypes.c_char_p, ctypes.c_uint32)
        _declare(self._rpc.ggml_backend_rpc_add_server, pointer, ctypes.c_char_p)
        _declare(
            self._rpc.ggml_backend_rpc_start_server,
            *(None, ctypes.c_char_p, ctypes.c_char_p, size, size, ctypes.POINTER(pointer)),
        )
        _declare(self._ggml.ggml_backend_reg_dev_count, size, pointer)
        _declare(self._ggml.ggml_backend_reg_dev_get, pointer, pointer, size)
        _declare(self._ggml.ggml_version, ctypes.c_char_p)
        _declare(self._ggml.ggml_commit, ctypes.c_char_p)

    @property
    def build(self) -> str:
        """The version and the commit of ggml: two equal ones speak the same RPC."""
        return f"{self._ggml.ggml_version().decode()} {self._ggml.ggml_commit().decode()}"

    # A worker

    def serve(self, devices: Sequence[int], threads: int) -> None:
        """Serve `devices`, one connection after the other, on a free port of the loopback address.

        Returns when `close_door` was called and the last connection is over.
        """
        handles = (ctypes.c_void_p * len(devices))(*devices)
        self._rpc.ggml_backend_rpc_start_server(
            f"{LOOPBACK}:0".encode(), None, threads, len(devices), handles
        )

    # A model that uses workers

    def connect(self, port: int) -> list[int]:
        """Return the devices of the worker behind `port` of the loopback address.

        The connection stays for the lifetime of this process. If it fails, now or later, the library ends the
        process.
        """
        endpoint = f"{LOOPBACK}:{port}".encode()
        self._rpc.ggml_backend_rpc_init(endpoint, 0)  # without it, each question would connect anew
        server = self._rpc.ggml_backend_rpc_add_server(endpoint)
        count = self._ggml.ggml_backend_reg_dev_count(server)
        return [int(self._ggml.ggml_backend_reg_dev_get(server, index)) for index in range(count)]

    def on_abort(self, act: Callable[[str], None]) -> None:
        """Call `act` with the last words of the library before it ends the process."""
        kind = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
        callback = kind(lambda words: act((words or b"").decode("utf-8", "replace")))
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(callback))  # it may be called at any time from now on
        self._ggml.ggml_set_abort_callback(callback)


def door() -> tuple[int, int] | None:
    """Return the descriptor and the port of the socket that takes connections; None if there is none yet."""
    for descriptor in [int(each.name) for each in Path("/dev/fd").iterdir()]:
        with suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            with socket.socket(fileno=os.dup(descriptor)) as found:
                if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    return descriptor, int(found.getsockname()[1])
    return None


def close_door() -> None:
    """Take no further connection. The one that is open stays."""
    if found := door():
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, found[0])  # the library owns the descriptor, and would close another one later
        os.close(nothing)


def _has_rpc(library: Any) -> bool:
    return hasattr(library, "ggml_backend_rpc_start_server")


def _declare(function: Any, result: Any, *arguments: Any) -> None:
    function.restype, function.argtypes = result, list(arguments)
