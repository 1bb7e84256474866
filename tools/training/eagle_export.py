"""Writes a trained EAGLE-3 head as a GGUF file that llama.cpp reads beside the main model, and reads it back.

Matrices are stored in Q8_0 and norms in F32, as those of the starter pair. The file has the vocabulary of
the main model, because llama.cpp reads the number of tokens from it. It has no embeddings if the head borrows
those of the main model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf.quants import dequantize
from torch import Tensor

from .eagle_network import EagleNetwork, EagleShape
from .export import stored
from .model import CONTEXT, EPSILON, Llama

_TEMPLATE = "tokenizer.chat_template"


def write_eagle(path: Path, name: str, head: EagleNetwork, main: gguf.GGUFReader) -> None:
    """Write `head` as one file, for the main model of the file `main`."""
    writer = gguf.GGUFWriter(path, "eagle3")
    _add_description(writer, name, head)
    for key, field in main.fields.items():
        if key.startswith("tokenizer.") and key != _TEMPLATE:
            writer.add_key_value(key, field.contents(), field.types[0], field.types[-1])
    writer.add_tensor("d2t", head.listed.numpy().astype(np.int64))
    for tensor_name, weight in _weights(head):
        values, kind = stored(weight)
        writer.add_tensor(f"{tensor_name}.weight", values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_eagle(path: Path, main: Llama) -> EagleNetwork:
    """The head that `write_eagle` wrote for `main`, with weights as exact as Q8_0 holds them."""
    reader = gguf.GGUFReader(path)
    number = {key.partition(".")[2]: field.contents() for key, field in reader.fields.items() if "." in key}
    shape = EagleShape(
        layers=tuple(number["target_layers"]),
        width=number["embedding_length"],
        heads=number["attention.head_count"],
        inner=number["feed_forward_length"],
    )
    held = {tensor.name: tensor for tensor in reader.tensors}
    head = EagleNetwork(shape, main, held["d2t"].data.tolist())
    with torch.no_grad():
        for name, weight in _weights(head):
            tensor = held[f"{name}.weight"]
            weight.copy_(torch.tensor(dequantize(tensor.data, tensor.tensor_type)).view(weight.shape))
    head.eval()
    return head


def _add_description(writer: gguf.GGUFWriter, name: str, head: EagleNetwork) -> None:
    shape = head.shape
    writer.add_name(name)
    writer.add_license("Apache-2.0")
    writer.add_description("Drafts for one main model and answers nothing by itself.")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_dimension_count(head.head_width)
    writer.add_array("eagle3.target_layers", list(shape.layers))
    writer.add_uint32("eagle3.target_hidden_size", head.join.in_features // 3)
    writer.add_bool("eagle3.norm_before_fc", True)


def _weights(head: EagleNetwork) -> Iterator[tuple[str, Tensor]]:
    """Every weight under its name in the file."""
    query, key, value = head.qkv.weight.chunk(3, dim=0)
    layer = {
        "attn_norm": head.token_norm.weight,
        "attn_norm_2": head.row_norm.weight,
        "attn_q": query,
        "attn_k": key,
        "attn_v": value,
        "attn_output": head.out.weight,
        "ffn_norm": head.feed_norm.weight,
        "ffn_gate": head.gate.weight,
        "ffn_up": head.up.weight,
        "ffn_down": head.down.weight,
    }
    if not head.borrows:
        yield "token_embd", head.embedding.weight
    yield "output", head.output.weight
    yield "output_norm", head.norm.weight
    yield "enc.output_norm", head.joined_norm.weight
    yield "fc", head.join.weight
    for name, weight in layer.items():
        yield f"blk.0.{name}", weight
