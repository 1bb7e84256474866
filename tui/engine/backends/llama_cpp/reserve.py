"""What llama.cpp would reserve for a model, as it says in its log when it is made to rehearse the load.

The library works out its buffers exactly, for every architecture, without allocating them; only the weights
are not in what it says. This module reads that log. It loads nothing and adds nothing up over devices.
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
class Shape:
    """Of a KV cache."""

    context_length: int
    """Tokens."""
    cache_type: CacheType


@dataclass(frozen=True)
class Reserved:
    """Bytes, weights aside."""

    cache: int
    """KV cache and recurrent states, on all devices together."""
    buffers: dict[str, int]
    """What computing needs, by ggml's names of buffer types: "CPU", "CUDA0", "CUDA_Host"."""
    state: int = 0
    """Of the cache, one recurrent state."""


def reserved(log: Iterable[str]) -> Reserved:
    """What the making of one context says of itself."""
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
