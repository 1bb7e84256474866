"""Writes a command or an event as one JSON line, and reads it back, checked against its type."""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from functools import cache
from math import inf
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from ..errors import OutriderError

if TYPE_CHECKING:
    from .messages import Command, Event

T = TypeVar("T")

Reader = Callable[[Any], Any]
"""Turns the output of `json` into a value of the protocol; raises `ProtocolError`."""

PROTOCOL = 4
"""The version of the protocol. It grows by one whenever an older peer could misread a newer one."""

MAX_LINE = 16 * 1024 * 1024
"""Longest line in bytes that either side reads."""

LIMIT = 1 << 63
"""All numbers, whole or not, are smaller than this, so that their sums and products stay finite."""


class ProtocolError(OutriderError, ValueError):
    """A line is not a known command or event, or has the wrong fields."""


def encode(message: Command | Event) -> bytes:
    """Return one line, newline included. Text is ASCII-escaped, so that no byte of it can end the line."""
    data = {"type": type(message).__name__.lower(), **vars(message)}
    return (json.dumps(data, default=vars, separators=(",", ":")) + "\n").encode("ascii")


def decode_command(line: bytes) -> Command:
    """Read a command. Raises `ProtocolError` for anything else."""
    command: Command = _decode(line, "Command")
    return command


def decode_event(line: bytes) -> Event:
    """Read an event. Raises `ProtocolError` for anything else."""
    event: Event = _decode(line, "Event")
    return event


def rebuild(kind: type[T], value: object) -> T:
    """Return a value of the protocol from the output of `json`. Raises `ProtocolError`."""
    hint: Any = kind
    built: T = _reader(hint, -LIMIT)(value)
    return built


def _decode(line: bytes, side: Literal["Command", "Event"]) -> Any:
    kinds = _kinds(side)
    try:
        data = json.loads(line)
        if not isinstance(data, dict) or not isinstance(name := data.get("type"), str) or name not in kinds:
            raise ProtocolError(f"unknown message {str(data)[:80]!r}")
        # Counts of an engine are never negative. The engine itself rejects a command with senseless numbers.
        return _reader(kinds[name], 0 if side == "Event" else -inf)(data)
    except ProtocolError:
        raise
    except (ValueError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"not JSON that can be read: {error}") from None


@cache
def _kinds(side: str) -> dict[str, type]:
    """Return the messages of one side by the name of their type in the line."""
    from . import messages  # late: the app's first paint needs none of them

    return {kind.__name__.lower(): kind for kind in get_args(getattr(messages, side))}


@cache
def _reader(hint: Any, least: float) -> Reader:
    """Return the reader for a type hint. It is made once per type: rounds come by the hundred.

    `least` is the least whole number that is valid, unless the hint allows negative ones. With -inf every
    number is valid.
    """
    origin, items = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _reader(items[0], min(least, -LIMIT))
    if isinstance(hint, type) and is_dataclass(hint):
        return _dataclass_reader(hint, least)
    if isinstance(hint, type) and hasattr(hint, "_fields"):
        return _row_reader(hint, least)
    if origin is tuple:
        readers = [_reader(item, least) for item in items if item is not Ellipsis]
        return _list_reader(readers[0]) if items[-1] is Ellipsis else _tuple_reader(readers)
    if origin in (Union, types.UnionType):
        return _union_reader({kind: _reader(kind, least) for kind in items if kind is not type(None)}, items)
    if origin is Literal:
        return _choice_reader(items)
    if hint is int:
        return _int_reader(least)
    return _float_reader(LIMIT if least > -inf else inf) if hint is float else _value_reader(hint)


def _dataclass_reader(kind: Any, least: float) -> Reader:
    """Read an object. Unknown fields are ignored."""
    hints = get_type_hints(kind, include_extras=True)
    readers = {name: _reader(hint, least) for name, hint in hints.items()}

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _unexpected(kind.__name__, value)
        known = {}
        for name, read_field in readers.items():
            if name in value:
                try:
                    known[name] = read_field(value[name])
                except ProtocolError as error:
                    raise ProtocolError(f"{kind.__name__}.{name}: {error}") from None
        try:
            return kind(**known)
        except TypeError as error:
            raise ProtocolError(f"{kind.__name__}: {error}") from None

    return read


def _row_reader(kind: Any, least: float) -> Reader:
    """Read a named tuple, which is written as a list. Further items are ignored.

    The last items may be missing if they have a default: an older peer does not know them.
    """
    readers = [_reader(hint, least) for hint in get_type_hints(kind, include_extras=True).values()]
    needed = len(readers) - len(kind._field_defaults)

    def read(value: Any) -> Any:
        if not isinstance(value, list) or len(value) < needed:
            raise _unexpected(kind.__name__, value)
        return kind(*[read_item(item) for read_item, item in zip(readers, value, strict=False)])

    return read


def _list_reader(read_item: Reader) -> Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, list):
            raise _unexpected("list", value)
        return tuple([read_item(each) for each in value])

    return read


def _tuple_reader(readers: Sequence[Reader]) -> Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, list) or len(value) != len(readers):
            raise _unexpected(f"list of {len(readers)}", value)
        return tuple([read_item(each) for read_item, each in zip(readers, value, strict=True)])

    return read


def _union_reader(readers: dict[Any, Reader], kinds: tuple[Any, ...]) -> Reader:
    """Read the type of the union that fits the value, or else the first."""
    optional = type(None) in kinds
    first = next(iter(readers.values()))

    def read(value: Any) -> Any:
        if value is None and optional:
            return None
        return readers.get(type(value), first)(value)

    return read


def _choice_reader(choices: tuple[Any, ...]) -> Reader:
    def read(value: Any) -> Any:
        if value not in choices:
            raise _unexpected("/".join(map(str, choices)), value)
        return value

    return read


def _int_reader(least: float) -> Reader:
    most = LIMIT if least > -inf else inf

    def read(value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value < most:
            return value
        raise _unexpected("int" if least else "int from 0 on", value)

    return read


def _float_reader(limit: float) -> Reader:
    """Read a number; a whole number is valid too. With a limit, NaN and infinity are not valid."""

    def read(value: Any) -> Any:
        is_number = isinstance(value, float | int) and not isinstance(value, bool)
        if is_number and (limit == inf or -limit < value < limit):
            return float(value)
        raise _unexpected("float", value)

    return read


def _value_reader(kind: type) -> Reader:
    """Read a bool or a str."""

    def read(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        raise _unexpected(kind.__name__, value)

    return read


def _unexpected(wanted: str, value: Any) -> ProtocolError:
    return ProtocolError(f"expected {wanted}, not {str(value)[:40]!r}")
