"""The networks of heads (MTP), built from mlx-lm's layers, with their weights.

mlx-lm drops the weights of heads, so this module reads them itself, and only them. It knows no cache and no
text.

Source of the algorithm: the multi-token prediction of DeepSeek-V3 (arXiv 2412.19437, section 2.2). The order
of its parts is that of llama.cpp's graph for Qwen 3.5: the embedding of a token and the hidden row before it
are normalized and joined, the embedding first. One layer with attention follows, and then a norm. Its result
is the head's own row, from which the output layer of the main model makes scores.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models import qwen3_5, qwen3_next
from mlx_lm.utils import infer_quant_config

from ...library.mlx_folder import HEAD_FILE, Folder
from ...library.mlx_heads import own_name

_RAW_BELOW = 0.5
"""Average weight of the norms of queries and keys below which all norms of a head lack a one. Qwen stores
norms less one, and mlx-lm's conversion adds it, but not to a head. These two norms are near one."""
_NORMS_OF_KEYS = ("q_norm.weight", "k_norm.weight")
_PARTS = ("gate_proj", "up_proj", "down_proj")
_EXPERT = re.compile(r"(.*)\.experts\.(\d+)\.(\w+)\.(weight|scales|biases)", re.DOTALL)


class QwenHead(nn.Module):  # type: ignore[misc]
    """The head of a model of the kinds qwen3_5, qwen3_5_moe and qwen3_next."""

    def __init__(self, args: Any) -> None:
        """`args` are mlx-lm's settings of the main model."""
        super().__init__()
        width, eps = args.hidden_size, args.rms_norm_eps
        changes: dict[str, Any] = {"full_attention_interval": 1}
        if isinstance(args, qwen3_next.ModelArgs):
            layer = qwen3_next.Qwen3NextDecoderLayer
            changes |= {"mlp_only_layers": [], "decoder_sparse_step": 1}
        else:
            layer = qwen3_5.DecoderLayer
        self.fc = nn.Linear(2 * width, width, bias=False)
        self.pre_fc_norm_embedding = nn.RMSNorm(width, eps=eps)
        self.pre_fc_norm_hidden = nn.RMSNorm(width, eps=eps)
        self.layers = [layer(replace(args, **changes), 0)]
        self.norm = nn.RMSNorm(width, eps=eps)

    def __call__(self, embeddings: Any, rows: Any, mask: Any, caches: list[Any]) -> Any:
        """Return the own rows for embeddings and hidden rows, all of shape (1, any, width)."""
        joined = [self.pre_fc_norm_embedding(embeddings), self.pre_fc_norm_hidden(rows)]
        return self.norm(self.layers[0](self.fc(mx.concatenate(joined, axis=-1)), mask, caches[0]))


def read_head(folder: Folder, args: Any) -> nn.Module:
    """Return the head in `folder` for a main model with these settings. The weights are yet to be computed.

    Raises the errors of MLX for weights that are missing, that are of other shapes, or of an unknown format.
    """
    head = QwenHead(args)
    weights = _as_mlx_lm_names_them(dict(_stored(folder)))
    weights = _with_ones(weights)

    def quantized(path: str, module: Any) -> Any:
        packed = hasattr(module, "to_quantized") and f"{path}.scales" in weights
        return infer_quant_config(path, module, weights) if packed else False

    nn.quantize(head, class_predicate=quantized)
    head.eval()
    head.load_weights([*weights.items()], strict=True)
    return head


def without_head(model: type) -> type:
    """Return a class of mlx-lm's models that leaves out the weights of a head. Some would reject them."""

    class WithoutHead(model):  # type: ignore[misc]
        def sanitize(self, weights: dict[str, Any]) -> dict[str, Any]:
            return dict(
                super().sanitize({name: each for name, each in weights.items() if "mtp." not in name})
            )

    return WithoutHead


def _stored(folder: Folder) -> Iterator[tuple[str, Any]]:
    """Yield the arrays of the head, unread, by their own names."""
    files = [*folder.shards, *([folder.path / HEAD_FILE] if folder.beside else [])]
    for file in files:
        for name, array in mx.load(str(file)).items():
            if own := own_name(folder, name, file.name):
                yield own, array


def _as_mlx_lm_names_them(weights: dict[str, Any]) -> dict[str, Any]:
    """Join the experts. Files have each of them alone, or the first two parts of all together."""
    joined: dict[str, dict[int, Any]] = {}
    found = dict[str, Any]()
    for name, array in weights.items():
        if expert := _EXPERT.fullmatch(name):
            before, number, part, kind = expert.groups()
            joined.setdefault(f"{before}.switch_mlp.{part}.{kind}", {})[int(number)] = array
        elif name.endswith(".experts.gate_up_proj"):
            for part, half in zip(_PARTS, mx.split(array, 2, axis=-2), strict=False):
                found[name.replace("experts.gate_up_proj", f"switch_mlp.{part}.weight")] = half
        elif name.endswith(".experts.down_proj"):
            found[name.replace("experts.down_proj", "switch_mlp.down_proj.weight")] = array
        else:
            found[name] = array
    return found | {name: mx.stack([each[n] for n in range(len(each))]) for name, each in joined.items()}


def _with_ones(weights: dict[str, Any]) -> dict[str, Any]:
    """Return the weights with norms as mlx-lm multiplies them; see `_RAW_BELOW`."""
    told = [each for name, each in weights.items() if name.endswith(_NORMS_OF_KEYS)]
    if not told or mx.mean(mx.concatenate(told).astype(mx.float32)).item() >= _RAW_BELOW:
        return weights
    return {name: each + 1 if each.ndim == 1 and "norm" in name else each for name, each in weights.items()}
