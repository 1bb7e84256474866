"""The cells of a Gemma 4 model that its assistant looks at: their shape, and whether an assistant fits them.

An assistant is a head in a file of its own without cells. Its layers attend to the cells of the last two
layers of the main model: those with a window to the last but one, the others to the last. llama.cpp does not
check the fit. Without it, it ends the process or reads other memory. This module opens no file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from .gguf import BadModelFile, Tensor

GEMMA, ASSISTANT = "gemma4", "gemma4-assistant"
"""The architectures of the main model and of its assistant."""


class MetadataKeys(Protocol):
    """The keys and the tensors of a file."""

    @property
    def tensors(self) -> Sequence[Tensor]: ...

    def number(self, key: str, default: int) -> int: ...

    def whole_numbers(self, key: str) -> tuple[int, ...]:
        """Return the items of an array; empty if it is missing."""
        ...

    @property
    def content(self) -> Callable[[Tensor], bytes]:
        """Returns the bytes of a tensor."""
        ...


@dataclass(frozen=True)
class LayerCells:
    """The shape of the cells of one layer."""

    windowed: bool
    keys: int
    size: int
    """Numbers in a key."""


def layer_cells(architecture: str, keys: MetadataKeys) -> tuple[LayerCells, ...]:
    """Return the cells of each layer; empty for all other architectures, and if the file does not say.

    Raises `BadModelFile` for an assistant that the library could not run.
    """
    if architecture not in (GEMMA, ASSISTANT):
        return ()
    blocks, of = keys.number(f"{architecture}.block_count", 0), f"{architecture}.attention"
    pattern, counts = (
        keys.whole_numbers(f"{of}.{each}") for each in ("sliding_window_pattern", "head_count_kv")
    )
    counts = counts or (keys.number(f"{of}.head_count_kv", 0),) * blocks
    sizes = [_size(architecture, keys.number, suffix) for suffix in ("", "_swa")]
    cells = zip(pattern, counts, strict=False)
    found = tuple(LayerCells(bool(windowed), count, sizes[windowed]) for windowed, count in cells)
    if architecture == ASSISTANT:
        _check(found, blocks, keys.number(f"{architecture}.nextn_predict_layers", 0))
    return found


def misfit(main: Sequence[LayerCells], head: Sequence[LayerCells]) -> str:
    """Return why an assistant cannot look at the cells of a main model; empty if it can."""
    if len(main) < 2 or not main[-2].windowed or main[-1].windowed:
        return "the last layers of the main model are not those of a Gemma 4 model"
    for each in head:
        theirs = main[-2] if each.windowed else main[-1]
        if each != theirs:
            shapes = (f"{one.keys} keys of {one.size}" for one in (each, theirs))
            return f"the head of another model: it reads {', this one has '.join(shapes)}"
    return ""


def _size(architecture: str, number: Callable[[str, int], int], suffix: str) -> int:
    """Return the numbers in a key. Raises `BadModelFile` if the library could not turn it."""
    size = number(f"{architecture}.attention.key_length{suffix}", 0)
    turned = number(f"{architecture}.rope.dimension_count{suffix}", size)
    if architecture == ASSISTANT and (turned > size or turned % 2):
        raise BadModelFile(f"damaged header: positions turn {turned} of {size} numbers of a key")
    return size


def _check(cells: Sequence[LayerCells], blocks: int, heads: int) -> None:
    if len(cells) != blocks or heads != blocks:
        raise BadModelFile(f"damaged header: {len(cells)} of {blocks} layers in the head of a Gemma 4 model")
    if min(min(each.size, each.keys) for each in cells) <= 0:
        raise BadModelFile("damaged header: the head of a Gemma 4 model does not describe its keys")
    if not any(each.windowed for each in cells):
        raise BadModelFile("damaged header: no layer with a window in the head of a Gemma 4 model")
