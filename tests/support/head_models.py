"""Tiny GGUF models with a head (MTP) in their own file, whose acceptance can be chosen.

The next token depends on the last two tokens. An embedding holds a one and a code of signs. One attention
layer looks at the token before, and puts its code, in another order, behind the code of the present token.
The head does the same with the hidden row of the token before, so a perfect head predicts what the main model
computes, and a head with the wrong row does not. All other layers are random, and `noise` is their strength:
0 makes the head perfect. Of several heads, each writes its row in an order of its own, which only the next
head can read. So a perfect head in the wrong turn is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import gguf
import numpy as np

from .models import Toy, add_vocabulary, finish

WIDTH, CODE = 64, 31
VOCABULARY = 2048
"""Large enough that copies of the state are small beside the weights."""
_HEADS, _KEYS, _SIZE = 4, 2, 16
_EXPERTS, _USED = 4, 2
_SHARP, _OPEN = 40.0, 20.0
"""Strength of the attention to the token before, and of its open gate."""
_LOUD = 0.35
"""The usual deviation of the weights of the output layer."""

Architecture = Literal["qwen35", "qwen35moe", "qwen3next", "glm4moe", "hy_v3", "step35", "mimo2", "llama"]
_HYBRID, _WITH_EXPERTS = ("qwen35", "qwen35moe", "qwen3next"), ("qwen35moe", "qwen3next", "glm4moe")
_WINDOWED, _WITHOUT_NORMS = ("step35", "mimo2"), ("mimo2", "llama")
"""Architectures with a window in some layers, and without norms of queries and keys."""
_WINDOW = 512

Weights = Iterator[tuple[str, np.ndarray]]


@dataclass(frozen=True)
class DeltaNet:
    """The shape of a gated delta net. Its state holds `values * size * size` numbers for each layer."""

    keys: int = 2
    """Heads of keys."""
    values: int = 4
    """Heads of values, a multiple of those of keys."""
    size: int = 16
    """Numbers in each head."""

    @property
    def inner(self) -> int:
        """Numbers in all heads of values."""
        return self.values * self.size


@dataclass(frozen=True)
class Headed:
    """What to make. The same values give the same bytes."""

    architecture: Architecture = "qwen35"
    """The Qwen ones have a gated delta net in each second layer; step35 and mimo2 have a sliding window in
    some layers. qwen35moe, qwen3next and glm4moe have experts. qwen3next, step35 and mimo2 give the head's
    own rows for tokens with scores only. qwen3next has no copies of its state. llama has no head in its file.
    hy_v3, step35 and mimo2 can have several heads."""
    heads: int = 1
    noise: float = 0.0
    """Strength of the other layers of the main model, which the head cannot know."""
    own_noise: float = 0.0
    """Strength of the attention and the feed-forward part of the head."""
    layers: int = 4
    vocabulary: int = VOCABULARY
    context_length: int = 2048
    seed: int = 0
    headless: bool = False
    """Whether the file lacks the head, and does not claim one."""
    without: tuple[str, ...] = ()
    """Beginnings of the names of tensors that the file lacks."""
    head_width: int = WIDTH
    """Width of the rows that the head can read; another one makes a file that no library can load."""
    net: DeltaNet = DeltaNet()
    """The delta net of a hybrid."""
    loud: float = _LOUD
    """Deviation of the weights of the output layer: the higher, the surer the model is of its tokens."""

    @property
    def hybrid(self) -> bool:
        return self.architecture in _HYBRID

    @property
    def blocks(self) -> int:
        return self.layers + (0 if self.architecture == "llama" or self.headless else self.heads)

    @property
    def trunk(self) -> tuple[str, ...]:
        """The beginnings of the names of all tensors that a file with nothing but the head lacks."""
        return tuple(f"blk.{layer}." for layer in range(self.layers))


@dataclass(frozen=True)
class Alphabet:
    """The parts of a model that its head must know."""

    embeddings: np.ndarray
    order: np.ndarray
    """The order in which the code of the token before lies behind the code of a token."""
    output: np.ndarray


def alphabet(rng: np.random.Generator, vocabulary: int = VOCABULARY, loud: float = _LOUD) -> Alphabet:
    """Return the parts; `rng` is in its first state."""
    embeddings = np.zeros((vocabulary, WIDTH))
    embeddings[:, 0] = 1
    embeddings[:, 1 : 1 + CODE] = rng.choice((-1.0, 1.0), (vocabulary, CODE))
    return Alphabet(embeddings, rng.permutation(CODE), rng.standard_normal((vocabulary, WIDTH)) * loud)


def write_headed(path: Path, headed: Headed = Headed()) -> Path:
    """Write `headed` as a GGUF file."""
    writer = gguf.GGUFWriter(path, headed.architecture)
    describe(writer, headed)
    add_vocabulary(writer, Toy(vocabulary=headed.vocabulary))
    for name, each in weights_of(headed).items():
        if not name.startswith(headed.without or "-"):
            writer.add_tensor(name, np.ascontiguousarray(each, np.float32))
    finish(writer)
    return path


def weights_of(headed: Headed) -> dict[str, np.ndarray]:
    """Return the weights by the names that GGUF files use."""
    rng = np.random.default_rng(headed.seed)
    parts = alphabet(rng, headed.vocabulary, headed.loud)
    weights: dict[str, np.ndarray] = {
        "token_embd.weight": parts.embeddings,
        "output_norm.weight": np.ones(WIDTH),
        "output.weight": parts.output,
    }
    for layer in range(headed.blocks):
        weights |= {f"blk.{layer}.{name}": each for name, each in _block(headed, layer, parts, rng)}
    return weights


def describe(
    writer: gguf.GGUFWriter, headed: Headed, width: int = WIDTH, inner: int = 2 * WIDTH, epsilon: float = 1e-6
) -> None:
    """Write the metadata of a model of this width, whose feed-forward parts have the width `inner`."""
    writer.add_key_value("general.name", "toy", gguf.GGUFValueType.STRING)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(headed.context_length)
    writer.add_embedding_length(width)
    writer.add_block_count(headed.blocks)
    writer.add_layer_norm_rms_eps(epsilon)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_KEYS)
    writer.add_key_length(_SIZE)
    writer.add_value_length(_SIZE)
    writer.add_rope_dimension_count(_SIZE)
    writer.add_rope_freq_base(10_000.0)
    architecture = headed.architecture
    if architecture in ("qwen35", "qwen35moe"):
        writer.add_array(f"{architecture}.rope.dimension_sections", [4, 2, 2, 0])
    if headed.hybrid:
        writer.add_uint32(f"{architecture}.full_attention_interval", 2)
        writer.add_ssm_conv_kernel(4)
        writer.add_ssm_inner_size(headed.net.inner)
        writer.add_ssm_state_size(headed.net.size)
        writer.add_ssm_time_step_rank(headed.net.values)
        writer.add_ssm_group_count(headed.net.keys)
    if headed.blocks > headed.layers:
        writer.add_uint32(f"{architecture}.nextn_predict_layers", headed.heads)
    if architecture in _WINDOWED:
        writer.add_sliding_window(_WINDOW)
        # The library needs layers with a window and others. step35 turns only half of each key in the others.
        windows = [layer == 1 or layer >= headed.layers for layer in range(headed.blocks)]
        writer.add_array(f"{architecture}.attention.sliding_window_pattern", windows)
    if architecture in ("hy_v3", "step35", "mimo2"):
        writer.add_expert_feed_forward_length(WIDTH)
        writer.add_expert_shared_feed_forward_length(WIDTH)
    if architecture in _WITH_EXPERTS:
        writer.add_expert_count(_EXPERTS)
        writer.add_expert_used_count(_USED)
        writer.add_expert_feed_forward_length(WIDTH)
        writer.add_expert_shared_feed_forward_length(WIDTH)
        writer.add_expert_shared_count(1)


def _block(headed: Headed, layer: int, parts: Alphabet, rng: np.random.Generator) -> Weights:
    """Yield the weights of one layer by name. The layer 1 looks back, and the last ones are the heads."""
    is_head = layer >= headed.layers
    strength = headed.own_noise if is_head else headed.noise
    yield "attn_norm.weight", np.ones(WIDTH)
    yield (
        "post_attention_norm.weight" if headed.architecture in (*_HYBRID, "glm4moe") else "ffn_norm.weight",
        np.ones(WIDTH),
    )
    if layer == 1:
        yield from _looking_back(headed, parts.order)
    elif headed.hybrid and layer % 2 == 0 and not is_head:
        yield from _delta_net(headed, strength, rng)
    elif is_head and headed.architecture == "mimo2":
        yield from _fused(_attention(headed, strength, rng))
    else:
        yield from _attention(headed, strength, rng)
    yield from _feed_forward(headed, strength, rng)
    if is_head:
        yield from _joining(headed, layer - headed.layers, parts)


def _joining(headed: Headed, head: int, parts: Alphabet) -> Weights:
    """Put the code of the token before, which its hidden row holds, behind the embedding of the token."""
    last = headed.heads - 1
    read, written = _row_order(head), _row_order(min(head + 1, last))
    joined = np.zeros((WIDTH, WIDTH + headed.head_width))
    joined[: 1 + CODE, : 1 + CODE] = np.eye(1 + CODE) * np.sqrt((1 + CODE) / WIDTH)
    for place, source in enumerate(parts.order):
        joined[1 + CODE + place, WIDTH + read[1 + source]] = np.sqrt((1 + 2 * CODE) / WIDTH)
    ordered = np.empty_like(joined)
    ordered[written] = joined
    yield "nextn.eh_proj.weight", ordered
    yield "nextn.enorm.weight", np.ones(WIDTH)
    yield "nextn.hnorm.weight", np.ones(headed.head_width)
    if last:
        output = np.empty_like(parts.output)
        output[:, written] = parts.output
        yield "nextn.shared_head_head.weight", output
        yield "nextn.shared_head_norm.weight", np.ones(WIDTH)


def _row_order(head: int) -> np.ndarray:
    """Return the place of each number of a hidden row in the rows that this head reads."""
    return np.random.default_rng(head).permutation(WIDTH) if head else np.arange(WIDTH)


def _looking_back(headed: Headed, order: np.ndarray) -> Weights:
    """Attend to the token before alone. The keys are constant, and the queries one position behind."""
    angles = 10_000.0 ** (-2 * np.arange(_SIZE // 2) / _SIZE)
    pairs = np.stack([np.cos(angles), -np.sin(angles)])
    first = np.stack([np.ones(_SIZE // 2), np.zeros(_SIZE // 2)])
    by_pair = headed.architecture == "llama"  # the others have the halves of all pairs one behind the other
    query = np.zeros((_HEADS, 1 + headed.hybrid, _SIZE, WIDTH))
    query[:, 1:, :, 0] = _OPEN  # only hybrids have a gate
    sharp = _SHARP if headed.architecture in _WITHOUT_NORMS else 1.0
    query[:, 0, :, 0] = (pairs.T.ravel() if by_pair else pairs.ravel()) * sharp
    key = np.zeros((_KEYS, _SIZE, WIDTH))
    key[:, :, 0] = first.T.ravel() if by_pair else first.ravel()
    scale = np.sqrt((1 + CODE) / WIDTH)
    value = np.zeros((_KEYS * _SIZE, WIDTH))
    value[:CODE, 1 : 1 + CODE] = np.eye(CODE) * scale
    output = np.zeros((WIDTH, _HEADS, _SIZE))
    for place, source in enumerate(order):
        keys, number = divmod(source, _SIZE)
        output[1 + CODE + place, keys * (_HEADS // _KEYS), number] = 1
    yield "attn_q.weight", query.reshape(-1, WIDTH)
    yield "attn_k.weight", key.reshape(-1, WIDTH)
    yield "attn_v.weight", value
    yield "attn_output.weight", output.reshape(WIDTH, -1)
    if headed.architecture not in _WITHOUT_NORMS:
        yield "attn_q_norm.weight", np.full(_SIZE, _SHARP)
        yield "attn_k_norm.weight", np.ones(_SIZE)


def _attention(headed: Headed, strength: float, rng: np.random.Generator) -> Weights:
    yield "attn_q.weight", _random(rng, (1 + headed.hybrid) * _HEADS * _SIZE, WIDTH)
    yield "attn_k.weight", _random(rng, _KEYS * _SIZE, WIDTH)
    yield "attn_v.weight", _random(rng, _KEYS * _SIZE, WIDTH)
    yield "attn_output.weight", _random(rng, WIDTH, _HEADS * _SIZE) * strength
    if headed.architecture not in _WITHOUT_NORMS:
        yield "attn_q_norm.weight", np.ones(_SIZE)
        yield "attn_k_norm.weight", np.ones(_SIZE)


def _fused(weights: Weights) -> Weights:
    """Join the queries, keys and values."""
    parts = dict(weights)
    yield "attn_qkv.weight", np.concatenate([parts.pop(f"attn_{name}.weight") for name in "qkv"])
    yield from parts.items()


def _delta_net(headed: Headed, strength: float, rng: np.random.Generator) -> Weights:
    net = headed.net
    mixed = 2 * net.keys * net.size + net.inner
    yield "attn_qkv.weight", _random(rng, mixed, WIDTH)
    yield "attn_gate.weight", _random(rng, net.inner, WIDTH)
    yield "ssm_conv1d.weight", _random(rng, mixed, 4)
    yield "ssm_dt.bias", _random(rng, net.values)
    yield "ssm_a", -np.abs(_random(rng, net.values))
    if headed.architecture == "qwen3next":
        yield "ssm_ba.weight", _random(rng, 2 * net.values, WIDTH)
    else:
        yield "ssm_beta.weight", _random(rng, net.values, WIDTH)
        yield "ssm_alpha.weight", _random(rng, net.values, WIDTH)
    yield "ssm_norm.weight", np.ones(net.size)
    yield "ssm_out.weight", _random(rng, WIDTH, net.inner) * strength


def _feed_forward(headed: Headed, strength: float, rng: np.random.Generator) -> Weights:
    if headed.architecture not in _WITH_EXPERTS:
        yield "ffn_gate.weight", _random(rng, 2 * WIDTH, WIDTH)
        yield "ffn_up.weight", _random(rng, 2 * WIDTH, WIDTH)
        yield "ffn_down.weight", _random(rng, WIDTH, 2 * WIDTH) * strength
        return
    yield "ffn_gate_inp.weight", _random(rng, _EXPERTS, WIDTH)
    if headed.hybrid:
        yield "ffn_gate_inp_shexp.weight", _random(rng, WIDTH)
    else:
        yield "exp_probs_b.bias", np.zeros(_EXPERTS)
    for part in ("gate", "up", "down"):
        strong = strength if part == "down" else 1.0
        yield f"ffn_{part}_exps.weight", _random(rng, _EXPERTS, WIDTH, WIDTH) * strong
        yield f"ffn_{part}_shexp.weight", _random(rng, WIDTH, WIDTH) * strong


def _random(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape) / np.sqrt(shape[-1])
