"""Tiny Gemma 4 models and their assistants, with a dialable acceptance.

Both are made as in `head_models`. An assistant has no cells: its attention looks at the main model's. A
perfect one does without attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from .head_models import CODE, VOCABULARY, WIDTH, Weights, alphabet
from .models import Toy, add_vocabulary, finish

_LOOK = 10.0
"""Strength of the attention to the token before."""
OWN = 128
"""Width of an assistant."""
_HEADS, _KEYS, _SIZE = 4, 2, 16


@dataclass(frozen=True)
class Gemma:
    """What to make. The same values give the same bytes."""

    noise: float = 0.0
    """Strength of the layers that the other one lacks."""
    layers: int = 4
    seed: int = 0
    window: int = 32
    keys: int = _KEYS
    size: int = _SIZE
    """Heads of keys, and numbers in a key."""
    full: tuple[int, ...] = (3,)
    """The layers that see the whole text."""
    main_width: int = WIDTH
    vocabulary: int = VOCABULARY
    turned: int = 0
    """Numbers of a key that its position turns; 0 for all."""
    heads: int = 0
    """Layers that an assistant claims as its own; 0 for all."""
    without: tuple[str, ...] = ()
    """Beginnings of the names of tensors that the file lacks."""


ASSISTANT = Gemma(layers=2, full=(1,))


def write_gemma(path: Path, gemma: Gemma = Gemma()) -> Path:
    """Write a main model."""
    writer = gguf.GGUFWriter(path, "gemma4")
    _describe(writer, gemma, WIDTH)
    for name, each in gemma_weights(gemma):
        _add(writer, gemma, name, each)
    finish(writer)
    return path


def write_assistant(path: Path, gemma: Gemma = ASSISTANT) -> Path:
    """Write the assistant of a model with the same seed."""
    writer = gguf.GGUFWriter(path, "gemma4-assistant")
    _describe(writer, gemma, OWN)
    writer.add_embedding_length_out(gemma.main_width)
    writer.add_nextn_predict_layers(gemma.heads or gemma.layers)
    for name, each in assistant_weights(gemma):
        _add(writer, gemma, name, each)
    finish(writer)
    return path


def gemma_weights(gemma: Gemma) -> Weights:
    """Yield the weights of a main model by the names that GGUF files use."""
    rng = np.random.default_rng(gemma.seed)
    parts = alphabet(rng)
    yield "token_embd.weight", parts.embeddings
    yield "output.weight", parts.output
    yield "output_norm.weight", np.ones(WIDTH)
    yield "rope_freqs.weight", np.ones(gemma.size // 2)
    for layer in range(gemma.layers):
        weights = [*_layer(gemma, WIDTH, rng, 8 * gemma.noise), *_keys(gemma, rng)]
        for name, each in weights if layer != 1 else ():
            yield f"blk.{layer}.{name}.weight", each
    for name, each in _looking_back(gemma, parts.order, rng):
        yield f"blk.1.{name}.weight", each


def assistant_weights(gemma: Gemma) -> Weights:
    """Yield the weights of an assistant by the names that GGUF files use."""
    rng = np.random.default_rng(gemma.seed)
    parts = alphabet(rng)
    scores = np.zeros((gemma.vocabulary, OWN))
    scores[:, :WIDTH] = parts.output[: gemma.vocabulary] / np.sqrt(2)
    joined = np.zeros((OWN, 2, WIDTH))
    joined[: 1 + CODE, 0, : 1 + CODE] = np.eye(1 + CODE) / 8  # the embeddings were scaled
    for place, source in enumerate(parts.order):
        joined[1 + CODE + place, 1, 1 + source] = np.sqrt((1 + 2 * CODE) / WIDTH)
    yield "token_embd.weight", scores
    yield "output_norm.weight", np.ones(OWN)
    yield "rope_freqs.weight", np.ones(gemma.size // 2)
    yield "nextn.pre_projection.weight", joined.reshape(OWN, -1)
    yield "nextn.post_projection.weight", np.eye(WIDTH, OWN) / np.sqrt(2)
    for layer in range(gemma.layers):
        yield f"blk.{layer}.layer_output_scale.weight", np.ones(1)
        for name, each in _layer(gemma, OWN, rng, gemma.noise):
            yield f"blk.{layer}.{name}.weight", each


def _add(writer: gguf.GGUFWriter, gemma: Gemma, name: str, weight: np.ndarray) -> None:
    if not name.startswith(gemma.without or "-"):
        writer.add_tensor(name, np.ascontiguousarray(weight, np.float32))


def _describe(writer: gguf.GGUFWriter, gemma: Gemma, width: int) -> None:
    writer.add_key_value("general.name", "gemma", gguf.GGUFValueType.STRING)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(2048)
    writer.add_embedding_length(width)
    writer.add_embedding_length_per_layer_input(0)
    writer.add_block_count(gemma.layers)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(gemma.keys)
    for add in (writer.add_key_length, writer.add_value_length, writer.add_key_length_swa,
                writer.add_value_length_swa):  # fmt: skip
        add(gemma.size)
    writer.add_rope_dimension_count(gemma.turned or gemma.size)
    writer.add_rope_dimension_count_swa(gemma.size)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_freq_base_swa(10_000.0)
    writer.add_final_logit_softcapping(0.0)  # the library lowers high scores of the main model alone
    writer.add_sliding_window(gemma.window)
    writer.add_sliding_window_pattern([layer not in gemma.full for layer in range(gemma.layers)])
    add_vocabulary(writer, Toy(vocabulary=gemma.vocabulary))


def _layer(gemma: Gemma, width: int, rng: np.random.Generator, strength: float) -> Weights:
    """Yield the weights of a layer but its keys and values. Norms after each part give it its strength."""
    yield "attn_q", _random(rng, _HEADS * gemma.size, width)
    yield "attn_output", _random(rng, width, _HEADS * gemma.size)
    yield "attn_q_norm", np.ones(gemma.size)
    for name, shape in (
        ("gate", (2 * width, width)),
        ("up", (2 * width, width)),
        ("down", (width, 2 * width)),
    ):
        yield f"ffn_{name}", _random(rng, *shape)
    for norm in ("attn_norm", "ffn_norm"):
        yield norm, np.ones(width)
    for norm in ("post_attention_norm", "post_ffw_norm"):
        yield norm, np.full(width, strength)


def _keys(gemma: Gemma, rng: np.random.Generator) -> Weights:
    yield "attn_k", _random(rng, gemma.keys * gemma.size, WIDTH)
    yield "attn_v", _random(rng, gemma.keys * gemma.size, WIDTH)
    yield "attn_k_norm", np.ones(gemma.size)


def _looking_back(gemma: Gemma, order: np.ndarray, rng: np.random.Generator) -> Weights:
    """Attend to the token before alone, as in `head_models`. Gemma 4 norms the values, too."""
    angles = 10_000.0 ** (-2 * np.arange(gemma.size // 2) / gemma.size)
    query = np.zeros((_HEADS, gemma.size, WIDTH))
    query[:, :, 0] = np.concatenate([np.cos(angles), -np.sin(angles)])
    key = np.zeros((_KEYS, gemma.size, WIDTH))
    key[:, : gemma.size // 2, 0] = 1
    value = np.zeros((_KEYS * gemma.size, WIDTH))
    value[:CODE, 1 : 1 + CODE] = np.eye(CODE)
    value[CODE, 0] = 1  # all numbers of a value have one size, which its norm keeps
    output = np.zeros((WIDTH, _HEADS, gemma.size))
    for place, source in enumerate(order):
        keys, number = divmod(source, gemma.size)
        output[1 + CODE + place, keys * (_HEADS // _KEYS), number] = 1
    weights = dict(_layer(gemma, WIDTH, rng, 8 * gemma.noise))
    weights["post_attention_norm"] = np.full(WIDTH, 8 * np.sqrt(CODE / WIDTH))
    weights |= {"attn_q": query.reshape(-1, WIDTH), "attn_output": output.reshape(WIDTH, -1)}
    weights |= {"attn_q_norm": np.full(gemma.size, _LOOK), "attn_k_norm": np.ones(gemma.size)}
    weights |= {"attn_k": key.reshape(-1, WIDTH), "attn_v": value}
    yield from weights.items()


def _random(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape) / np.sqrt(shape[-1])
