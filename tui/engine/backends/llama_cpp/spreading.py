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

    The workers come first. Of the layers here, `gpu_layers` lie on the GPUs, -1 for all. Return the arrays
    that `params` points to: they must live until the load is over. Raises `ModelError`.
    """
    here = _here(library, spread.here, gpu_layers)
    devices = [*spread.devices, *(device for device, _ in here)]
    layers = [*spread.layers, *(count for _, count in here)]
    most = library.llama_max_devices()
    if len(devices) > most:
        raise ModelError(f"llama.cpp uses at most {most} devices", "Name fewer workers.")
    handles = (ctypes.c_void_p * (len(devices) + 1))(*devices, None)
    shares = (ctypes.c_float * most)(*layers)
    params.devices = ctypes.addressof(handles)
    params.tensor_split = ctypes.cast(shares, ctypes.POINTER(ctypes.c_float))
    params.n_gpu_layers = -1  # the processor is one of the devices
    return [handles, shares]


def _here(library: Any, layers: int, gpu_layers: int) -> list[tuple[int, int]]:
    """Return the devices of this machine with their layers, the processor first."""
    gpus = native.gpus(library) if gpu_layers else []
    on_gpus = layers if gpu_layers < 0 else min(gpu_layers, layers)
    found = []
    if not gpus or on_gpus < layers:
        found.append((native.processor(library), layers - on_gpus if gpus else layers))
    if gpus:
        counts = by_free_memory(on_gpus, [gpu.free for gpu in gpus])
        found += [(gpu.handle, count) for gpu, count in zip(gpus, counts, strict=True)]
    return found


def by_free_memory(layers: int, free: Sequence[int]) -> list[int]:
    """Return `layers` in parts like those of the free bytes of each device."""
    total = sum(free) or 1
    ends = [round(layers * reached / total) for reached in accumulate(free)]
    ends[-1] = layers
    return [end - begin for begin, end in pairwise([0, *ends])]
