"""Tiny EAGLE-3 heads in files of their own, for the models of `head_models`, with a dialable acceptance.

A perfect head computes exactly the row behind the last layer of its main model. It takes the code of a token
from the first layer's input, and the code of the token before from the inputs of two later layers, half of it
from each. Its attention looks at the present cell alone, and replaces the row there by the next one. So a
wrong row, a wrong layer or a wrong order shows at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from .head_models import CODE, VOCABULARY, WIDTH, Weights, alphabet
from .models import Toy, add_vocabulary, finish

_HEADS, _SIZE = 4, 16
_SHARP = 60.0
"""Strength of the attention to the present cell."""
_HIGH = 3.0
"""Deviations of the best score of some thousand tokens."""


@dataclass(frozen=True)
class Eagle:
    """What to make. The same values give the same bytes."""

    own_noise: float = 0.0
    """Strength of the feed-forward part, which the main model lacks, and of a look at earlier cells."""
    reduced: int = 0
    """Size of the vocabulary that it can draft: the tokens that its main model chooses most often. 0 for all
    tokens."""
    own_embeddings: bool = False
    """Whether the file holds the embeddings and the output layer, which are otherwise the main model's."""
    layers: tuple[int, ...] = (0, 2, 3)
    """The layers of the main model whose inputs it reads."""
    seed: int = 0
    """The seed of the main model."""
    main_width: int = WIDTH
    """Width of the rows that it reads, by the file."""
    vocabulary: int = VOCABULARY
    blocks: int = 1
    ids: tuple[int, ...] = ()
    """The first tokens of the reduced vocabulary, by their ids; others for a damaged file."""
    id_type: type = np.int64
    table: int = 0
    """Rows of the table of embeddings; 0 for all tokens."""
    rope: int = _SIZE
    without: tuple[str, ...] = ()
    """Beginnings of the names of tensors that the file lacks."""


def write_eagle(path: Path, eagle: Eagle = Eagle()) -> Path:
    """Write `eagle` as a GGUF file."""
    writer = gguf.GGUFWriter(path, "eagle3")
    _describe(writer, eagle)
    add_vocabulary(writer, Toy(vocabulary=eagle.vocabulary))
    for name, each in _weights(eagle):
        if not name.startswith(eagle.without or "-"):
            kind = eagle.id_type if name == "d2t" else np.float32
            writer.add_tensor(name, np.ascontiguousarray(each, kind))
    finish(writer)
    return path


def _describe(writer: gguf.GGUFWriter, eagle: Eagle) -> None:
    writer.add_key_value("general.name", "eagle", gguf.GGUFValueType.STRING)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(2048)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(eagle.blocks)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_rope_dimension_count(eagle.rope)
    writer.add_array("eagle3.target_layers", list(eagle.layers))
    writer.add_uint32("eagle3.target_hidden_size", eagle.main_width)


def _weights(eagle: Eagle) -> Weights:
    rng = np.random.default_rng(eagle.seed)
    parts = alphabet(rng)
    if eagle.reduced:
        ids = np.sort((-_usual(parts.output)).argsort(kind="stable")[: eagle.reduced])
        ids[: len(eagle.ids)] = eagle.ids
        yield "d2t", ids
        yield "output.weight", parts.output[np.clip(ids, 0, VOCABULARY - 1)]
    elif eagle.own_embeddings:
        yield "output.weight", parts.output
    if eagle.own_embeddings:
        yield "token_embd.weight", parts.embeddings[: eagle.table or None]
    yield "output_norm.weight", np.ones(WIDTH)
    yield "fc.weight", _joined(eagle)
    for block in range(eagle.blocks):
        for name, each in _block(eagle, parts.order, rng):
            yield f"blk.{block}.{name}.weight", each


def _usual(output: np.ndarray) -> np.ndarray:
    """Return for each token how often a model with this output layer chooses it: a figure that rises with it.

    A hidden row holds a one and signs that look random. So a score is the first weight of a token and a draw
    whose deviation is the norm of the others, and the best of all scores is some deviations high.
    """
    figures: np.ndarray = output[:, 0] + _HIGH * np.linalg.norm(output[:, 1:], axis=1)
    return figures


def _joined(eagle: Eagle) -> np.ndarray:
    """Return the matrix that puts the row behind the last layer together from the inputs of three layers."""
    if eagle.main_width != WIDTH or len(eagle.layers) != 3:
        return np.zeros((WIDTH, len(eagle.layers) * eagle.main_width))
    joined = np.zeros((WIDTH, 3, WIDTH))
    begin, middle, end = 1 + CODE, 1 + CODE + CODE // 2, 1 + 2 * CODE
    for layer, places in enumerate((range(begin), range(begin, middle), range(middle, end))):
        for place in places:
            joined[place, layer, place] = 1
    return joined.reshape(WIDTH, -1)


def _block(eagle: Eagle, order: np.ndarray, rng: np.random.Generator) -> Weights:
    token, row = np.zeros((WIDTH, WIDTH)), -np.eye(WIDTH)
    token[: 1 + CODE, : 1 + CODE] = np.eye(1 + CODE)
    for place, source in enumerate(order):
        row[1 + CODE + place, 1 + source] += 1
    # The norms have divided both by their size.
    value = np.hstack([token * np.sqrt((1 + CODE) / WIDTH), row * np.sqrt((1 + 2 * CODE) / WIDTH)])
    look = np.zeros((_HEADS, _SIZE, 2 * WIDTH))
    sharp = min(_SHARP, 1.5 / eagle.own_noise) if eagle.own_noise else _SHARP
    look[:, :, 0] = np.sqrt(sharp)  # the same key and query everywhere: the nearest cell fits best
    yield "attn_q", look.reshape(-1, 2 * WIDTH)
    yield "attn_k", look.reshape(-1, 2 * WIDTH)
    yield "attn_v", value
    yield "attn_output", np.eye(WIDTH)
    for norm in ("attn_norm", "attn_norm_2", "ffn_norm"):
        yield norm, np.ones(WIDTH)
    for name, shape in (
        ("gate", (2 * WIDTH, WIDTH)),
        ("up", (2 * WIDTH, WIDTH)),
        ("down", (WIDTH, 2 * WIDTH)),
    ):
        strength = eagle.own_noise if name == "down" else 1.0
        yield f"ffn_{name}", rng.standard_normal(shape) / np.sqrt(shape[-1]) * strength
