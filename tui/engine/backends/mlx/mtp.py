"""The networks of heads (MTP), built from mlx-lm's layers, with their weights.

mlx-lm drops the weights of heads, so this module reads them itself, and only them. It knows no cache and no
text.

Source of the algorithm: the multi-token prediction of DeepSeek-V3 (arXiv 2412.19437, section 2.2). The order
of its parts is that of llama.cpp's graphs: the embedding of a token and the hidden row before it
are normalized and joined, the embedding first. One layer with attention follows, and then a norm. Its result
is the head's own row, from which the output layer of the main model makes scores.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models import qwen3_5, qwen3_next
from mlx_lm.models.base import create_attention_mask
from mlx_lm.models.cache import CacheList, KVCache
from mlx_lm.utils import infer_quant_config

from ...library.mlx_folder import HEAD_FILE, Folder
from ...library.mlx_heads import FAMILIES, own_name
from .hidden import Trunk

_RAW_BELOW = 0.5
"""Average weight of the norms of queries and keys below which all norms of a head lack a one. Qwen stores
norms less one, and mlx-lm's conversion adds it, but not to a head. These two norms are near one."""
_NORMS_OF_KEYS = ("q_norm.weight", "k_norm.weight")
_PARTS = ("gate_proj", "up_proj", "down_proj")
_AROUND = ("enorm.", "hnorm.", "eh_proj.", "shared_head.", "embed_tokens.")
"""Beginnings of the names of all parts of DeepSeek's heads but their layer."""
_EXPERT = re.compile(r"(.*)\.experts\.(\d+)\.(\w+)\.(weight|scales|biases)", re.DOTALL)


class HeadNetwork(nn.Module):  # type: ignore[misc]
    """A head without its cache. Its embeddings and its output layer may be those of the main model."""

    layers: list[Any]
    """Its layers with attention; each needs a cache."""

    def __call__(self, embeddings: Any, rows: Any, caches: Sequence[Any]) -> Any:
        """Return the own rows for embeddings and hidden rows, all of shape (1, any, width)."""
        raise NotImplementedError

    def make_caches(self) -> list[Any]:
        """Return an empty cache for each layer."""
        return [KVCache() for _ in self.layers]

    def embed(self, tokens: Any, trunk: Trunk) -> Any:
        """Return the embeddings of tokens, of shape (1, any)."""
        return trunk.embed(tokens)

    def scores(self, own: Any, trunk: Trunk) -> Any:
        """Return the scores that follow from own rows."""
        return trunk.scores(own)


class QwenHead(HeadNetwork):
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

    def __call__(self, embeddings: Any, rows: Any, caches: Sequence[Any]) -> Any:
        joined = [self.pre_fc_norm_embedding(embeddings), self.pre_fc_norm_hidden(rows)]
        mask = create_attention_mask(embeddings, caches[0])
        return self.norm(self.layers[0](self.fc(mx.concatenate(joined, axis=-1)), mask, caches[0]))


class DeepseekHead(HeadNetwork):
    """The head of a model of the family "deepseek" in `mlx_heads`.

    In some of them an indexer chooses the tokens that attention sees. Its keys are in a second cache.
    """

    def __init__(self, args: Any, layer: Any, names: Container[str]) -> None:
        """`layer` is one of mlx-lm's, and `names` are those of the weights: some heads have more parts."""
        super().__init__()
        width, eps = args.hidden_size, args.rms_norm_eps
        self.enorm, self.hnorm = nn.RMSNorm(width, eps=eps), nn.RMSNorm(width, eps=eps)
        self.eh_proj = nn.Linear(2 * width, width, bias=False)
        self.layers = [layer]
        self.shared_head = nn.Module()
        self.shared_head.norm = nn.RMSNorm(width, eps=eps)
        if "shared_head.head.weight" in names:
            self.shared_head.head = nn.Linear(width, args.vocab_size, bias=False)
        if "embed_tokens.weight" in names:
            self.embed_tokens = nn.Embedding(args.vocab_size, width)

    def __call__(self, embeddings: Any, rows: Any, caches: Sequence[Any]) -> Any:
        joined = mx.concatenate([self.enorm(embeddings), self.hnorm(rows)], axis=-1)
        latent = hasattr(self.layers[0].self_attn, "kv_lora_rank")  # such attention adds its mask
        first = caches[0][0] if self._indexed else caches[0]
        mask = create_attention_mask(embeddings, first, return_array=latent)
        return self.shared_head.norm(self.layers[0](self.eh_proj(joined), mask, caches[0]))

    @property
    def _indexed(self) -> bool:
        return hasattr(self.layers[0].self_attn, "indexer")

    def make_caches(self) -> list[Any]:
        return [CacheList(KVCache(), KVCache())] if self._indexed else super().make_caches()

    def embed(self, tokens: Any, trunk: Trunk) -> Any:
        return self.embed_tokens(tokens) if "embed_tokens" in self else super().embed(tokens, trunk)

    def scores(self, own: Any, trunk: Trunk) -> Any:
        return self.shared_head.head(own) if "head" in self.shared_head else super().scores(own, trunk)


def read_head(folder: Folder, network: Any) -> HeadNetwork:
    """Return the head in `folder` for the main model with this network. The weights are yet to be computed.

    Raises the errors of MLX for weights that are missing, that are of other shapes, or of an unknown format.
    """
    make = _qwen if FAMILIES[folder.model_type] == "qwen" else _deepseek
    head, weights = make(network, dict(stored(folder)))
    fill(head, weights)
    return head


def fill(head: Any, weights: dict[str, Any]) -> None:
    """Give an empty network its weights, quantized where they are."""

    def quantized(path: str, module: Any) -> Any:
        packed = hasattr(module, "to_quantized") and f"{path}.scales" in weights
        return infer_quant_config(path, module, weights) if packed else False

    nn.quantize(head, class_predicate=quantized)
    head.eval()
    head.load_weights([*weights.items()], strict=True)


def without_head(model: type, folder: Folder) -> type:
    """Return a class of mlx-lm's models that leaves out the weights of a head. Some would reject them."""

    class WithoutHead(model):  # type: ignore[misc]
        def sanitize(self, weights: dict[str, Any]) -> dict[str, Any]:
            others = {name: each for name, each in weights.items() if not own_name(folder, name)}
            return dict(super().sanitize(others))

    return WithoutHead


def _qwen(network: Any, weights: dict[str, Any]) -> tuple[HeadNetwork, dict[str, Any]]:
    """Return an empty head, and the weights by the names of its parts."""
    return QwenHead(Trunk(network).args), _with_ones(_as_mlx_lm_names_them(weights))


def _deepseek(network: Any, weights: dict[str, Any]) -> tuple[HeadNetwork, dict[str, Any]]:
    """Return the same for DeepSeek's heads. A model with no layer but that of the head changes its weights as
    mlx-lm does."""
    args = replace(network.args, num_hidden_layers=1, first_k_dense_replace=0)
    only = _model_class(network)(args)
    before, own = "model.layers.0.", {}
    for name, each in only.sanitize({before + name: each for name, each in weights.items()}).items():
        part = name.removeprefix(before)
        own[part if part.startswith(_AROUND) else f"layers.0.{part}"] = each
    return DeepseekHead(args, only.model.layers[0], own), own


def _model_class(network: Any) -> Any:
    """Return mlx-lm's own class of a network of `without_head`."""
    return next(each for each in type(network).__mro__ if each.__module__.startswith("mlx_lm."))


def stored(folder: Folder) -> Iterator[tuple[str, Any]]:
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
