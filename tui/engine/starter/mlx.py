"""The demo pair in the form that MLX reads, made from its GGUF files when it is first needed.

It can convert any GGUF of a Llama with a byte-level BPE vocabulary whose weights are in F32, F16 or Q8_0. The
numbers stay the same: a block of Q8_0 becomes a group of 32 numbers of 8 bits, with the same scale. This
module runs no model and imports no MLX.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...files import make_folder
from ..library.gguf import Array, BadModelFile, Contents, GgufReader, Tensor
from ..library.header import read_header

_VERSION = 1
"""Version of the conversion; a change of its output raises it."""
_GROUP = 32
_CONTROL = 3
"""GGUF's kind of token that is not part of a text."""
_TEXTS = frozenset({"tokenizer.ggml.tokens", "tokenizer.ggml.merges"})
_NAMES = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
"""The names of weights in GGUF and in mlx-lm."""

Weights = dict[str, NDArray[Any]]


def starter_folder(file: Path, cache: Path) -> Path:
    """Return the folder in `cache` with the model of `file`; make it if it is missing. Raises `OSError`."""
    digest = hashlib.sha256(bytes([_VERSION]) + file.read_bytes()).hexdigest()[:16]
    # The folder's own name is the model's.
    folder = cache / digest / read_header(file).facts.name.replace("/", "-")
    if not folder.is_dir():
        new = cache / f"{digest}.{os.getpid()}"
        write_folder(file, new / folder.name)
        try:
            new.rename(folder.parent)
        except OSError:  # another engine was quicker
            shutil.rmtree(new, ignore_errors=True)
    return folder


def write_folder(file: Path, folder: Path) -> None:
    """Write the model of a GGUF file as an MLX folder. Raises `BadModelFile` if the model has no such
    form."""
    from safetensors.numpy import save  # comes with mlx-lm

    with file.open("rb") as source, mmap(source.fileno(), 0, access=ACCESS_READ) as content:
        reader = GgufReader(content, keep=_TEXTS)
        contents = reader.contents()
        settings = _Settings(reader, contents)
        weights = dict(_weights(content, contents))
        make_folder(folder)
        (folder / "model.safetensors").write_bytes(save(weights, {"format": "mlx"}))
        _write_json(folder / "tokenizer.json", settings.tokenizer())
        _write_json(folder / "tokenizer_config.json", settings.tokenizer_config())
        _write_json(folder / "config.json", settings.config(weights))


class _Settings:
    """The metadata of a GGUF as the settings of an MLX folder."""

    def __init__(self, reader: GgufReader, contents: Contents) -> None:
        self._reader = reader
        self._values = contents.values
        if self._value("general.architecture") != b"llama" or self._value("tokenizer.ggml.model") != b"gpt2":
            raise BadModelFile(
                "only a Llama with a byte-level BPE vocabulary can be written as an MLX folder"
            )

    def config(self, weights: Weights) -> dict[str, Any]:
        heads = self._value("llama.attention.head_count")
        config = {
            "model_type": "llama",
            "hidden_size": self._value("llama.embedding_length"),
            "num_hidden_layers": self._value("llama.block_count"),
            "intermediate_size": self._value("llama.feed_forward_length"),
            "num_attention_heads": heads,
            "num_key_value_heads": self._values.get("llama.attention.head_count_kv", heads),
            "rms_norm_eps": self._value("llama.attention.layer_norm_rms_epsilon"),
            "rope_theta": self._values.get("llama.rope.freq_base", 10000.0),
            "rope_traditional": True,  # llama.cpp rotates neighboring pairs for this architecture
            "max_position_embeddings": self._value("llama.context_length"),
            "vocab_size": len(self._texts("tokens")),
            "tie_word_embeddings": "lm_head.weight" not in weights,
            "eos_token_id": sorted({self._value(f"tokenizer.ggml.{end}_token_id") for end in self._ends()}),
        }
        if "model.embed_tokens.scales" in weights:
            config["quantization"] = {"group_size": _GROUP, "bits": 8}
        return config

    def tokenizer(self) -> dict[str, Any]:
        texts = self._texts("tokens")
        kinds = self._values["tokenizer.ggml.token_type"]
        assert isinstance(kinds, Array)
        controls = [number for number, kind in enumerate(self._reader.numbers(kinds)) if kind == _CONTROL]
        return {
            "version": "1.0",
            "added_tokens": [_added(number, texts[number]) for number in controls],
            "normalizer": None,
            "pre_tokenizer": {
                "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True,
            },
            "post_processor": None,
            "decoder": {
                "type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True,
            },
            "model": {
                "type": "BPE",
                "vocab": {text: number for number, text in enumerate(texts)},
                "merges": self._texts("merges"),
            },
        }  # fmt: skip

    def tokenizer_config(self) -> dict[str, Any]:
        texts = self._texts("tokens")
        return {
            "bos_token": texts[self._value("tokenizer.ggml.bos_token_id")],
            "eos_token": texts[self._value("tokenizer.ggml.eos_token_id")],
            "add_bos_token": self._values.get("tokenizer.ggml.add_bos_token", False),
            "chat_template": self._values.get("tokenizer.chat_template", b"").decode(),  # type: ignore[union-attr]
        }

    def _ends(self) -> list[str]:
        return [end for end in ("eos", "eot") if f"tokenizer.ggml.{end}_token_id" in self._values]

    def _value(self, key: str) -> Any:
        if key not in self._values:
            raise BadModelFile(f"the file does not say {key}")
        return self._values[key]

    def _texts(self, name: str) -> list[str]:
        array = self._value(f"tokenizer.ggml.{name}")
        return [text.decode("utf-8") for text in array.texts]


def _added(number: int, text: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": text, **flags, "special": True}


def _weights(content: mmap, contents: Contents) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield every array of the folder with its name there."""
    for tensor in contents.tensors:
        name = _name(tensor.name)
        begin = contents.data + tensor.offset
        data = np.frombuffer(content[begin : begin + tensor.bytes], np.uint8)
        shape = tensor.shape[::-1]
        if tensor.type.name in ("F32", "F16"):
            kind = "<f4" if tensor.type.name == "F32" else "<f2"
            yield f"{name}.weight", data.view(kind).reshape(shape)
        elif tensor.type.name == "Q8_0":
            for part, array in _groups(tensor, data).items():
                yield f"{name}.{part}", array.reshape(*shape[:-1], -1)
        else:
            raise BadModelFile(f"{tensor.name} is stored as {tensor.type.name}, which has no such form")


def _groups(tensor: Tensor, data: NDArray[np.uint8]) -> Weights:
    """Return blocks of Q8_0 as groups of MLX: the numbers from 0 up, the value of one step, and the lowest
    value.

    The scales are F32, as the norms are: MLX computes in the type of the scales.
    """
    blocks = data.view(np.dtype([("scale", "<f2"), ("values", "i1", _GROUP)]))
    scales = blocks["scale"].astype("<f4")
    values = (blocks["values"].astype(np.int16) + 128).astype(np.uint8)
    return {"weight": values.reshape(-1).view("<u4"), "scales": scales, "biases": scales * np.float32(-128)}


def _name(name: str) -> str:
    """Return mlx-lm's name for a weight of GGUF."""
    parts = name.split(".")
    layer = f"model.layers.{parts[1]}." if parts[0] == "blk" else ""
    if parts[-1] != "weight" or parts[-2] not in _NAMES:
        raise BadModelFile(f"{name} has no place in a Llama")
    return layer + _NAMES[parts[-2]]


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values), encoding="utf-8")
