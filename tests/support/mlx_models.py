"""Tiny MLX folders with random weights, made in a moment: real folders for the real library.

They write nonsense, but each is a proper model with the vocabulary of `models`: byte-level BPE and ChatML.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from tests.support import models

VOCABULARY = 512
END = 258
WINDOW = 64

_PLAIN: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "rms_norm_eps": 1e-5,
    "norm_eps": 1e-5,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "eos_token_id": END,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "gemma3_text": {"sliding_window": WINDOW, "sliding_window_pattern": 2, "query_pre_attn_scalar": 32},
    "lfm2": {
        "norm_eps": 1e-5,
        "conv_bias": False,
        "conv_L_cache": 4,
        "full_attn_idxs": [1],
        "rope_theta": 10000.0,
        "block_dim": 64,
        "block_ff_dim": 128,
        "block_multiple_of": 1,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False,
    },
    "mamba": {
        "intermediate_size": 128,
        "state_size": 8,
        "conv_kernel": 4,
        "use_bias": False,
        "use_conv_bias": True,
        "time_step_rank": 4,
    },
    "qwen3_next": {
        "num_experts": 0,
        "linear_num_value_heads": 2,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_conv_kernel_dim": 4,
        "num_experts_per_tok": 1,
        "decoder_sparse_step": 1,
        "shared_expert_intermediate_size": 32,
        "mlp_only_layers": [0, 1],
        "moe_intermediate_size": 32,
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
        "full_attention_interval": 2,
    },
    "falcon_h1": {
        "attention_bias": False,
        "mamba_d_conv": 4,
        "mamba_d_head": 16,
        "mamba_d_ssm": 64,
        "mamba_d_state": 8,
        "mamba_n_heads": 4,
        "mamba_n_groups": 1,
        "mamba_chunk_size": 16,
        "mamba_conv_bias": True,
        "mamba_proj_bias": False,
        "mamba_rms_norm": False,
        "mamba_norm_before_gate": False,
        "mlp_bias": False,
        "projectors_bias": False,
        "rope_theta": 10000.0,
    },
    "recurrent_gemma": {
        "attention_bias": False,
        "conv1d_width": 4,
        "logits_soft_cap": 30.0,
        "lru_width": 64,
        "rope_theta": 10000.0,
        "attention_window_size": WINDOW,
        "block_types": ["recurrent", "attention"],
        "num_key_value_heads": 1,
    },
    "llama4": {
        "text_config": {
            "attention_bias": False,
            "attention_chunk_size": WINDOW,
            "attn_temperature_tuning": 4,
            "head_dim": 16,
            "hidden_act": "silu",
            "hidden_size": 64,
            "interleave_moe_layer_step": 2,
            "intermediate_size": 64,
            "intermediate_size_mlp": 64,
            "max_position_embeddings": 512,
            "model_type": "llama4_text",
            "num_attention_heads": 4,
            "num_experts_per_tok": 1,
            "num_hidden_layers": 4,
            "num_key_value_heads": 4,
            "num_local_experts": 2,
            "rms_norm_eps": 1e-5,
            "rope_scaling": None,
            "rope_theta": 10000.0,
            "use_qk_norm": True,
            "vocab_size": VOCABULARY,
        },
    },
    "gpt_oss": {
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention"],
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "rope_theta": 10000.0,
    },
    "deepseek_v3": {
        "attention_bias": False,
        "first_k_dense_replace": 1,
        "kv_lora_rank": 16,
        "moe_intermediate_size": 32,
        "moe_layer_freq": 1,
        "n_group": 1,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "norm_topk_prob": True,
        "num_experts_per_tok": 2,
        "q_lora_rank": 32,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 16,
        "rope_theta": 10000.0,
        "routed_scaling_factor": 1.0,
        "scoring_func": "sigmoid",
        "topk_group": 1,
        "topk_method": "noaux_tc",
        "v_head_dim": 16,
    },
    "rwkv7": {
        "a_low_rank_dim": 8,
        "decay_low_rank_dim": 8,
        "gate_low_rank_dim": 8,
        "v_low_rank_dim": 8,
    },
    "mamba2": {
        "chunk_size": 16,
        "conv_kernel": 4,
        "head_dim": 16,
        "intermediate_size": 128,
        "layer_norm_epsilon": 1e-5,
        "n_groups": 1,
        "num_heads": 8,
        "residual_in_fp32": False,
        "rms_norm": True,
        "ssm_state_size": 8,
        "state_size": 8,
        "time_step_limit": [0.001, 100.0],
        "time_step_rank": 4,
        "use_bias": False,
        "use_conv_bias": True,
    },
}
"""What each needs besides the plain settings."""
ARCHITECTURES["deepseek_v32"] = ARCHITECTURES["deepseek_v3"] | {"index_head_dim": 32, "index_n_heads": 2}


def write_folder(
    folder: Path, architecture: str = "llama", *, seed: int = 0, settings: Mapping[str, Any] | None = None
) -> Path:
    """Write a model of `architecture`. The same values give the same model."""
    config = {**_PLAIN, **ARCHITECTURES.get(architecture, {}), "model_type": architecture, **(settings or {})}
    folder.mkdir(parents=True, exist_ok=True)
    module = import_module(f"mlx_lm.models.{architecture}")
    network = module.Model(module.ModelArgs.from_dict(config))
    rng = np.random.default_rng(seed)
    weights = {name: _weight(name, array.shape, rng) for name, array in tree_flatten(network.parameters())}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    write_json(folder / "config.json", config)
    write_tokenizer(folder)
    return folder


def perturbed(folder: Path, target: Path, amount: float = 0.15) -> Path:
    """A copy of a model with a little noise on its output."""
    target.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    weights = dict(mx.load(str(folder / "model.safetensors")))
    name = "lm_head.weight" if "lm_head.weight" in weights else next(n for n in weights if "embed" in n)
    noise = np.random.default_rng(5).normal(0, amount, weights[name].shape).astype(np.float32)
    weights[name] += mx.array(noise) * mx.std(weights[name])
    mx.save_safetensors(str(target / "model.safetensors"), weights, {"format": "mlx"})
    return target


def converted(folder: Path, dtype: mx.Dtype) -> Path:
    """Write the numbers of a model again, as `dtype`; quantized weights stay as they are."""
    file = str(folder / "model.safetensors")
    weights = {
        name: array.astype(dtype) if mx.issubdtype(array.dtype, mx.floating) else mx.array(array)
        for name, array in mx.load(file).items()
    }
    mx.eval(weights)
    mx.save_safetensors(file, weights, {"format": "mlx"})
    return folder


def quantized(folder: Path, dtype: mx.Dtype, bits: int = 4) -> Path:
    """Write a model as mlx-lm's conversion does: quantized, with scales of `dtype`."""
    write_folder(folder)
    config = json.loads((folder / "config.json").read_text())
    module = import_module(f"mlx_lm.models.{config['model_type']}")
    network = module.Model(module.ModelArgs.from_dict(config))
    network.load_weights(str(folder / "model.safetensors"))
    nn.quantize(network, 32, bits)
    weights = dict(tree_flatten(network.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    write_json(folder / "config.json", config | {"quantization": {"group_size": 32, "bits": bits}})
    return converted(folder, dtype)


def widened(folder: Path, target: Path) -> Path:
    """A copy of a model, whose numbers have 32 bits."""
    target.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return converted(target, mx.float32)


def write_tokenizer(folder: Path, vocabulary: int = VOCABULARY) -> None:
    """The vocabulary of `models`, as tokenizer.json has it."""
    texts, merges = models._vocabulary(vocabulary)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [{"id": texts.index(text), "content": text, **flags, "special": True} for text in models.CONTROL]
    kind = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    write_json(
        folder / "tokenizer.json",
        {
            "version": "1.0",
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": kind,
            "post_processor": None,
            "decoder": kind,
            "model": {
                "type": "BPE",
                "vocab": {text: number for number, text in enumerate(texts)},
                "merges": list(merges),
            },
        },
    )
    write_json(
        folder / "tokenizer_config.json",
        {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "chat_template": models.CHATML},
    )


def write_json(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values), encoding="utf-8")


def _weight(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> mx.array:
    """Of a size that keeps signals alive through the layers."""
    if name.endswith("bias"):
        return mx.zeros(shape)
    if "norm" in name or name.endswith(".D"):
        return mx.ones(shape)
    weight = rng.standard_normal(shape, np.float32)
    if name == "lm_head.weight":
        return mx.array(weight * np.float32(0.4))
    if "embed" in name:
        return mx.array(weight)
    return mx.array(weight / np.float32(np.sqrt(shape[-1])))
