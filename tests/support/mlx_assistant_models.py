"""The models of `assistant_models` as MLX folders: Gemma 4, and its assistants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from .assistant_models import ASSISTANT, OWN, Gemma, Weights, assistant_weights, gemma_weights
from .head_models import WIDTH
from .mlx_models import END, write_json, write_tokenizer

_OUTER = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
    "nextn.pre_projection.weight": "pre_projection.weight",
    "nextn.post_projection.weight": "post_projection.weight",
}
_NAMES = {
    "attn_norm.weight": "input_layernorm.weight",
    "post_attention_norm.weight": "post_attention_layernorm.weight",
    "ffn_norm.weight": "pre_feedforward_layernorm.weight",
    "post_ffw_norm.weight": "post_feedforward_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "attn_q_norm.weight": "self_attn.q_norm.weight",
    "attn_k_norm.weight": "self_attn.k_norm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
    "layer_output_scale.weight": "layer_scalar",
}


def write_gemma_folder(
    folder: Path, gemma: Gemma, *, cap: float | None = None, nested: bool = False
) -> Path:  # fmt: skip
    """Write a main model. `cap` bounds its scores. A nested one is a part of a model that sees images."""
    before = "language_model." if nested else ""
    weights = {before + name: each for name, each in _named(gemma_weights(gemma))}
    weights |= {f"{before}model.layers.{each}.layer_scalar": np.ones(1) for each in range(gemma.layers)}
    settings = _settings(gemma, WIDTH) | {"final_logit_softcapping": cap, "tie_word_embeddings": False}
    outer = {"model_type": "gemma4", "vocab_size": gemma.vocabulary, "eos_token_id": END}
    return _write(folder, outer | {"text_config": settings} if nested else settings, weights, gemma)


def write_assistant_folder(folder: Path, gemma: Gemma = ASSISTANT) -> Path:
    """Write the assistant of a model with the same seed. It has a short list of likely tokens, as small ones
    have."""
    weights = dict(_named(assistant_weights(gemma)))
    weights["masked_embedding.centroids.weight"] = np.ones((4, OWN))
    weights["masked_embedding.token_ordering"] = np.arange(gemma.vocabulary)
    settings = {
        "model_type": "gemma4_assistant",
        "text_config": _settings(gemma, OWN) | {"num_kv_shared_layers": gemma.heads or gemma.layers},
        "backbone_hidden_size": gemma.main_width,
        "use_ordered_embeddings": True,
        "tie_word_embeddings": True,
    }
    return _write(folder, settings, weights, gemma)


def _named(weights: Weights) -> Weights:
    """Yield the weights by mlx-lm's names."""
    for name, each in weights:
        if name in _OUTER:
            yield _OUTER[name], each
        elif name.startswith("blk."):
            _, number, part = name.split(".", 2)
            yield f"model.layers.{number}.{_NAMES[part]}", each


def _settings(gemma: Gemma, width: int) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}
    kinds = ["full_attention" if each in gemma.full else "sliding_attention" for each in range(gemma.layers)]
    return {
        "model_type": "gemma4_text",
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": gemma.layers,
        "num_attention_heads": 4,
        "num_key_value_heads": gemma.keys,
        "head_dim": gemma.size,
        "global_head_dim": gemma.size,
        "rms_norm_eps": 1e-6,
        "vocab_size": gemma.vocabulary,
        "hidden_size_per_layer_input": 0,
        "num_kv_shared_layers": 0,
        "use_double_wide_mlp": False,
        "rope_parameters": {"full_attention": rope, "sliding_attention": rope},
        "sliding_window": gemma.window,
        "max_position_embeddings": 2048,
        "layer_types": kinds,
        "eos_token_id": END,
    }


def _write(folder: Path, settings: dict[str, Any], weights: Any, gemma: Gemma) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        name: mx.array(np.ascontiguousarray(each, np.float32))
        for name, each in dict(weights).items()
        if not name.startswith(gemma.without or "-")
    }
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, {"format": "mlx"})
    write_json(folder / "config.json", settings)
    write_tokenizer(folder, gemma.vocabulary)
    return folder
