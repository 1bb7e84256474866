"""The models of `head_models` as MLX folders: the same weights by mlx-lm's names, and heads in all forms.

DeepSeek's attention keeps a short latent row for each token, from which keys and values follow. No model of
`head_models` has such attention, so it is made here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from .head_models import CODE, VOCABULARY, WIDTH, Headed, alphabet, weights_of
from .mlx_models import END, write_json, write_tokenizer

KINDS = {"qwen35": "qwen3_5", "qwen35moe": "qwen3_5_moe", "qwen3next": "qwen3_next", "glm4moe": "glm4_moe"}
"""mlx-lm's architectures by those of llama.cpp."""
INDEXED = ("deepseek_v32", "glm_moe_dsa")
"""Architectures with latent attention and an indexer, which are made of a glm4moe."""
_NAMELESS = ("attn_q_norm.weight", "attn_k_norm.weight", "attn_q.weight", "attn_k.weight", "attn_v.weight")
"""The weights of attention that give way to those of latent attention."""
_RANK = 1 + CODE
"""Numbers in a latent row."""
_PARTS = ("gate", "up", "down")
_NAMES = {
    "attn_norm.weight": "input_layernorm.weight",
    "post_attention_norm.weight": "post_attention_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "attn_q_norm.weight": "self_attn.q_norm.weight",
    "attn_k_norm.weight": "self_attn.k_norm.weight",
    "attn_qkv.weight": "linear_attn.in_proj_qkv.weight",
    "attn_gate.weight": "linear_attn.in_proj_z.weight",
    "ssm_conv1d.weight": "linear_attn.conv1d.weight",
    "ssm_dt.bias": "linear_attn.dt_bias",
    "ssm_a": "linear_attn.A_log",
    "ssm_ba.weight": "linear_attn.in_proj_ba.weight",
    "ssm_beta.weight": "linear_attn.in_proj_b.weight",
    "ssm_alpha.weight": "linear_attn.in_proj_a.weight",
    "ssm_norm.weight": "linear_attn.norm.weight",
    "ssm_out.weight": "linear_attn.out_proj.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
    "ffn_gate_inp.weight": "mlp.gate.weight",
    "ffn_gate_inp_shexp.weight": "mlp.shared_expert_gate.weight",
    **{f"ffn_{part}_exps.weight": f"mlp.switch_mlp.{part}_proj.weight" for part in _PARTS},
    **{
        f"ffn_{part}_shexp.weight": f"mlp.shared_expert.{part}_proj.weight" for part in ("gate", "up", "down")
    },
}
_OF_HEAD = {
    "nextn.eh_proj.weight": "fc.weight",
    "nextn.enorm.weight": "pre_fc_norm_embedding.weight",
    "nextn.hnorm.weight": "pre_fc_norm_hidden.weight",
}
_OUTER = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}

_GLM_NAMES = _NAMES | {
    "exp_probs_b.bias": "mlp.gate.e_score_correction_bias",
    **{
        f"ffn_{part}_shexp.weight": f"mlp.shared_experts.{part}_proj.weight"
        for part in ("gate", "up", "down")
    },
}
_GLM: dict[str, Any] = {
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
    "norm_topk_prob": False,
    "n_routed_experts": 4,
    "routed_scaling_factor": 1.0,
    "first_k_dense_replace": 0,
    "rope_scaling": None,
    "use_qk_norm": True,
    "attention_bias": False,
    "q_lora_rank": None,
    "kv_lora_rank": _RANK,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "v_head_dim": 16,
    "num_nextn_predict_layers": 1,
}
_INDEXED: dict[str, Any] = {
    "q_lora_rank": WIDTH,
    "num_key_value_heads": 4,
    "moe_layer_freq": 1,
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    "index_head_dim": 32,
    "index_n_heads": 2,
    "index_topk": 1024,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
}
"""Settings for latent queries and an indexer, which lets attention see all tokens of a short text."""
_OF_GLM_HEAD = {
    "nextn.eh_proj.weight": "eh_proj.weight",
    "nextn.enorm.weight": "enorm.weight",
    "nextn.hnorm.weight": "hnorm.weight",
}

Weights = dict[str, np.ndarray]


