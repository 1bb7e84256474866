"""Writes a command or an event as one JSON line, and reads it back, checked against its type.

`Lines` finds the lines in what a pipe brings.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from msgspec import DecodeError, convert, to_builtins
from msgspec.json import Decoder

from ..errors import OutriderError
from .directions import Command, Event

PROTOCOL = 10
"""The version of the protocol. It grows by one whenever an older peer could misread a newer one."""

MAX_LINE = 16 * 1024 * 1024
"""Longest line in bytes that either side reads."""


class ProtocolError(OutriderError, ValueError):
    """A line is not a known command or event, or has the wrong fields."""


class Lines:
    """Whole lines of a bounded length, from bytes in pieces of any size."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self.limit = limit
        """Bytes in a line, at most. The reader may change it between lines."""
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the lines that `data` completes. Raises `ProtocolError` for one that is too long."""
        *ends, rest = data.split(b"\n")
        for end in ends:
            line = bytes(self._rest + end)
            self._rest.clear()
            self._check(line)
            yield line
        self._rest += rest
        self._check(self._rest)

    def _check(self, line: bytes | bytearray) -> None:
        if len(line) > self.limit:
            raise ProtocolError(f"a line of more than {self.limit} bytes: {bytes(line[:40])!r}")


def encode(message: Command | Event) -> bytes:
    """Return one line, newline included.

    `json` writes what msgspec does not: NaN, so that the engine can reject it by name, and lone surrogates,
    as they stand in file names that are not UTF-8.
    """
    return json.dumps(message, default=to_builtins, separators=(",", ":")).encode("ascii") + b"\n"


def decode_command(line: bytes) -> Command:
    """Read a command. Raises `ProtocolError` for anything else."""
    command: Command = _decode(line, Command)
    return command


def decode_event(line: bytes) -> Event:
    """Read an event. Raises `ProtocolError` for anything else."""
    event: Event = _decode(line, Event)
    return event


def _decode(line: bytes, side: Any) -> Any:
    try:
        try:
            return _decoder(side).decode(line)
        except DecodeError:  # perhaps for NaN or a lone surrogate
            return convert(json.loads(line), side)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(str(error)[:200]) from None


@cache
def _decoder(side: Any) -> Decoder[Any]:
    """Make the decoder when the first line comes: it resolves the types of all messages."""
    return Decoder(side)
