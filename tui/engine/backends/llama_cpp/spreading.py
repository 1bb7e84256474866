"""Tells llama.cpp which device computes which layers of a model. It plans nothing and connects to nothing."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

from .. import ModelError, Spread
from . import native


def spread_over(params: Any, library: Any, spread: Spread, gpu_layers: int) -> list[Any]:
    """Set the devices and the layers of each in `params`, the parameters of a load.

    The processor here has the first layers, then come the workers, the GPUs here and the output layer. Of the
    layers here, `gpu_layers` lie on the GPUs, -1 for all. Return the arrays that `params` points to: they
    must live until the load is over. Raises `ModelError`.
    """
    first, behind = _here(library, spread, gpu_layers)
    devices = [*spread.devices, *(device for device, _ in behind)]
    layers = [*spread.layers, *(count for _, count in behind)]
    most = library.llama_max_devices()
    if len(devices) > most:
        raise ModelError(f"llama.cpp uses at most {most} devices", "Name fewer workers.")
    handles = (ctypes.c_void_p * (len(devices) + 1))(*devices, None)
    shares = (ctypes.c_float * most)(*layers)
    params.devices = ctypes.addressof(handles)
    params.tensor_split = ctypes.cast(shares, ctypes.POINTER(ctypes.c_float))
    params.n_gpu_layers = sum(layers) if first else -1
    return [handles, shares]


def _here(library: Any, spread: Spread, gpu_layers: int) -> tuple[int, list[tuple[int, int]]]:
    """Return how many layers this machine computes before the workers, and its devices behind them with
    their layers, the output layer included.

    The processor computes before the workers. llama.cpp has two backends for a processor that is named among
    the devices, and the rows of a worker in front of it would come to each of them, with a round trip each.
    """
    gpus = native.gpus(library) if gpu_layers else []
    on_gpus = spread.here if gpu_layers < 0 else min(gpu_layers, spread.here)
    if not gpus or not on_gpus:
        behind = spread.here if spread.last_here else 1
        return spread.here - behind, [(native.processor(library), behind)]
    counts = by_free_memory(on_gpus, [gpu.free for gpu in gpus])
    found = [(gpu.handle, count) for gpu, count in zip(gpus, counts, strict=True)]
    before = spread.here - on_gpus
    if before and spread.last_here:
        return 0, [(native.processor(library), before), *found]
    return before, found


def by_free_memory(layers: int, free: Sequence[int]) -> list[int]:
    """Return `layers` in parts like those of the free bytes of each device."""
    total = sum(free) or 1
    ends = [round(layers * reached / total) for reached in accumulate(free)]
    ends[-1] = layers
    return [end - begin for begin, end in pairwise([0, *ends])]
