"""The messages between an engine and a worker: JSON lines on the pipe of ssh. It opens no pipe.

The worker greets first. The engine compares the versions, and sends nothing to another version. All else that
the two exchange goes through llama.cpp's own connection.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

from msgspec import DecodeError, Meta, Struct
from msgspec.json import Decoder, Encoder

from ... import __version__
from .apple import installed

WORKER_PROTOCOL = 1
"""The version of these messages."""
RPC_PROTOCOL = "7.0"
"""The version of llama.cpp's RPC in the pinned llama-cpp-python."""
LONGEST = 1 << 16
"""Bytes of a line, at most."""

_Bytes = Annotated[int, Meta(ge=0, le=1 << 60)]
_Text = Annotated[str, Meta(max_length=200)]


class _Message(Struct, frozen=True, tag=str.lower, tag_field="type"):
    """A message. Its line is an object with its name in lower case as `type`."""


class Greeting(_Message, frozen=True):
    """The first line of a worker. Two that are equal fit together."""

    outrider: _Text
    llama_cpp: _Text
    """Version of llama-cpp-python; empty if it is not installed."""
    rpc: _Text
    """Version of llama.cpp's RPC; empty if llama.cpp was built without it."""
    messages: int = WORKER_PROTOCOL

    @classmethod
    def here(cls) -> Greeting:
        """Return the greeting of this installation. It loads no native library."""
        return cls(__version__, installed("llama-cpp-python"), RPC_PROTOCOL if has_rpc() else "")


class WorkerDevice(Struct, frozen=True):
    """A device that a worker serves."""

    name: _Text
    free: _Bytes
    total: _Bytes


class Surveyed(_Message, frozen=True):
    """The reply to `Survey`."""

    build: _Text
    """Version and commit of ggml."""
    devices: tuple[WorkerDevice, ...]
    """In the order in which RPC numbers them."""


class Listening(_Message, frozen=True):
    """The reply to `Listen`: the port on the loopback address that takes a connection."""

    port: Annotated[int, Meta(ge=1, le=65_535)]


class Alive(_Message, frozen=True):
    """The reply to `Probe`, with its number."""

    number: int


class Unable(_Message, frozen=True):
    """The worker cannot do it. `reason` is one line."""

    reason: _Text


class Survey(_Message, frozen=True):
    """Report the devices and their free memory. Ends with `Surveyed` or `Unable`."""


class Listen(_Message, frozen=True):
    """Take a connection. Ends with `Listening` or `Unable`."""


class Joined(_Message, frozen=True):
    """The connection is there: take no other one, and end when it ends."""


class Probe(_Message, frozen=True):
    """A sign of life, every second."""

    number: int


FromWorker = Greeting | Surveyed | Listening | Alive | Unable
ToWorker = Survey | Listen | Joined | Probe
_encode = Encoder().encode
_from_worker: Decoder[FromWorker] = Decoder(FromWorker)
_to_worker: Decoder[ToWorker] = Decoder(ToWorker)


def written(message: FromWorker | ToWorker) -> bytes:
    """Return one line, newline included."""
    return _encode(message) + b"\n"


def from_worker(line: bytes) -> FromWorker | None:
    """Return the message in `line`; None for any other text."""
    try:
        return _from_worker.decode(line)
    except DecodeError:
        return None


def to_worker(line: bytes) -> ToWorker | None:
    """Return the message in `line`; None for any other text."""
    try:
        return _to_worker.decode(line)
    except DecodeError:
        return None


def has_rpc() -> bool:
    """Return whether the installed llama.cpp was built with RPC, by the names of its files."""
    spec = importlib.util.find_spec("llama_cpp")
    folders = spec.submodule_search_locations if spec else None
    return any(any(Path(folder, "lib").glob("*ggml-rpc*")) for folder in folders or ())
