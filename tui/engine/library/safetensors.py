"""Reads the table of tensors of a safetensors file, and checks it before anything maps the file.

Nothing is trusted: not the length of the header, not a shape, not an offset. The tensors must follow each
other without a gap and fill the file, as the format demands. No tensor is read.
Source: the safetensors format, github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from struct import Struct
from typing import Any

from .gguf import BadModelFile

MAX_HEADER = 16 << 20
"""Bytes; enough for more tensors than `MAX_TENSORS`."""
MAX_TENSORS = 200_000
MAX_DIMENSIONS = 8
_MAX_NAME = 512
_LENGTH = Struct("<Q")
_BITS = {
    **{"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8},
    **{"I16": 16, "U16": 16, "F16": 16, "BF16": 16},
    **{"I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64},
}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a file. `begin` and `end` are in bytes from the start of the data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        return prod(self.shape)


def read_tensors(path: Path) -> tuple[StoredTensor, ...]:
    """Return a file's tensors, in the order of their data. Raises `BadModelFile`, which names the file."""
    try:
        if not path.is_file():
            raise _bad(path, "is no file")
        size = path.stat().st_size
        with path.open("rb") as file:
            length = _LENGTH.unpack(file.read(8))[0] if size >= 8 else 0
            if length > size - 8 or length < 2:
                raise _bad(path, "is cut off inside its header" if size >= 8 else "is cut off")
            if length > MAX_HEADER:
                raise _bad(path, f"has a header of {length} bytes")
            return _checked(path, file.read(length), size - 8 - length)
    except OSError as error:
        raise _bad(path, f"cannot be read: {error.strerror}") from None


def _checked(path: Path, header: bytes, room: int) -> tuple[StoredTensor, ...]:
    # Counted before parsing: a Python list takes 20 times the space of its text in the file.
    if header.count(b"{") > 2 * MAX_TENSORS or header.count(b"[") > 4 * MAX_TENSORS:
        raise _bad(path, f"has more than {MAX_TENSORS} tensors")
    try:
        entries = json.loads(header, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"has a damaged header: {str(error)[:60]}") from None
    if not isinstance(entries, dict):
        raise _bad(path, "has a damaged header: it is no object")
    entries.pop("__metadata__", None)
    if len(entries) > MAX_TENSORS:
        raise _bad(path, f"has more than {MAX_TENSORS} tensors")
    tensors = sorted((_tensor(path, *entry) for entry in entries.items()), key=lambda each: each.begin)
    at = 0
    for tensor in tensors:
        if tensor.end > room:
            raise _bad(path, f"is cut off: tensor {tensor.name} lies past its end")
        if tensor.begin != at:
            how = "overlaps another" if tensor.begin < at else "leaves a gap before it"
            raise _bad(path, f"has a damaged header: tensor {tensor.name} {how}")
        at = tensor.end
    if at != room:
        raise _bad(path, f"has {room - at} bytes that belong to no tensor")
    return tuple(tensors)


def _tensor(path: Path, name: str, entry: Any) -> StoredTensor:
    shown = name[:80]
    if not name or len(name) > _MAX_NAME or not name.isprintable():
        raise _bad(path, f"has a damaged header: a tensor is called {shown!r}")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _bad(path, f"has a damaged header: {shown} is no tensor")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise _bad(path, f"has numbers of an unknown type in {shown}: {str(dtype)[:20]}")
    if not _counts(shape) or len(shape) > MAX_DIMENSIONS:
        raise _bad(path, f"has a damaged header: shape of {shown}")
    if not _counts(offsets) or len(offsets) != 2:
        raise _bad(path, f"has a damaged header: offsets of {shown}")
    tensor = StoredTensor(name, dtype, tuple(shape), *offsets)
    if tensor.elements * _BITS[dtype] != 8 * (tensor.end - tensor.begin):
        raise _bad(path, f"has a damaged header: {shown} is not as long as its shape {list(shape)} says")
    return tensor


def _counts(value: Any) -> bool:
    """Return whether the value is a list of counts, whole numbers from zero."""
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 48 for item in value)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _bad(path: Path, what: str) -> BadModelFile:
    return BadModelFile(f"{path.name} {what}")
