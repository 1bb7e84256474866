"""Reads from llama.cpp's log how many bytes a model would reserve, when the library rehearses a load.

The library computes its buffers exactly, for every architecture, without allocating them. The weights are not
included. This module loads nothing and adds nothing up over devices.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ....protocol import CacheType

_MIB = 1 << 20
_CACHE = re.compile(r"llama_(?:kv_cache|memory_recurrent)\w*: size =\s*([\d.]+) MiB")
_STATE = re.compile(r"llama_memory_recurrent: size =\s*([\d.]+) MiB \(\s*(\d+) cells.*?\s(\d+) rs_seq")
_BUFFER = re.compile(r"(\S+)\s+(?:compute|output) buffer size =\s*([\d.]+) MiB")


@dataclass(frozen=True)
class CacheShape:
    """Shape of a KV cache."""

    context_length: int
    """Length in tokens."""
    cache_type: CacheType


@dataclass(frozen=True)
class Reserved:
    """Reserved bytes, without the weights."""

    cache: int
    """KV cache and recurrent states, on all devices together."""
    buffers: dict[str, int]
    """Buffers for computing, by ggml's names of buffer types: "CPU", "CUDA0", "CUDA_Host"."""
    state: int = 0
    """The part of `cache` for one recurrent state."""


def reserved(log: Iterable[str]) -> Reserved:
    """Return the reserved bytes from the log lines of one new context."""
    cache = state = 0.0
    buffers: dict[str, float] = {}
    for line in log:
        if found := _CACHE.search(line):
            cache += float(found[1])
            if recurrent := _STATE.search(line):
                size, cells, copies = recurrent.groups()
                state += float(size) / (int(cells) * (1 + int(copies)))
        elif found := _BUFFER.search(line):
            buffers[found[1]] = buffers.get(found[1], 0.0) + float(found[2])
    bytes_ = {name: round(size * _MIB) for name, size in buffers.items()}
    return Reserved(round(cache * _MIB), bytes_, round(state * _MIB))
