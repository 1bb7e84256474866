"""A command or an event as one JSON line, and back, checked against the shape of what it says it is."""

from __future__ import annotations

import json
import types
from dataclasses import is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from .messages import Command, Event

T = TypeVar("T")

PROTOCOL = 2
"""Raised by one whenever an older peer could misread a newer one."""

MAX_LINE = 16 * 1024 * 1024
"""Longest line in bytes that either side reads."""


class ProtocolError(ValueError):
    """A line that is not a known command or event of the right shape."""


def encode(message: Command | Event) -> bytes:
    """One line, newline included. Text is ASCII-escaped, so that no byte of it can end the line."""
    data = {"type": type(message).__name__.lower(), **vars(message)}
    return (json.dumps(data, default=vars, separators=(",", ":")) + "\n").encode("ascii")


def decode_command(line: bytes) -> Command:
    """Raises `ProtocolError` for anything that is not a command."""
    command: Command = _decode(line, "Command")
    return command


def decode_event(line: bytes) -> Event:
    """Raises `ProtocolError` for anything that is not an event."""
    event: Event = _decode(line, "Event")
    return event


def rebuild(kind: type[T], value: object) -> T:
    """A value of the protocol from what `json` reads of it. Raises `ProtocolError`."""
    built: T = _read(kind, value, kind.__name__)
    return built


def _decode(line: bytes, side: Literal["Command", "Event"]) -> Any:
    kinds = _kinds(side)
    try:
        data = json.loads(line)
        if not isinstance(data, dict) or not isinstance(name := data.get("type"), str) or name not in kinds:
            raise ProtocolError(f"unknown message {str(data)[:80]!r}")
        return _read(kinds[name], data, name)
    except ProtocolError:
        raise
    except (ValueError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"not JSON that can be read: {error}") from None


def _read(hint: Any, value: Any, where: str) -> Any:
    """`value`, checked against a type hint and rebuilt as it. Fields that are not known are ignored."""
    origin = get_origin(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        return _read_dataclass(hint, value, where)
    if isinstance(hint, type) and hasattr(hint, "_fields"):
        return _read_row(hint, value, where)
    if origin is tuple:
        items = get_args(hint)
        if not isinstance(value, list):
            raise ProtocolError(f"{where}: expected a list")
        if items[-1] is Ellipsis:
            return tuple(_read(items[0], item, where) for item in value)
        if len(items) != len(value):
            raise ProtocolError(f"{where}: expected {len(items)} items")
        return tuple(_read(kind, item, where) for kind, item in zip(items, value, strict=True))
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        return _read(next((kind for kind in kinds if type(value) is kind), kinds[0]), value, where)
    if origin is Literal:
        if value in get_args(hint):
            return value
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise ProtocolError(f"{where}: unexpected {str(value)[:40]!r}")


def _read_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ProtocolError(f"{where}: expected an object")
    hints = _hints(kind)
    known = {key: _read(hints[key], value[key], f"{where}.{key}") for key in hints if key in value}
    try:
        return kind(**known)
    except TypeError as error:
        raise ProtocolError(f"{where}: {error}") from None


def _read_row(kind: Any, value: Any, where: str) -> Any:
    """A named tuple, which is written as a list."""
    hints = _hints(kind)
    if not isinstance(value, list) or len(value) < len(hints):
        raise ProtocolError(f"{where}: expected {len(hints)} items")
    return kind(*map(_read, hints.values(), value, (f"{where}.{name}" for name in hints)))


@cache
def _kinds(side: str) -> dict[str, type]:
    """The messages of one side, by the type that stands in their line."""
    from . import messages  # late: the app's first paint needs none of them

    return {kind.__name__.lower(): kind for kind in get_args(getattr(messages, side))}


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