def trunk_and_head(headed: Headed, latent: str = "") -> tuple[Weights, Weights]:
    """The weights of a main model by mlx-lm's names, and those of its head by the head's own."""
    glm = headed.architecture == "glm4moe"
    names, of_head = (_GLM_NAMES, _OF_GLM_HEAD) if glm else (_NAMES, _OF_HEAD)
    trunk: Weights = {}
    head: Weights = {"shared_head.norm.weight" if glm else "norm.weight": np.ones(WIDTH)}
    for name, weight in weights_of(headed).items():
        if name in _OUTER:
            trunk[_OUTER[name]] = weight
            continue
        _, number, part = name.split(".", 2)
        target = trunk if int(number) < headed.layers else head
        before = f"model.layers.{number}." if target is trunk else "" if glm else "layers.0."
        if part in of_head:
            head[of_head[part]] = weight
        elif not (latent and part in _NAMELESS):
            target[before + names[part]] = _shaped(part, weight)
    if latent:
        order = alphabet(np.random.default_rng(headed.seed)).order
        for layer in range(headed.layers):
            trunk |= _latent(headed, layer, order, f"model.layers.{layer}.self_attn.", latent)
        head |= _latent(headed, headed.layers, order, "self_attn.", latent)
    if headed.architecture == "qwen3next":
        trunk = dict(_joined(trunk))
    return trunk, head


def _latent(headed: Headed, layer: int, order: np.ndarray, before: str, architecture: str) -> Weights:
    """The attention of a layer, with latent rows. The layer 1 looks back, as in `head_models`."""
    rng = np.random.default_rng([headed.seed, layer])
    query, down = np.zeros((4, 32, WIDTH)), np.zeros((_RANK + 16, WIDTH))
    up, out = np.zeros((4, 32, _RANK)), np.zeros((WIDTH, 4, 16))
    if layer == 1:
        angles = 10_000.0 ** (-2 * np.arange(8) / 16)
        query[:, 16:, 0] = 100 * np.stack([np.cos(angles), -np.sin(angles)]).T.ravel()
        down[:_RANK, :_RANK] = np.eye(_RANK)
        down[_RANK::2, 0] = 1
        for place, source in enumerate(order):
            head, number = divmod(source, 16)
            up[head, 16 + number, 1 + source] = out[1 + CODE + place, head, number] = 1
    else:
        strength = headed.own_noise if layer == headed.layers else headed.noise
        query, down, up = (rng.standard_normal(each.shape) / 8 for each in (query, down, up))
        out = rng.standard_normal(out.shape) / 8 * strength
    indexed = architecture in INDEXED
    own = _indexer(rng, before) if indexed else {}
    return own | {
        f"{before}{'q_b_proj' if indexed else 'q_proj'}.weight": query.reshape(-1, WIDTH),
        f"{before}kv_a_proj_with_mqa.weight": down,
        f"{before}kv_a_layernorm.weight": np.ones(_RANK),
        f"{before}kv_b_proj.weight": up.reshape(-1, _RANK),
        f"{before}o_proj.weight": out.reshape(WIDTH, -1),
    }


def _indexer(rng: np.random.Generator, before: str) -> Weights:
    """A random indexer, and the first of two products that make queries; it changes nothing."""
    heads, size = _INDEXED["index_n_heads"], _INDEXED["index_head_dim"]
    return {
        f"{before}q_a_proj.weight": np.eye(WIDTH),
        f"{before}q_a_layernorm.weight": np.ones(WIDTH),
        f"{before}indexer.wq_b.weight": rng.standard_normal((heads * size, WIDTH)) / 8,
        f"{before}indexer.wk.weight": rng.standard_normal((size, WIDTH)) / 8,
        f"{before}indexer.k_norm.weight": np.ones(size),
        f"{before}indexer.k_norm.bias": np.zeros(size),
        f"{before}indexer.weights_proj.weight": rng.standard_normal((heads, WIDTH)) / 8,
    }


def write_headed_folder(
    folder: Path, headed: Headed, *, form: str = "inside", norms: str = "whole", kind: Any = mx.float32,
    latent: str = "",
) -> Path:  # fmt: skip
    """Write `headed` with its head in one of these forms:

    - "inside": among the weights, as in the original folders;
    - "experts": inside, with each expert alone; "parts": inside, with two parts of all experts together;
    - "doubled": inside, with embeddings and an output layer of its own;
    - "beside": in a file of its own, mtp.safetensors;
    - "none": without the head. `write_head_folder` then writes it.

    `norms`: "raw" stores all norms of the head less one. `latent` is an architecture with latent attention.
    """
    trunk, head = trunk_and_head(headed, latent)
    nested = headed.architecture in ("qwen35", "qwen35moe")
    weights = {("language_model." if nested else "") + name: each for name, each in trunk.items()}
    if form == "doubled":
        head |= {"embed_tokens.weight": trunk["model.embed_tokens.weight"]}
        head |= {"shared_head.head.weight": trunk["lm_head.weight"]}
    prefix = f"model.layers.{headed.layers}." if headed.architecture == "glm4moe" else "mtp."
    own = {prefix + name: each for name, each in stored_head(head, form, norms).items()}
    folder.mkdir(parents=True, exist_ok=True)
    if form == "beside":
        _save(folder / "mtp.safetensors", own, kind)
    elif form != "none":
        weights |= own
    kept = {name: each for name, each in weights.items() if not name.startswith(headed.without or "-")}
    _save(folder / "model.safetensors", kept, kind)
    write_json(folder / "config.json", config_of(headed, latent))
    write_tokenizer(folder, VOCABULARY)
    return folder


