"""Heads in files of their own: the shape of one, and whether it can draft for a main model.

An EAGLE-3 head reads the rows that enter three layers of its main model. An MTP head is the last block of a
model whose other blocks are in another file. A Gemma 4 assistant looks at the cells of its main model.
llama.cpp ends the process on a head that does not fit, so each number is compared here first. Names say
nothing: a head fits all models of one shape and one vocabulary. This module opens no file.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ...protocol import HeadKind
from .gguf import BadModelFile, Tensor, UnusableModelFile
from .shared_cells import ASSISTANT, GEMMA, LayerCells, MetadataKeys
from .shared_cells import misfit as other_cells

ONLY_HEAD = "only the head of a model, which drafts for that model"
ITS_MAIN = "Load that model, and choose this head as its draft."
"""Reason and remedy for a head that is taken for a model."""
EAGLE = "eagle3"
"""The architecture of EAGLE-3 heads."""
ALONE: dict[str, HeadKind] = {EAGLE: "eagle3", ASSISTANT: "assistant"}
"""The architectures of heads that are always in files of their own."""
WIDTHS = {ASSISTANT: "embedding_length_out"}
"""The key with the width of a hidden row, where it is not `embedding_length`."""
_UNUSED = {
    "dflash": "a DFlash draft",
}
"""Architectures of other files that draft only together with their main model."""
LAYER_INPUTS = frozenset(
    {
        "bailingmoe3",
        "deepseek4",
        "gemma4",
        "gpt-oss",
        "hunyuan-dense",
        "hunyuan_vl",
        "lfm2",
        "lfm2moe",
        "llama",
        "mimo2",
        "minimax-01",
        "minimax-m2",
        "muse-glimmer",
        "nanbeige",
        "nemotron_h",
        "nemotron_h_moe",
        "qwen3",
        "qwen35",
        "qwen35moe",
        "qwen3moe",
        "qwen3next",
    }
)
"""The architectures whose layers' inputs llama.cpp gives, one row of the model's width for each token. If
another one is asked, it ends the process. The wider rows of `qwen4exp` end the process too."""
LAST_OUTPUTS = frozenset(
    {
        "bailingmoe3",
        "deepseek4",
        "gemma4",
        "gpt-oss",
        "mimo2",
        "nemotron_h",
        "nemotron_h_moe",
        "qwen35",
        "qwen35moe",
        "qwen3next",
    }
)
"""Those of them that also give the row behind the last layer. It counts as the input of one more layer."""


@dataclass(frozen=True)
class RowReader:
    """The parts of a head that its main model must fit."""

    layers: tuple[int, ...]
    """The layers of the main model whose inputs it reads, in order."""
    main_width: int
    """Numbers in each of these rows."""
    width: int
    """Numbers in a row of its own."""
    borrows: bool
    """Whether it lacks embeddings or an output layer, and uses those of the main model."""


@dataclass(frozen=True)
class Shape:
    """The numbers of a model that decide which heads fit it."""

    architecture: str
    layers: int
    """Layers without the heads behind them."""
    width: int
    """Numbers in a hidden row."""
    vocabulary: int
    """Tokens."""
    cells: tuple[LayerCells, ...] = ()
    """The cells of its layers, or those that it looks at; see `shared_cells`."""


def check_kind(architecture: str) -> None:
    """Raise `UnusableModelFile` for a head of a kind that cannot be used yet."""
    if name := _UNUSED.get(architecture):
        raise UnusableModelFile(f"{name}: it drafts only inside its main model, and cannot be used here yet")


def row_reader(architecture: str, keys: MetadataKeys, vocabulary: int) -> RowReader | None:
    """Return the shape of an EAGLE-3 head; None for another architecture.

    Raises `BadModelFile` for numbers on which llama.cpp would end the process.
    """
    if architecture != EAGLE:
        return None
    number = keys.number
    if number("split.count", 1) > 1:
        raise UnusableModelFile("a head in several files, which cannot be used")
    layers, width = keys.whole_numbers(f"{EAGLE}.target_layers"), number(f"{EAGLE}.embedding_length", 0)
    if len(layers) != 3 or min(layers) < 0:
        raise BadModelFile(f"damaged header: an EAGLE-3 head reads three layers, not {list(layers[:9])}")
    if (blocks := number(f"{EAGLE}.block_count", 0)) != 1:
        raise BadModelFile(f"damaged header: {blocks} layers in an EAGLE-3 head, not one")
    _check_attention(number, width)
    by_name = {tensor.name: tensor for tensor in keys.tensors}
    _check_vocabulary(by_name, vocabulary, keys.content)
    own = {"token_embd.weight", "output.weight"} & by_name.keys()
    return RowReader(layers, number(f"{EAGLE}.target_hidden_size", 0), width, borrows=len(own) < 2)


def _check_attention(number: Callable[[str, int], int], width: int) -> None:
    heads = number(f"{EAGLE}.attention.head_count", 1)
    size = number(f"{EAGLE}.attention.key_length", width // max(1, heads))
    if size != number(f"{EAGLE}.attention.value_length", size):
        raise BadModelFile("damaged header: keys and values of an EAGLE-3 head differ in size")
    turned = number(f"{EAGLE}.rope.dimension_count", size)
    if not 0 < turned <= size or turned % 2:
        raise BadModelFile(f"damaged header: positions turn {turned} of {size} numbers of a key")


def _check_vocabulary(
    tensors: Mapping[str, Tensor], vocabulary: int, content: Callable[[Tensor], bytes]
) -> None:
    table, ids = tensors.get("token_embd.weight"), tensors.get("d2t")
    if table and not vocabulary <= table.elements // table.shape[0]:
        raise BadModelFile(f"damaged header: embeddings of shape {table.shape} for {vocabulary} tokens")
    if ids is None:
        return
    output = tensors.get("output.weight")
    if ids.type.name != "I64" or len(ids.shape) != 1 or output is None or output.shape[1:] != ids.shape:
        raise BadModelFile("damaged header: its list of tokens (d2t) does not fit its output layer")
    listed = array("q", content(ids))
    if min(listed) < 0 or max(listed) >= vocabulary:
        raise BadModelFile("damaged file: its list of tokens (d2t) names a token that does not exist")


def misfit(main: Shape, head: Shape, reader: RowReader | None) -> str:
    """Return why a head cannot draft for `main`; empty if it can. Only an EAGLE-3 head has a `reader`."""
    if reader:
        difference = _other_rows(main, reader)
    elif head.architecture == ASSISTANT:
        difference = _other_cells(main, head)
    else:
        difference = _other_layers(main, head)
    if difference:
        return difference
    if head.vocabulary != main.vocabulary:
        return f"the head of another model: it knows {head.vocabulary:,} tokens, this one {main.vocabulary:,}"
    return ""


def _other_rows(main: Shape, head: RowReader) -> str:
    if main.architecture not in LAYER_INPUTS:
        return f"llama.cpp runs no EAGLE-3 head beside a model of the architecture {main.architecture!r}"
    if head.main_width != main.width or (head.borrows and head.width != main.width):
        wanted = head.main_width if head.main_width != main.width else head.width
        return _of_width(wanted, main)
    last = main.layers - (main.architecture not in LAST_OUTPUTS)
    if max(head.layers) > last:
        return f"the head of another model: it reads layer {max(head.layers)}, this one has {main.layers}"
    return ""


def _other_cells(main: Shape, head: Shape) -> str:
    if main.architecture != GEMMA:
        return "the head of another model: it drafts only for a Gemma 4 model"
    if head.width != main.width:
        return _of_width(head.width, main)
    return other_cells(main.cells, head.cells)


def _other_layers(main: Shape, head: Shape) -> str:
    if head.architecture != main.architecture:
        return f"the head of another model, of the architecture {head.architecture!r}"
    if head.width != main.width:
        return _of_width(head.width, main)
    if head.layers != main.layers:
        return f"the head of another model, with {head.layers} layers; this one has {main.layers}"
    return ""


def _of_width(width: int, main: Shape) -> str:
    return f"the head of another model: it needs rows of {width:,} numbers, these have {main.width:,}"
