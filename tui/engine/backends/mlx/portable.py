"""The content of mlx-lm's caches as bytes, and back, for a cache that outlives its process.

It handles the kinds of `caches.py`, and changes no length and no entry.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import msgspec
import numpy as np
from mlx_lm.models.cache import ArraysCache, ChunkedKVCache, QuantizedKVCache

_LENGTH = 4
"""Bytes of the length of the plan, which stands first."""


class _Array(msgspec.Struct):
    """The form of an array, whose bytes stand behind the plan."""

    type: str
    shape: list[int]


def packed(value: Any) -> bytes:
    """Return nested lists of arrays, numbers and None as bytes."""
    parts: list[bytes] = []

    def plan(each: Any) -> Any:
        if isinstance(each, mx.array):
            flat = mx.contiguous(each).reshape(-1).view(mx.uint8)  # numpy knows no bfloat16
            parts.append(np.array(flat).tobytes())
            return _Array(str(each.dtype).rpartition(".")[2], list(each.shape))
        return each if each is None or isinstance(each, int) else [plan(inner) for inner in each]

    head = msgspec.json.encode(plan(value))
    return b"".join((len(head).to_bytes(_LENGTH, "little"), head, *parts))


def unpacked(data: Any) -> Any:
    """Return the nested lists that `packed` has packed."""
    view = memoryview(data)
    length = int.from_bytes(view[:_LENGTH], "little")
    place = _LENGTH + length

    def built(each: Any) -> Any:
        nonlocal place
        if isinstance(each, dict):
            form = msgspec.convert(each, _Array)
            kind = getattr(mx, form.type)
            size = kind.size
            for extent in form.shape:
                size *= extent
            flat = np.frombuffer(view[place : place + size], np.uint8)
            place += size
            return mx.array(flat).view(kind).reshape(form.shape)
        return [built(inner) for inner in each] if isinstance(each, list) else each

    return built(msgspec.json.decode(view[_LENGTH:place]))


def content_of(leaf: Any) -> Any:
    """Return all that one cache holds, for `fill`; None for an empty one. A window saves itself."""
    if isinstance(leaf, ArraysCache):
        return list(leaf.cache)
    if leaf.keys is None:
        return None
    keys, values = leaf.keys_and_values()
    if isinstance(leaf, QuantizedKVCache):
        return [leaf.group_size, list(keys), list(values)]
    return [leaf.start_position if isinstance(leaf, ChunkedKVCache) else 0, keys, values]


def fill(leaf: Any, content: Any, length: int) -> None:
    """Put the content of a cache of `length` tokens into an empty one of the same kind."""
    if isinstance(leaf, ArraysCache):
        leaf.cache = content
        return
    if content is None:
        return
    first, leaf.keys, leaf.values = content
    leaf.offset = length
    if isinstance(leaf, QuantizedKVCache):
        leaf.group_size, leaf.keys, leaf.values = first, tuple(leaf.keys), tuple(leaf.values)
    elif isinstance(leaf, ChunkedKVCache):
        leaf.start_position = first
