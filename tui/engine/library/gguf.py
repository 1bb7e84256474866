"""Reads the bytes of a GGUF header: keys, values and the table of tensors.

All reading is bounded: never past the end of the file, and only after each count is checked. Large values are
skipped. This module knows the format and no model.
Source: the GGUF specification, ggml/docs/gguf.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod
from mmap import mmap
from struct import Struct

from ...errors import OutriderError
from .tensor_types import TENSOR_TYPES, TensorType

MAX_COUNT = 65_536
"""Most keys, and most tensors."""
MAX_ARRAY = 16_000_000
MAX_KEY = 256
MAX_TEXT = 64 << 20
MAX_TENSOR_NAME = 63
"""Most bytes of a name; ggml's names end with a zero at byte 64."""
MAX_DIMENSIONS = 4

_SCALARS = {
    kind: Struct(f"<{letter}") for kind, letter in zip((*range(8), 10, 11, 12), "BbHhIif?Qqd", strict=True)
}
_U32, _U64 = _SCALARS[4], _SCALARS[10]
_BOOL, _STRING, _ARRAY = 7, 8, 9

Scalar = int | float | bool | bytes


class BadModelFile(OutriderError):
    """The file is not a model that can be opened. The message gives the reason in one line."""

    hint = "Choose another model, or download this one again."
    """The remedy, for a person."""


class UnusableModelFile(BadModelFile):
    """The file is intact, but no library here can open it. Another download would be the same."""

    hint = "Choose another model, or another quantization of this one."


class UnreadableModelFile(BadModelFile):
    """The operating system does not let this user read the file."""

    hint = "Look at its permissions, or choose another model."


@dataclass(frozen=True, slots=True)
class Array:
    """An array in the header: `count` items of value type `kind`, starting at byte `begin`."""

    kind: int
    count: int
    begin: int
    texts: tuple[bytes, ...] = ()
    """The items, if the reader was asked to keep them. Nothing else in a header takes as much time."""

    @property
    def of_text(self) -> bool:
        return self.kind == _STRING


@dataclass(frozen=True, slots=True)
class Tensor:
    """One row of the table of tensors. `offset` is in bytes from the start of the data."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    offset: int

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.elements // self.type.block * self.type.bytes


@dataclass(frozen=True, slots=True)
class Contents:
    """A whole header. `data` is the byte at which the tensors' data begins."""

    values: Mapping[str, Scalar | Array]
    tensors: tuple[Tensor, ...]
    data: int


