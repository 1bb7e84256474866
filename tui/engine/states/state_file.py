"""The file of one saved state: its tokens, the conditions under which it may be used, and the cache's bytes.

A checksum over everything stands at the end. A file that is torn, changed or foreign is recognized before a
library sees a byte of it. This module knows no library and chooses no file.
"""

from __future__ import annotations

import os
import struct
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TypeAlias
from zlib import crc32

import msgspec

from ...protocol.terms import Unsigned

MAGIC = b"outrider state 1"
PIECE = 8 << 20
"""Bytes in a piece. A command waits at most for the write of one piece."""
_LONGEST_HEAD = 1 << 20
"""Bytes of the longest head."""
_NUMBER = struct.Struct("<I")
"""The length of the head, and the checksum. A CRC of 32 bits is computed three times as fast as a hash, and
finds every changed bit and all but one in four billion other damages."""

Bytes: TypeAlias = bytes | bytearray | memoryview


class BadStateFile(Exception):
    """A file is no saved state that can be used. The text gives the reason."""


class ReadingRule(msgspec.Struct, frozen=True):
    """The calls that read the tokens into the cache, as `Calls` of `pair/reading.py` has them."""

    chunk: Unsigned = 0
    rows: Unsigned = 0
    answers: tuple[tuple[Unsigned, Unsigned], ...] = ()


class StateHead(msgspec.Struct, frozen=True):
    """All facts about a saved state except for its tokens and bytes."""

    model: str
    """The identity of the model's file, which changes with the file."""
    library: str
    """The library and its version: "llama.cpp 0.3.36"."""
    tokens: Unsigned
    """Number of tokens in the cache."""
    cut_from: Unsigned
    """The cache can be cut to each length from here on."""
    copies: tuple[tuple[Unsigned, Unsigned], ...]
    """Lengths in tokens to which it can be cut with the help of a copy, and the bytes of the copy."""
    cells: Unsigned
    """Bytes of the cache itself."""
    rule: ReadingRule = ReadingRule()

    def reach(self, length: int) -> int:
        """Return how many tokens a cut to `length` would leave, like `reach` of a loaded model."""
        if length >= self.tokens:
            return self.tokens
        if length >= self.cut_from:
            return length
        return max((at for at, _ in self.copies if at <= length), default=0)


@dataclass(frozen=True)
class SavedState:
    """A cache outside its model."""

    head: StateHead
    tokens: Sequence[int]
    copies: tuple[Bytes, ...]
    """The copies, in the order of `head.copies`."""
    cells: Bytes

    @property
    def size(self) -> int:
        """Bytes of the file."""
        frame = len(MAGIC) + _NUMBER.size + len(msgspec.json.encode(self.head)) + _NUMBER.size
        return frame + 4 * len(self.tokens) + sum(map(len, self.copies)) + len(self.cells)


def pieces(state: SavedState) -> Iterator[Bytes]:
    """Yield the content of the file of `state` in pieces of at most `PIECE` bytes."""
    checksum = 0
    head = msgspec.json.encode(state.head)
    first = MAGIC + _NUMBER.pack(len(head)) + head
    for part in (first, _tokens_to_bytes(state.tokens), *state.copies, state.cells):
        view = memoryview(part).cast("B")
        for start in range(0, len(view), PIECE):
            piece = view[start : start + PIECE]
            checksum = crc32(piece, checksum)
            yield piece
    yield _NUMBER.pack(checksum)


def read_head(path: Path) -> tuple[StateHead, array[int]]:
    """Return the head and the tokens of a file. Raises `BadStateFile` and `OSError`.

    Nothing is compared with the checksum, so the result is good enough for a choice only.
    """
    with path.open("rb") as file:
        return _head_of(file)


def read_state(path: Path, stopped: Callable[[], bool] = lambda: False) -> SavedState | None:
    """Return the whole state of a file, compared with its checksum. Raises `BadStateFile` and `OSError`.

    Returns None as soon as `stopped` says so, which is asked for each piece.
    """
    with path.open("rb") as file:
        head, tokens = _head_of(file)
        parts, start = [*(bytes_ for _, bytes_ in head.copies), head.cells], file.tell()
        if start + sum(parts) + _NUMBER.size != _size_of(file):
            raise BadStateFile("it is torn")
        file.seek(0)
        checksum, found = crc32(file.read(start)), list[Bytes]()
        for size in parts:
            part = memoryview(bytearray(size))
            found.append(part)
            for begin in range(0, size, PIECE):
                piece = part[begin : begin + PIECE]
                if stopped():
                    return None
                if file.readinto(piece) != len(piece):
                    raise BadStateFile("it is torn")
                checksum = crc32(piece, checksum)
        if file.read(_NUMBER.size) != _NUMBER.pack(checksum):
            raise BadStateFile("its checksum is wrong")
    return SavedState(head, tokens, tuple(found[:-1]), found[-1])


def _head_of(file: BufferedReader) -> tuple[StateHead, array[int]]:
    start = file.read(len(MAGIC) + _NUMBER.size)
    if len(start) < len(MAGIC) + _NUMBER.size or not start.startswith(MAGIC):
        raise BadStateFile("it is no saved state of this version")
    (length,) = _NUMBER.unpack(start[len(MAGIC) :])
    text = file.read(min(length, _LONGEST_HEAD))
    try:
        head = msgspec.json.decode(text, type=StateHead)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadStateFile("its head cannot be read") from None
    if not head.tokens or 4 * head.tokens > _size_of(file):
        raise BadStateFile("it is torn")
    return head, _tokens_from_bytes(file.read(4 * head.tokens))


def _size_of(file: BufferedReader) -> int:
    return os.fstat(file.fileno()).st_size


def _tokens_to_bytes(tokens: Sequence[int]) -> bytes:
    return _little(array("I", tokens)).tobytes()


def _tokens_from_bytes(data: bytes) -> array[int]:
    found = array("I")
    found.frombytes(data[: len(data) // 4 * 4])
    return _little(found)


def _little(tokens: array[int]) -> array[int]:
    """Swap the bytes on a machine whose order is not that of the file."""
    if sys.byteorder == "big":
        tokens.byteswap()
    return tokens
