"""Tiny GGUF models with random weights, made in a moment: real files for the real library.

They write nonsense, but each is a proper model with a byte-level BPE vocabulary and ChatML tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice, product
from pathlib import Path
from string import ascii_lowercase
from typing import Literal

import gguf
import numpy as np

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
OTHER_CONTROL = ("<s>", "</s>", "<pad>")
"""Of a model that never learned ChatML."""
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Toy:
    """What to make. The same values give the same bytes."""

    architecture: Literal["llama", "gemma3", "mamba", "lfm2"] = "llama"
    """Plain attention, a sliding window of 32 tokens in each second layer, a recurrent state, or a hybrid: a
    short convolution in each second layer."""
    vocabulary: int = 512
    """259 is the least: the bytes and the control tokens."""
    seed: int = 0
    layers: int = 2
    width: int = 64
    heads: int = 0
    """Attention heads; 0 for heads of 16 numbers, of 64 in a wide model."""
    context_length: int = 512
    not_a_number: Literal["nowhere", "output", "everywhere"] = "nowhere"
    swapped: tuple[int, int] | None = None
    """Two tokens that change places."""
    unused: tuple[int, ...] = ()
    """Tokens that are of the kind "unused"."""
    end: int = 258
    """The token that ends an answer."""
    padding: int = 0
    """Tokens behind the vocabulary that stand for nothing."""
    splitting: str = "gpt-2"
    """llama.cpp's name for how text is cut into words; "deepseek-llm" goes through std::regex."""
    chat_template: str | bytes | None = CHATML
    controls: tuple[str, str, str] = CONTROL
    """The tokens 256 to 258; the first one is BOS."""
    add_bos: bool = False
    name: str | bytes = "toy"


def write_model(path: Path, toy: Toy = Toy()) -> Path:
    """Write `toy` as a GGUF file."""
    rng = np.random.default_rng(toy.seed)
    writer = gguf.GGUFWriter(path, toy.architecture)
    _describe(writer, toy)
    add_vocabulary(writer, toy)
    rows = toy.vocabulary + toy.padding
    writer.add_tensor("token_embd.weight", rng.standard_normal((rows, toy.width), np.float32))
    norm = "token_embd_norm" if toy.architecture == "lfm2" else "output_norm"
    writer.add_tensor(f"{norm}.weight", np.ones(toy.width, np.float32))
    output = rng.standard_normal((rows, toy.width), np.float32) * np.float32(0.4)
    writer.add_tensor("output.weight", output * np.float32("nan" if toy.not_a_number == "output" else 1))
    for layer in range(toy.layers):
        for name, shape in _layer(toy, layer):
            weight = _weight(name, shape, rng)
            if toy.not_a_number == "everywhere":
                weight[...] = np.nan
            writer.add_tensor(f"blk.{layer}.{name}", weight)
    finish(writer)
    return path