class GgufReader:
    """Reads a header once, from its first byte to its last."""

    def __init__(self, file: mmap | bytes, keep: Collection[str]) -> None:
        """`keep` names the arrays whose texts are kept."""
        self._file = file
        self._keep = keep
        self._end = len(file)
        self._at = 0

    def contents(self) -> Contents:
        """Return the header. Raises `BadModelFile`."""
        if self._take(4) != b"GGUF":
            raise BadModelFile("not a model file: it does not begin with GGUF")
        version = self._u32()
        if version not in (2, 3):
            raise UnusableModelFile(f"GGUF version {version} is not supported")
        tensor_count, value_count = self._u64(), self._u64()
        if tensor_count > MAX_COUNT or value_count > MAX_COUNT:
            raise BadModelFile(f"damaged header: {tensor_count} tensors, {value_count} keys")
        values = self._values(value_count)
        tensors = tuple(self._tensor() for _ in range(tensor_count))
        if len({tensor.name for tensor in tensors}) < tensor_count:
            raise BadModelFile("damaged header: two tensors have one name")
        return Contents(values, tensors, self._data_start(values))

    def numbers(self, array: Array) -> tuple[int | float, ...]:
        """Return the items of an array of numbers."""
        item = _SCALARS[array.kind]
        return Struct(f"<{array.count}{item.format[1]}").unpack_from(self._file, array.begin)

    def content(self, tensor: Tensor, data: int) -> bytes:
        """Return the bytes of a tensor that lies inside the file, whose data begins at the byte `data`."""
        begin = data + tensor.offset
        return self._file[begin : begin + tensor.bytes]

    def _values(self, count: int) -> dict[str, Scalar | Array]:
        values: dict[str, Scalar | Array] = {}
        for _ in range(count):
            key = self._text(MAX_KEY, "key")
            if not key.isascii() or not key.isprintable() or key in values:
                raise BadModelFile(f"damaged header: key {key!r}")
            values[key] = self._value(self._u32(), key)
        return values

    def _value(self, kind: int, key: str) -> Scalar | Array:
        if kind == _STRING:
            return self._string(MAX_TEXT, key)
        if kind == _ARRAY:
            return self._array(key)
        if kind not in _SCALARS:
            raise BadModelFile(f"damaged header: {key} has a value of unknown type {kind}")
        item = _SCALARS[kind]
        raw = self._take(item.size)
        if kind == _BOOL and raw not in (b"\0", b"\1"):
            raise BadModelFile(f"damaged header: {key} is neither true nor false")
        value: Scalar = item.unpack(raw)[0]
        return value

    def _array(self, key: str) -> Array:
        kind, count = self._u32(), self._u64()
        if count > MAX_ARRAY or (kind != _STRING and kind not in _SCALARS):
            raise BadModelFile(f"damaged header: {key} is an array of {count} values of type {kind}")
        begin = self._at
        if kind != _STRING:
            self._skip(count * _SCALARS[kind].size)
        elif key in self._keep:
            return Array(kind, count, begin, self._texts(count, key))
        else:
            self._skip_texts(count, key)
        return Array(kind, count, begin)

    # A header holds hundreds of thousands of texts: the next two loops take most of the time.

    def _skip_texts(self, count: int, key: str) -> None:
        file, at, end, length_at = self._file, self._at, self._end - 8, _U64.unpack_from
        for _ in range(count):
            if at > end:
                raise BadModelFile(f"the file is cut off inside {key}")
            at += 8 + length_at(file, at)[0]
        self._skip(at - self._at)

    def _texts(self, count: int, key: str) -> tuple[bytes, ...]:
        file, at, end, length_at = self._file, self._at, self._end - 8, _U64.unpack_from
        found: list[bytes] = []
        for _ in range(count):
            if at > end:
                raise BadModelFile(f"the file is cut off inside {key}")
            begin = at + 8
            at = begin + length_at(file, at)[0]
            found.append(file[begin:at])
        self._skip(at - self._at)
        return tuple(found)

    def _tensor(self) -> Tensor:
        name = self._text(MAX_TENSOR_NAME, "tensor name")
        dimensions = self._u32()
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise BadModelFile(f"damaged header: tensor {name} has {dimensions} dimensions")
        shape = tuple(self._u64() for _ in range(dimensions))
        kind = TENSOR_TYPES.get(number := self._u32())
        if kind is None:
            raise UnusableModelFile(f"tensor {name} has type {number}, which is not known")
        tensor = Tensor(name, shape, kind, self._u64())
        if min(shape) < 1 or tensor.elements >= 1 << 48 or shape[0] % kind.block:
            raise BadModelFile(f"damaged header: tensor {name} has shape {shape}")
        return tensor

    def _data_start(self, values: Mapping[str, Scalar | Array]) -> int:
        alignment = values.get("general.alignment", 32)
        power_of_two = isinstance(alignment, int) and alignment > 0 and alignment & (alignment - 1) == 0
        if not power_of_two or not isinstance(alignment, int) or alignment > 1 << 20:
            raise BadModelFile("damaged header: general.alignment is not a power of two")
        return -(-self._at // alignment) * alignment

    def _text(self, longest: int, what: str) -> str:
        raw = self._string(longest, what)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            text = ""
        if not text or "\0" in text:
            raise BadModelFile(f"damaged header: a {what} is not text")
        return text

    def _string(self, longest: int, what: str) -> bytes:
        length = self._u64()
        if length > longest:
            raise BadModelFile(f"damaged header: {what} of {length} bytes")
        return self._take(length)

    def _u32(self) -> int:
        value: int = _U32.unpack(self._take(4))[0]
        return value

    def _u64(self) -> int:
        value: int = _U64.unpack(self._take(8))[0]
        return value

    def _take(self, count: int) -> bytes:
        begin = self._at
        self._skip(count)
        return self._file[begin : self._at]

    def _skip(self, count: int) -> None:
        if count > self._end - self._at:
            raise BadModelFile("the file is cut off: its header goes on past its end")
        self._at += count
