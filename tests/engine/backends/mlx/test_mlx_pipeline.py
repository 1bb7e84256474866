"""Each machine of a ring computes some layers: together they give the bits of the whole network."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

pytest.importorskip("mlx_lm")

import mlx.core as mx
import numpy as np
from mlx_lm import utils as mlx_lm
from mlx_lm.models.cache import make_prompt_cache

from tests.support import mlx_models
from tui.engine.backends import ModelError
from tui.engine.backends.mlx.caches import Caches
from tui.engine.backends.mlx.pipeline import SPLIT, Stage
from tui.engine.backends.mlx.ring import keep_all

SOON = 60.0
LAYERS = 4
_ROPE: dict[str, Any] = {"rope_theta": 1e4}
_EXPERTS: dict[str, Any] = {
    **_ROPE,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "moe_intermediate_size": 32,
    "norm_topk_prob": True,
}
_MIXED = ["sliding_attention", "full_attention"] * 2
TOYS: dict[str, dict[str, Any]] = {
    "cohere": {"layer_norm_eps": 1e-5},
    "cohere2": {**_ROPE, "layer_norm_eps": 1e-5, "sliding_window": 64, "sliding_window_pattern": 2},
    "deepseek_v3": {},
    "gemma2": {**_ROPE, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
               "query_pre_attn_scalar": 32.0},
    "gemma3_text": {},
    "glm4": {**_ROPE, "partial_rotary_factor": 0.5, "attention_bias": False},
    "glm4_moe": {**_EXPERTS, "n_shared_experts": 1, "n_routed_experts": 4, "routed_scaling_factor": 1.0,
                 "first_k_dense_replace": 1, "rope_scaling": None, "use_qk_norm": True,
                 "attention_bias": False, "partial_rotary_factor": 0.5, "n_group": 1, "topk_group": 1},
    "gpt_oss": {"layer_types": _MIXED},
    "granite": {**_ROPE, "logits_scaling": 1.0, "attention_multiplier": 1.0, "embedding_multiplier": 1.0,
                "residual_multiplier": 1.0, "attention_bias": False, "mlp_bias": False},
    "hunyuan_v1_dense": {**_ROPE, "attention_bias": False, "use_qk_norm": True},
    "llama": {},
    "ministral3": {"layer_types": ["full_attention"] * 4,
                   "rope_parameters": {**_ROPE, "llama_4_scaling_beta": 0.1,
                                       "original_max_position_embeddings": 64, "type": "default"}},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "olmo2": {},
    "olmo3": {**_ROPE, "sliding_window": 64, "layer_types": _MIXED},
    "phi3": _ROPE,
    "qwen2": {},
    "qwen2_moe": {**_EXPERTS, "shared_expert_intermediate_size": 32},
    "qwen3": _ROPE,
    "qwen3_moe": _EXPERTS,
    "seed_oss": {**_ROPE, "attention_bias": False, "attention_out_bias": False},
    "smollm3": {**_ROPE, "no_rope_layer_interval": 4},
    "starcoder2": {**_ROPE, "norm_epsilon": 1e-5},
}  # fmt: skip
"""A toy of each architecture that is split. mlx-lm builds mistral as llama."""
PROMPT, STEPS = [5, 9, 2, 77, 31, 8, 120], ([4], [6, 11, 300], [17])


class ThreadWire:
    """Lines between threads. Arrays of MLX belong to a thread, so the rows go as numbers."""

    def __init__(self, rank: int, lines: list[SimpleQueue[Any]]) -> None:
        """`lines[rank]` leads to the machine of that rank."""
        self.rank, self.size = rank, len(lines)
        self._lines = lines

    def send(self, rows: Any) -> None:
        self._lines[(self.rank + 1) % self.size].put(np.array(rows))

    def receive(self, like: Any) -> Any:
        rows = mx.array(self._lines[self.rank].get(timeout=SOON))
        assert rows.shape == like.shape and rows.dtype == like.dtype
        return rows


def network(folder: Path) -> Any:
    return mlx_lm.load_model(folder, lazy=True)[0]


def run(network: Any, bits: int, stage: Stage | None) -> list[Any]:
    """Read a prompt without scores, take some steps, cut back and take one more. Return all scores."""
    caches = Caches(lambda: make_prompt_cache(network), bits=bits)
    keep_all(caches, 256)

    def step(tokens: list[int], *, scored: bool = True) -> Any:
        if stage:
            stage.scored = scored
        scores = network(mx.array([tokens]), cache=caches.all)
        mx.eval(caches.state, scores if scored else [])
        return np.array(scores) if scored else None

    step(PROMPT, scored=False)
    found = [step(tokens) for tokens in STEPS]
    assert caches.cut(9) == 9
    return [*found, step([3, 4])]


def shared(folder: Path, cuts: list[int], bits: int) -> list[list[Any]]:
    """The scores of each machine: the first worker has the layers up to `cuts[0]`, rank 0 has the last."""
    lines: list[SimpleQueue[Any]] = [SimpleQueue() for _ in range(len(cuts) + 1)]
    shares = [
        range(cuts[-1], LAYERS),
        *(range(begin, end) for begin, end in zip([0, *cuts], cuts, strict=False)),
    ]

    def machine(rank: int) -> list[Any]:
        whole = network(folder)
        return run(whole, bits, Stage(whole, ThreadWire(rank, lines), shares[rank]))

    with ThreadPoolExecutor(len(shares)) as threads:
        return list(threads.map(machine, range(len(shares))))


def test_each_architecture_that_is_split_has_a_toy() -> None:
    assert TOYS.keys() | {"mistral"} == SPLIT


@pytest.mark.parametrize(
    ("architecture", "cuts", "bits"),
    [("llama", [1], 0), ("llama", [3], 8), *((each, [1, 2], 0) for each in TOYS)],
)
def test_all_machines_get_the_bits_of_the_whole_network(
    tmp_path: Path, architecture: str, cuts: list[int], bits: int
) -> None:
    settings = {"num_hidden_layers": LAYERS, **TOYS[architecture]}
    folder = mlx_models.write_folder(tmp_path / "toy", architecture, settings=settings)
    alone = run(network(folder), bits, None)
    for machine in shared(folder, cuts, bits):
        for one, other in zip(alone, machine, strict=True):
            assert np.array_equal(one, other)


def test_layers_that_are_no_stage_are_rejected(tmp_path: Path) -> None:
    whole = network(mlx_models.write_folder(tmp_path / "toy"))
    lines: list[SimpleQueue[Any]] = [SimpleQueue(), SimpleQueue()]
    for rank, own in ((0, range(0, 1)), (1, range(1, 2)), (1, range(1, 1)), (0, range(1, 3))):
        with pytest.raises(ModelError, match="no stage"):
            Stage(whole, ThreadWire(rank, lines), own)


def test_a_cache_that_cannot_be_cut_anywhere_is_rejected(tmp_path: Path) -> None:
    whole = network(mlx_models.write_folder(tmp_path / "toy", "lfm2"))
    with pytest.raises(ModelError, match="cannot be cut back on several machines") as raised:
        keep_all(Caches(lambda: make_prompt_cache(whole)), 256)
    assert "--workers" in raised.value.hint


def test_a_machine_holds_only_the_weights_of_its_layers(tmp_path: Path) -> None:
    from mlx.utils import tree_flatten

    whole = network(mlx_models.write_folder(tmp_path / "toy"))
    names = {name for name, _ in tree_flatten(whole.parameters())}
    Stage(whole, ThreadWire(1, [SimpleQueue(), SimpleQueue()]), range(0, 1))
    left = {name for name, _ in tree_flatten(whole.parameters())}
    assert not any("layers.1." in name for name in left) and any("layers.0." in name for name in left)
    assert any("layers.1." in name for name in names)
