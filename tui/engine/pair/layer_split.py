"""Splits the layers of a main model over several machines by their free memory. Pure arithmetic.

The output layer stays here, so that only hidden rows cross a link and no scores do. The backend decides
whether the layers here come before those of the workers or behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LayerSplit:
    """The number of layers of each worker, and of this machine."""

    workers: tuple[int, ...]
    here: int
    fits: bool
    """Whether every share fits into its memory."""


def split_layers(layers: int, layer: float, here: float, workers: Sequence[float]) -> LayerSplit:
    """Return the split of `layers` layers of `layer` bytes each.

    `here` and `workers` are the bytes for layers in each memory. Each memory gets a share like its part of
    all bytes, and none gets more than it holds, unless all together hold too few.
    """
    room = [max(0, int(free // layer)) for free in (*workers, here)]
    if sum(room) < layers:
        shares = _shares(layers, room) if any(room) else [0] * len(workers) + [layers]
        return LayerSplit(tuple(shares[:-1]), shares[-1], fits=False)
    shares = _shares(layers, room)
    return LayerSplit(tuple(shares[:-1]), shares[-1], fits=True)


def _shares(layers: int, room: Sequence[int]) -> list[int]:
    """Return `layers` in parts proportional to `room`, rounded so that their sum is right."""
    total = sum(room)
    exact = [layers * each / total for each in room]
    shares = [int(each) for each in exact]
    by_rest = sorted(range(len(room)), key=lambda place: exact[place] - shares[place], reverse=True)
    for place in by_rest[: layers - sum(shares)]:
        shares[place] += 1
    return shares
