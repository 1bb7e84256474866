"""Measures the speed at which this machine reads its memory, which bounds decoding on a processor.

For every token, a processor reads all weights once. This module opens no model and ignores a GPU's memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import thread_time

import numpy as np
from numpy.typing import NDArray

from .hardware import USABLE, all_memory, memory_bytes, usable_cores

_BYTES = 192 << 20
"""Bytes read at once by all threads together, far more than the processor's caches hold."""
_SHARE = 16
"""Divisor: at most 1/16 of the free memory is used."""
_PASSES = 2


def decoding_bound() -> Callable[[int], float | None]:
    """Return a function from a model's bytes to its most tokens per second; None if a GPU holds it all.

    The part that does not fit into the GPU's memory is read from the host's. On a Mac the GPU reads the same
    memory faster than the processor, so there is no bound.
    """
    on_gpu = USABLE * (all_memory() - memory_bytes()[0])
    rate = memory_rate()

    def at_most(size: int) -> float | None:
        read = size - on_gpu
        return rate / read if read > 0 and sys.platform != "darwin" else None

    return at_most


def memory_rate() -> float:
    """Return bytes per second of all cores together, the best of several passes; takes about half a second.

    Only the time counts in which a thread really ran, so other programs do not change the result.
    """
    cores = usable_cores()
    total, free = memory_bytes()
    size = min(_BYTES, (total if free is None else free) // _SHARE) // cores // 8
    parts = [np.ones(max(1, size), np.int64) for _ in range(cores)]  # zeros would share one page
    with ThreadPoolExecutor(cores) as pool:
        return max(sum(pool.map(_rate, parts)) for _ in range(_PASSES))


def _rate(part: NDArray[np.int64]) -> float:
    """Return the bytes per second that one thread reads."""
    began = thread_time()
    part.max()
    return part.nbytes / max(thread_time() - began, 1e-9)
