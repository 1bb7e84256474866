"""How fast this machine reads its own memory, which bounds how fast a processor decodes: for every token it
reads all weights once. It opens no model, and knows nothing of a GPU's memory.
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
"""Read at once, by all threads together: far more than caches hold."""
_SHARE = 16
"""No more than this part of the free memory is taken for it."""
_PASSES = 2


def decoding_bound() -> Callable[[int], float | None]:
    """What a model of so many bytes decodes at most, in tokens a second; None where a GPU holds it all.

    What does not go into the GPU's memory is read from the machine's own. On a Mac the GPU reads that memory
    faster than the processor: there it says nothing.
    """
    on_gpu = USABLE * (all_memory() - memory_bytes()[0])
    rate = memory_rate()

    def at_most(size: int) -> float | None:
        read = size - on_gpu
        return rate / read if read > 0 and sys.platform != "darwin" else None

    return at_most


def memory_rate() -> float:
    """Bytes a second, all cores together, the best of some passes; takes about half a second.

    What other programs take of the cores does not count: only the time that a thread really ran does.
    """
    cores = usable_cores()
    total, free = memory_bytes()
    size = min(_BYTES, (total if free is None else free) // _SHARE) // cores // 8
    parts = [np.ones(max(1, size), np.int64) for _ in range(cores)]  # zeros would share one page
    with ThreadPoolExecutor(cores) as pool:
        return max(sum(pool.map(_rate, parts)) for _ in range(_PASSES))


def _rate(part: NDArray[np.int64]) -> float:
    """Bytes a second that one thread reads."""
    began = thread_time()
    part.max()
    return part.nbytes / max(thread_time() - began, 1e-9)
