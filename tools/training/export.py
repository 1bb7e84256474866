"""Writes a trained model and its tokenizer as a GGUF file that llama.cpp reads, and reads such a file back.

Matrices are stored in Q8_0 and norms in F32; the output matrix is left out because the models reuse the
table of the input tokens. With Q8_0 llama.cpp computes a row on a CPU to the same bits alone and in a batch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf.quants import dequantize, quantize
from tokenizers import Tokenizer
from torch import Tensor

from .model import CONTEXT, EPSILON, ROPE_BASE, Llama, Shape
from .tokens import CHAT_TEMPLATE, CONTROL, END_OF_TEXT, PRE, TURN_END, known_tokenizer


def write_gguf(path: Path, name: str, model: Llama, tokenizer: Tokenizer) -> None:
    """Write one model as one file."""
    writer = gguf.GGUFWriter(path, "llama")
    _add_description(writer, name, model.shape)
    _add_tokenizer(writer, tokenizer)
    for tensor_name, weight in _weights(model):
        values, kind = stored(weight)
        writer.add_tensor(tensor_name, values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_gguf(path: Path) -> tuple[Llama, Tokenizer]:
    """What `write_gguf` wrote, with weights as exact as Q8_0 holds them, and its tokenizer."""
    reader = gguf.GGUFReader(path)
    tokens, merges = (reader.fields[f"tokenizer.ggml.{part}"].contents() for part in ("tokens", "merges"))
    return read_model(reader), known_tokenizer(tokens, merges)


def read_model(reader: gguf.GGUFReader) -> Llama:
    """The model in the file of any Llama with tied input and output tables, whatever its number formats."""
    held = {tensor.name: tensor for tensor in reader.tensors}
    model = Llama(_shape(reader, len(held["token_embd.weight"].data)))
    with torch.no_grad():
        for name, weight in _weights(model):
            values = dequantize(held[name].data, held[name].tensor_type)
            weight.copy_(torch.tensor(values).view(weight.shape))
    model.eval()
    return model


def _shape(reader: gguf.GGUFReader, vocabulary: int) -> Shape:
    def number(key: str) -> Any:
        return reader.fields[f"llama.{key}"].contents()

    return Shape(
        width=number("embedding_length"),
        layers=number("block_count"),
        heads=number("attention.head_count"),
        inner=number("feed_forward_length"),
        vocabulary=vocabulary,
        kv_heads=number("attention.head_count_kv"),
        rope_base=number("rope.freq_base"),
    )


def _add_description(writer: gguf.GGUFWriter, name: str, shape: Shape) -> None:
    writer.add_name(name)
    writer.add_license("Apache-2.0")
    writer.add_description("Trained on a corpus written for Outrider; knows nothing else.")
    writer.add_languages(["en"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(ROPE_BASE)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    numbers = tokenizer.get_vocab()
    tokens = sorted(numbers, key=lambda token: numbers[token])
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE)
    writer.add_token_list(tokens)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if token in CONTROL else gguf.TokenType.NORMAL for token in tokens]
    )
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_bos_token_id(numbers[END_OF_TEXT])
    writer.add_eos_token_id(numbers[TURN_END])
    writer.add_eot_token_id(numbers[TURN_END])
    writer.add_pad_token_id(numbers[END_OF_TEXT])
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _weights(model: Llama) -> list[tuple[str, Tensor]]:
    """Every weight under its name in the file; parts of one weight share its memory."""
    found = [("token_embd", model.embedding.weight), ("output_norm", model.norm.weight)]
    for number, block in enumerate(model.blocks):
        query, key, value = block.qkv.weight.split(block.parts, dim=0)
        layer = {
            "attn_norm": block.attention_norm.weight,
            "attn_q": query,
            "attn_k": key,
            "attn_v": value,
            "attn_output": block.out.weight,
            "ffn_norm": block.feed_norm.weight,
            "ffn_gate": block.gate.weight,
            "ffn_up": block.up.weight,
            "ffn_down": block.down.weight,
        }
        found += [(f"blk.{number}.{part}", weight) for part, weight in layer.items()]
    return [(f"{name}.weight", weight) for name, weight in found]


def stored(weight: Tensor) -> tuple[np.ndarray, gguf.GGMLQuantizationType]:
    """A weight as the file holds it, and in which format."""
    values: np.ndarray = weight.detach().float().contiguous().numpy()
    kind = gguf.GGMLQuantizationType.F32 if values.ndim == 1 else gguf.GGMLQuantizationType.Q8_0
    return quantize(values, kind), kind
