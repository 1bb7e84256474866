"""A network of mlx-lm in stages: each machine of a ring computes some of its layers.

The hidden rows go around the ring. The first worker has the first layers, and the machine of the engine has
the last ones. From there the final rows go around once more, so that each machine can choose the next token
for itself. A layer of another machine becomes a `Seam`, which computes nothing. It only fills its cache with
zeros of width 1. So the masks, which come from the caches, are those of the whole model, and all machines cut
their caches in the same way.

Each line is used at once and waited for. Else a GPU would wait for the network, and macOS stops a GPU that
waits for seconds. This module opens no connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import ArraysCache, QuantizedKVCache

from .. import ModelError
from .caches import leaves

SPLIT = frozenset(
    {
        *(
            "cohere",
            "cohere2",
            "deepseek_v3",
            "gemma2",
            "gemma3_text",
            "glm4",
            "glm4_moe",
            "gpt_oss",
            "granite",
        ),
        *("hunyuan_v1_dense", "llama", "ministral3", "mistral", "mixtral", "olmo2", "olmo3", "phi3", "qwen2"),
        *("qwen2_moe", "qwen3", "qwen3_moe", "seed_oss", "smollm3", "starcoder2"),
    }
)
"""mlx-lm's architectures that can be split: a layer takes rows, a mask and one cache, and returns rows."""
_GROUP = 32
"""Width of the zeros in a cache of 8 bits, whose numbers share scales."""

Act = Callable[[Any], Any]


class Wire(Protocol):
    """The lines of one machine."""

    rank: int
    """The place in the ring; 0 is the machine of the engine."""
    size: int

    def send(self, rows: Any) -> None:
        """Send rows to the next machine."""
        ...

    def receive(self, like: Any) -> Any:
        """Return rows from the machine before, of the shape and number format of `like`."""
        ...


class Stage:
    """The layers of one machine, in place in their network."""

    def __init__(self, network: Any, wire: Wire, own: range) -> None:
        """`own` are the layers of this machine, without a gap. Raises `ModelError`."""
        self.scored = True
        """Whether the next call needs scores, and so the final rows."""
        self._wire = wire
        layers = layers_of(network)
        last = len(layers) - 1
        if not 0 <= own.start < own.stop <= len(layers) or (own.stop > last) != (wire.rank == 0):
            raise ModelError(f"layers {own.start} to {own.stop} of {len(layers)} are no stage")
        acts: dict[int, Act] = {own.start - 1: wire.receive} if own.start else {}
        acts[own.stop - 1] = self._pass_on if wire.rank else self._finish
        acts.setdefault(last, self._take_final)
        for place, layer in enumerate(layers):
            if place not in own or place in acts:
                layers[place] = Seam(layer, acts.get(place, _unchanged), here=place in own)

    def _pass_on(self, rows: Any) -> Any:
        self._wire.send(rows)
        return rows

    def _finish(self, rows: Any) -> Any:
        """Send the final rows, which this machine has computed."""
        return self._pass_on(rows) if self.scored else rows

    def _take_final(self, rows: Any) -> Any:
        """Return the final rows, and pass them on to the workers behind this one."""
        if not self.scored:
            return rows  # nobody looks at them
        rows = self._wire.receive(rows)
        return self._pass_on(rows) if self._wire.rank < self._wire.size - 1 else rows


class Seam(nn.Module):  # type: ignore[misc]
    """A layer with a line behind it. The layer itself is here, or on another machine."""

    def __init__(self, layer: Any, act: Act, *, here: bool) -> None:
        super().__init__()
        for name, value in vars(layer).items():  # such as `use_sliding`, which the network reads
            if not name.startswith("_"):
                setattr(self, name, value)
        self._act = act
        self._here = here
        if here:
            self.layer = layer

    def __call__(self, rows: Any, *given: Any, **named: Any) -> Any:
        if self._here:
            rows = self.layer(rows, *given, **named)
        else:
            hold_place([each for each in (*given, *named.values()) if hasattr(each, "nbytes")], rows)
        return self._act(rows)


def layers_of(network: Any) -> list[Any]:
    """Return the list of the layers of a network, as the network itself keeps it. Raises `ModelError`."""
    inner = getattr(network, "language_model", network)
    found = getattr(getattr(inner, "model", inner), "layers", None)
    if not isinstance(found, list):
        raise ModelError("mlx-lm builds this architecture in another way", "Load it on one machine.")
    return found


def hold_place(caches: Sequence[Any], rows: Any) -> None:
    """Let caches count the tokens of `rows` without their numbers."""
    for leaf in leaves([each for each in caches if not isinstance(each, mx.array)]):
        if isinstance(leaf, ArraysCache):
            leaf.cache = [mx.zeros((1,)) for _ in leaf.cache]
        else:
            width = _GROUP if isinstance(leaf, QuantizedKVCache) else 1
            nothing = mx.zeros((rows.shape[0], 1, rows.shape[1], width), rows.dtype)
            leaf.update_and_fetch(nothing, nothing)


def _unchanged(rows: Any) -> Any:
    return rows
