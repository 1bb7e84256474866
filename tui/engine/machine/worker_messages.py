"""The messages between an engine and a worker: JSON lines on the pipe of ssh. It opens no pipe.

The worker greets first. The engine compares the versions, and sends nothing to another version. With
llama.cpp all else goes through its own connection. With MLX the engine also sends each call here, and only
hidden rows go through the ring.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated, Literal

from msgspec import DecodeError, Meta, Struct
from msgspec.json import Decoder, Encoder

from ... import __version__
from .apple import installed

WORKER_PROTOCOL = 2
"""The version of these messages."""
RPC_PROTOCOL = "7.0"
"""The version of llama.cpp's RPC in the pinned llama-cpp-python."""
LONGEST = 1 << 16
"""Bytes of a line from a worker, at most."""
LONGEST_ORDER = 1 << 22
"""Bytes of a line to a worker, at most: a grammar may be long."""
Library = Literal["llama.cpp", "MLX"]
"""The library that computes on a worker."""

_Bytes = Annotated[int, Meta(ge=0, le=1 << 60)]
_Text = Annotated[str, Meta(max_length=200)]
_Path = Annotated[str, Meta(max_length=4096)]
_Port = Annotated[int, Meta(ge=1, le=65_535)]
_Count = Annotated[int, Meta(ge=0, le=1 << 31)]


class _Message(Struct, frozen=True, tag=str.lower, tag_field="type"):
    """A message. Its line is an object with its name in lower case as `type`."""


# From a worker


class Greeting(_Message, frozen=True):
    """The first line of a worker. Two that are equal fit together."""

    outrider: _Text
    llama_cpp: _Text
    """Version of llama-cpp-python; empty if it is not installed."""
    rpc: _Text
    """Version of llama.cpp's RPC; empty if llama.cpp was built without it."""
    messages: int = WORKER_PROTOCOL
    mlx: _Text = ""
    """Version of MLX; empty if it is not installed."""
    mlx_lm: _Text = ""

    @classmethod
    def here(cls) -> Greeting:
        """Return the greeting of this installation. It loads no native library."""
        return cls(
            __version__, installed("llama-cpp-python"), RPC_PROTOCOL if has_rpc() else "",
            mlx=installed("mlx"), mlx_lm=installed("mlx-lm"),
        )  # fmt: skip


class WorkerDevice(Struct, frozen=True):
    """A device that a worker serves."""

    name: _Text
    free: _Bytes
    total: _Bytes


class Surveyed(_Message, frozen=True):
    """The reply to `Survey`."""

    build: _Text
    """Version and commit of ggml; the version of MLX."""
    devices: tuple[WorkerDevice, ...]
    """In the order in which RPC numbers them."""


class Listening(_Message, frozen=True):
    """The reply to `Listen`: the port on the loopback address that takes a connection."""

    port: _Port


class Alive(_Message, frozen=True):
    """The reply to `Probe`, with its number."""

    number: int


class Unable(_Message, frozen=True):
    """The worker cannot do it. `reason` is one line."""

    reason: _Text


class ModelFound(_Message, frozen=True):
    """The reply to `FindModel`."""

    path: _Path = ""
    """The folder there; empty if there is none with the same files."""
    fault: _Text = ""
    """Why there is none, as a sentence without the name of the worker."""


class RingOpened(_Message, frozen=True):
    """The reply to `OpenRing`: the two ports on the loopback address that take a connection each."""

    left: _Port
    """For the machine before this one in the ring."""
    right: _Port
    """For the machine behind it."""


class RingJoined(_Message, frozen=True):
    """The ring is closed: MLX has both connections."""


class StageReady(_Message, frozen=True):
    """The weights of the stage are in memory."""


class StageFailed(_Message, frozen=True):
    """The worker cannot compute its stage. `reason` is one line."""

    reason: _Text


class Chosen(_Message, frozen=True):
    """The tokens that the worker has chosen in the call with this number."""

    number: _Count
    tokens: tuple[int, ...]


# To a worker


class Survey(_Message, frozen=True):
    """Report the devices and their free memory. Ends with `Surveyed` or `Unable`."""

    library: Library = "llama.cpp"


class Listen(_Message, frozen=True):
    """Take a connection. Ends with `Listening` or `Unable`."""


class Joined(_Message, frozen=True):
    """The connection is there: take no other one, and end when it ends."""


class Probe(_Message, frozen=True):
    """A sign of life, every second."""

    number: int


class FindModel(_Message, frozen=True):
    """Find a folder with the same files. Ends with `ModelFound`."""

    name: _Text
    path: _Path
    """Its path on the engine's machine, which is tried first."""
    digest: _Text
    """See `library.folder_copies`."""


class OpenRing(_Message, frozen=True):
    """Join a ring of `size` machines as number `rank`. `RingOpened` comes at once, and then `RingJoined`."""

    rank: _Count
    size: _Count


class LoadStage(_Message, frozen=True):
    """Read the weights of some layers. Ends with `StageReady` or `StageFailed`."""

    path: _Path
    begin: _Count
    end: _Count
    context_length: _Count
    cache_type: Literal["f16", "q8_0"]
    exact: bool


class BeginStage(_Message, frozen=True):
    """All machines have their weights: make the caches, by the first calls."""


class DropStage(_Message, frozen=True):
    """Free the stage, or give up loading it."""


class StartAnswer(_Message, frozen=True):
    """Choose tokens in this way from now on. The fields are those of the sampling chain."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float
    presence_penalty: float
    frequency_penalty: float
    penalty_last_n: int
    bias: tuple[tuple[int, float | None], ...]
    """None forbids the token."""
    seed: int
    start: _Count
    grammar: str = ""


class Extend(_Message, frozen=True):
    """Run tokens. If `picks` is not 0, choose after the last ones."""

    number: _Count
    tokens: tuple[_Count, ...]
    picks: _Count
    compared: bool
    """Whether to reply with the chosen tokens."""


class Rewind(_Message, frozen=True):
    """Cut the cache back to this number of tokens."""

    length: _Count


OfStage = LoadStage | BeginStage | DropStage | StartAnswer | Extend | Rewind
"""The messages about the layers that a worker computes with MLX."""
OfRing = FindModel | OpenRing | OfStage
FromWorker = (
    Greeting | Surveyed | Listening | Alive | Unable | ModelFound | RingOpened | RingJoined | StageReady
    | StageFailed | Chosen
)  # fmt: skip
ToWorker = Survey | Listen | Joined | Probe | OfRing
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
