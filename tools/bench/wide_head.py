"""A main model with a head at the cost of a real one: a toy whose acceptance can be chosen, grown.

    python -m tools.bench.wide_head OUT.gguf [--width 1024] [--layers 24] [--inner 4096] [--noise 0.05]

The grown model computes the same function. It has a wider stream, whose further numbers are zero; wider
feed-forward parts, whose further numbers reach nothing; and further layers, which add nothing. RMS norm
divides by the mean square over the width, so its weights are scaled as in `tools.bench.grow`. Matrices are in
F16. `--values 16 --keys 16 --size 128` gives the delta net of Qwen3.5 0.8B, whose state has 1 MB for each
layer. This module measures no speed.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np

from tests.support.head_models import WIDTH, DeltaNet, Headed, describe, weights_of
from tests.support.models import Toy, add_vocabulary, finish

_FILLER = 0.01
"""Standard deviation of weights that reach nothing."""
_OVER_WIDTH = ("attn_norm", "post_attention_norm", "output_norm", "enorm", "hnorm")
"""Norms over the whole width."""
_LAST = ("attn_output", "ssm_out", "ffn_down")
"""Matrices that write into the stream: zeros in a layer that adds nothing."""


def write_wide(path: Path, headed: Headed, width: int, inner: int, first: int = 4) -> Path:
    """Write `headed` grown to this width, with only its `first` layers and its head in use."""
    rng = np.random.default_rng(1)
    small = weights_of(headed)
    writer = gguf.GGUFWriter(path, headed.architecture)
    describe(writer, headed, width, inner, epsilon=1e-6 * WIDTH / width)
    add_vocabulary(writer, Toy(vocabulary=headed.vocabulary))
    for name, weight in small.items():
        block = int(name.split(".")[1]) if name.startswith("blk.") else 0
        idle = first <= block < headed.layers
        wide = _widened(name, weight, width, inner, rng) * (0 if idle and name.split(".")[2] in _LAST else 1)
        matrix = wide.ndim == 2 and "conv1d" not in name
        writer.add_tensor(name, np.ascontiguousarray(wide, np.float16 if matrix else np.float32))
    finish(writer)
    return path


def _widened(name: str, weight: np.ndarray, width: int, inner: int, rng: np.random.Generator) -> np.ndarray:
    """Return a weight for the wider model."""
    part = name.split(".")[-2]
    if part in _OVER_WIDTH:
        norm: np.ndarray = np.concatenate([weight, np.ones(width - WIDTH)]) * np.sqrt(WIDTH / width)
        return norm
    if part in ("ffn_gate", "ffn_up"):
        wide = rng.standard_normal((inner, width), np.float32) * _FILLER
        wide[: len(weight)] = 0
        wide[: len(weight), :WIDTH] = weight
        return wide
    if weight.ndim != 2 or "conv1d" in name:
        return weight
    if part == "eh_proj":
        both = np.zeros((width, 2, width), np.float32)
        both[:WIDTH, :, :WIDTH] = weight.reshape(WIDTH, 2, WIDTH)
        return both.reshape(width, -1)
    rows = width if part in _LAST else len(weight)
    columns = {"attn_output": weight.shape[1], "ssm_out": weight.shape[1], "ffn_down": inner}.get(part, width)
    wide = np.zeros((rows, columns), np.float32)
    wide[: len(weight), : weight.shape[1]] = weight
    return wide


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("out", type=Path)
    add("--width", type=int, default=1024)
    add("--layers", type=int, default=24)
    add("--inner", type=int, default=4096)
    add("--vocabulary", type=int, default=65536)
    add("--noise", type=float, default=0.05, help="the higher, the less often the head is right")
    add("--loud", type=float, default=0.35, help="the higher, the surer the model is of its tokens")
    add("--values", type=int, default=4, help="heads of values in the delta net")
    add("--keys", type=int, default=2, help="heads of keys there")
    add("--size", type=int, default=16, help="numbers in such a head")
    options = parser.parse_args()
    headed = Headed(
        noise=options.noise, own_noise=options.noise, layers=options.layers, vocabulary=options.vocabulary,
        net=DeltaNet(options.keys, options.values, options.size), loud=options.loud,
    )  # fmt: skip
    write_wide(options.out, replace(headed, context_length=4096), options.width, options.inner)


if __name__ == "__main__":
    main()