def write_head_folder(folder: Path, headed: Headed, *, prefix: str = "", norms: str = "whole") -> Path:
    """Write the head alone, as mlx-vlm does; `prefix` stands before the names of its tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    head = stored_head(trunk_and_head(headed)[1], "inside", norms)
    _save(folder / "model.safetensors", {prefix + name: each for name, each in head.items()}, mx.float32)
    settings = config_of(headed)
    own = {
        "text_config": settings.get("text_config", settings),
        "block_size": 3,
        "tie_word_embeddings": False,
    }
    write_json(folder / "config.json", {"model_type": "qwen3_5_mtp", **own})
    write_tokenizer(folder, VOCABULARY)
    return folder


def config_of(headed: Headed, latent: str = "") -> dict[str, Any]:
    """The settings of a main model."""
    experts = headed.architecture != "qwen35"
    settings: dict[str, Any] = {
        "model_type": latent or KINDS[headed.architecture],
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": headed.layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rms_norm_eps": 1e-6,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": headed.context_length,
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_conv_kernel_dim": 4,
        "tie_word_embeddings": False,
        "full_attention_interval": 2,
        "num_experts": 4 if experts else 0,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 1,
        "moe_intermediate_size": WIDTH,
        "shared_expert_intermediate_size": WIDTH,
        "norm_topk_prob": True,
        "eos_token_id": END,
    }
    if headed.architecture == "glm4moe":
        own = _INDEXED if latent in INDEXED else {}
        return settings | _GLM | own | {"rope_theta": 10000.0, "partial_rotary_factor": 1.0}
    if headed.architecture == "qwen3next":
        return settings | {"mlp_only_layers": [], "rope_theta": 10000.0, "partial_rotary_factor": 1.0}
    rope = {"type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}
    outer = {"model_type": settings["model_type"], "eos_token_id": END}
    return {**outer, "text_config": settings | {"rope_parameters": rope, "mtp_num_hidden_layers": 1}}


def stored_head(head: Weights, form: str, norms: str) -> Weights:
    """A head as a file in this form has it."""
    stored = {}
    for name, each in head.items():
        if norms == "raw" and "norm" in name:
            stored[name] = each - 1
        elif form == "experts" and ".switch_mlp." in name:
            for number, expert in enumerate(each):
                stored[name.replace("switch_mlp", f"experts.{number}")] = expert
        elif form == "parts" and ".switch_mlp." in name:
            stored |= _in_parts(head, name)
        else:
            stored[name] = each
    return stored


def _in_parts(head: Weights, name: str) -> Weights:
    before, _, part = name.partition("switch_mlp.")
    if part == "down_proj.weight":
        return {f"{before}experts.down_proj": head[name]}
    both = [head[f"{before}switch_mlp.{each}_proj.weight"] for each in ("gate", "up")]
    return {f"{before}experts.gate_up_proj": np.concatenate(both, axis=1)}


def _shaped(part: str, weight: np.ndarray) -> np.ndarray:
    if part == "ssm_a":
        return np.log(-weight)
    if part == "ssm_conv1d.weight":
        return weight[..., None]
    return weight[None] if part == "ffn_gate_inp_shexp.weight" else weight


def _joined(trunk: Weights) -> Iterator[tuple[str, np.ndarray]]:
    """qwen3_next has two of the projections in one."""
    for name, weight in trunk.items():
        if name.endswith("in_proj_qkv.weight"):
            gate = trunk[name.replace("in_proj_qkv", "in_proj_z")]
            yield name.replace("in_proj_qkv", "in_proj_qkvz"), np.concatenate([weight, gate])
        elif not name.endswith("in_proj_z.weight"):
            yield name, weight


def _save(path: Path, weights: Weights, kind: Any) -> None:
    arrays = {
        name: mx.array(np.ascontiguousarray(each, np.float32)).astype(kind) for name, each in weights.items()
    }
    mx.save_safetensors(str(path), arrays, {"format": "mlx"})