def write_big_model(path: Path, vocabulary: int = 32_000) -> Path:
    """Half a billion random weights in Q8_0 within a second or two: for measuring speed, not for tests."""
    toy = Toy(vocabulary=vocabulary, layers=24, width=1280, context_length=4096)
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer, toy)
    add_vocabulary(writer, toy)
    for name in ("token_embd.weight", "output.weight"):
        writer.add_tensor(name, _q8(vocabulary, toy.width, rng), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("output_norm.weight", np.ones(toy.width, np.float32))
    for name, shape in _layer(toy, 0):
        matrix = len(shape) == 2
        weight = _q8(*shape, rng) if matrix else np.ones(shape, np.float32)
        for layer in range(toy.layers):
            kind = gguf.GGMLQuantizationType.Q8_0 if matrix else gguf.GGMLQuantizationType.F32
            writer.add_tensor(f"blk.{layer}.{name}", weight, raw_dtype=kind)
    finish(writer)
    return path


def _describe(writer: gguf.GGUFWriter, toy: Toy) -> None:
    heads = _heads(toy)
    writer.add_key_value("general.name", toy.name, gguf.GGUFValueType.STRING)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(toy.context_length)
    writer.add_embedding_length(toy.width)
    writer.add_block_count(toy.layers)
    writer.add_layer_norm_rms_eps(1e-5)
    if toy.architecture == "mamba":
        writer.add_feed_forward_length(0)
        writer.add_head_count(0)
        writer.add_ssm_conv_kernel(4)
        writer.add_ssm_inner_size(2 * toy.width)
        writer.add_ssm_state_size(8)
        writer.add_ssm_time_step_rank(4)
        return
    writer.add_feed_forward_length(2 * toy.width)
    writer.add_head_count(heads)
    writer.add_head_count_kv([0, heads] * (toy.layers // 2) if toy.architecture == "lfm2" else heads)
    writer.add_rope_dimension_count(toy.width // heads)
    if toy.architecture == "gemma3":
        writer.add_sliding_window(32)
        writer.add_key_value("gemma3.attention.sliding_window_pattern", 2, gguf.GGUFValueType.UINT32)
    if toy.architecture == "lfm2":
        writer.add_shortconv_l_cache(4)


def add_vocabulary(writer: gguf.GGUFWriter, toy: Toy) -> None:
    texts, merges = _vocabulary(toy.vocabulary)
    texts = (*texts[:256], *toy.controls, *texts[259:])
    tokens = [*texts, *(f"[PAD{i}]" for i in range(toy.padding))]
    kinds = [gguf.TokenType.NORMAL] * toy.vocabulary + [gguf.TokenType.UNUSED] * toy.padding
    kinds[256:259] = [gguf.TokenType.CONTROL] * 3
    for token in toy.unused:
        kinds[token] = gguf.TokenType.UNUSED
    if toy.swapped:
        a, b = toy.swapped
        tokens[a], tokens[b] = tokens[b], tokens[a]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(toy.splitting)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(list(merges))
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(toy.end)
    writer.add_add_bos_token(toy.add_bos)
    if toy.chat_template is not None:
        writer.add_key_value("tokenizer.chat_template", toy.chat_template, gguf.GGUFValueType.STRING)


@cache
def _vocabulary(size: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The bytes, the control tokens, then merged pairs of letters and whatever else fills the size."""
    bytes_as_text = tuple(_byte_characters())
    pairs = tuple(islice(product("Ġ" + ascii_lowercase, ascii_lowercase), max(0, size - 259)))
    merged = tuple(a + b for a, b in pairs)
    rest = size - 259 - len(merged)
    texts = (*bytes_as_text, *CONTROL, *merged, *(f"Ġword{i}" for i in range(rest)))
    return texts, tuple(f"{a} {b}" for a, b in pairs)


def _byte_characters() -> Iterator[str]:
    """GPT-2's printable stand-in for each byte."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = iter(range(256, 512))
    for byte in range(256):
        yield chr(byte if byte in shown else next(hidden))


def _heads(toy: Toy) -> int:
    return toy.heads or max(1, toy.width // 16 if toy.width < 512 else toy.width // 64)


def _layer(toy: Toy, index: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The names and shapes of a layer's weights."""
    yield "attn_norm.weight", (toy.width,)
    if toy.architecture == "mamba":
        yield from _state_space(toy.width)
        return
    if toy.architecture == "lfm2" and index % 2 == 0:
        yield from _short_convolution(toy.width)
    else:
        yield from _attention(toy)
    yield "ffn_norm.weight", (toy.width,)
    yield "ffn_gate.weight", (2 * toy.width, toy.width)
    yield "ffn_up.weight", (2 * toy.width, toy.width)
    yield "ffn_down.weight", (toy.width, 2 * toy.width)


def _attention(toy: Toy) -> Iterator[tuple[str, tuple[int, ...]]]:
    for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
        yield f"{part}.weight", (toy.width, toy.width)
    if toy.architecture == "llama":
        return
    yield "attn_q_norm.weight", (toy.width // _heads(toy),)
    yield "attn_k_norm.weight", (toy.width // _heads(toy),)
    if toy.architecture == "gemma3":
        yield "post_attention_norm.weight", (toy.width,)
        yield "post_ffw_norm.weight", (toy.width,)


def _short_convolution(width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "shortconv.conv.weight", (width, 4)
    yield "shortconv.in_proj.weight", (3 * width, width)
    yield "shortconv.out_proj.weight", (width, width)


def _state_space(width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    inner, state, rank = 2 * width, 8, 4
    yield "ssm_in.weight", (2 * inner, width)
    yield "ssm_conv1d.weight", (inner, 4)
    yield "ssm_conv1d.bias", (inner,)
    yield "ssm_x.weight", (rank + 2 * state, inner)
    yield "ssm_dt.weight", (inner, rank)
    yield "ssm_dt.bias", (inner,)
    yield "ssm_a", (inner, state)
    yield "ssm_d", (inner,)
    yield "ssm_out.weight", (width, inner)


def _weight(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Of a size that keeps signals alive through the layers."""
    if "norm" in name:
        return np.ones(shape, np.float32)
    weight = rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(shape[-1]))
    return -np.abs(weight) if name == "ssm_a" else weight


def _q8(rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """Random Q8_0 blocks as bytes: an F16 scale and 32 signed bytes each."""
    blocks = np.empty((rows, columns // 32), np.dtype([("scale", "<f2"), ("values", "i1", 32)]))
    blocks["values"] = np.frombuffer(rng.bytes(rows * columns), np.int8).reshape(rows, columns // 32, 32)
    blocks["scale"] = 1 / (74 * np.sqrt(columns))
    return blocks.view(np.uint8).reshape(rows, columns // 32 * 34)


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
