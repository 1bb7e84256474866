"""The assistant of a Gemma 4 model, a head in a folder of its own, as a draft model in MLX.

It has no cache: it looks at the last entries of the main model's caches, those of each kind of attention. So
it has nothing to read. Each token that it drafts gets the position behind the main model's last token, with
the hidden row of the token before: the main model's row for the first one, then its own.

Source of the algorithm: the class Gemma4AssistantForCausalLM of transformers. Its short list of likely tokens
is left out, as in llama.cpp: the scores of all tokens take little time.

This module never changes the main model's text: a wrong row only costs acceptance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.gemma4_text import DecoderLayer, ModelArgs

from ....protocol import ModelFacts
from ...library.mlx_folder import Folder
from .. import CacheState
from .caches import Caches, EightBits, WindowCache
from .head import HeadRunner, MlxHead, begun
from .hidden import Runner
from .model import MlxModel
from .mtp import fill, stored

_UNUSED = ("masked_embedding.", "rotary_emb", "input_max", "input_min", "output_max", "output_min")
"""Parts of the names of weights that this module does without: of the short list, and of mlx-lm's choice."""


class AssistantNetwork(nn.Module):  # type: ignore[misc]
    """An assistant of Gemma 4. All its layers use the keys and values of the main model."""

    def __init__(self, args: ModelArgs, width: int, *, tied: bool) -> None:
        """`width` is that of the main model's rows. `tied`: the embeddings are also the output layer."""
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(args.vocab_size, args.hidden_size)
        self.model.layers = [DecoderLayer(args, number) for number in range(args.num_hidden_layers)]
        self.model.norm = nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)
        self.pre_projection = nn.Linear(2 * width, args.hidden_size, bias=False)
        self.post_projection = nn.Linear(args.hidden_size, width, bias=False)
        if not tied:
            self.lm_head = nn.Linear(args.hidden_size, args.vocab_size, bias=False)

    def __call__(self, embeddings: Any, rows: Any, entries: dict[str, Any], position: int) -> tuple[Any, Any]:
        """Return the scores and the own row of one token, for `entries` by the kind of attention."""
        found = self.pre_projection(mx.concatenate([embeddings, rows], axis=-1))
        for layer in self.model.layers:
            found, _, _ = layer(found, shared_kv=entries[layer.layer_type], offset=position)
        found = self.model.norm(found)
        output = self.lm_head if "lm_head" in self else self.model.embed_tokens.as_linear
        return output(found), self.post_projection(found)


def read_assistant(folder: Folder) -> AssistantNetwork:
    """Return the assistant in `folder`. Its weights are yet to be computed. Raises the errors of MLX."""
    config = folder.config
    inner = config.get("text_config")
    args = ModelArgs.from_dict(inner if isinstance(inner, dict) else config)
    args = replace(args, num_kv_shared_layers=args.num_hidden_layers, hidden_size_per_layer_input=0)
    weights = {name: each for name, each in stored(folder) if not any(part in name for part in _UNUSED)}
    width = weights["post_projection.weight"].shape[0]
    network = AssistantNetwork(args, width, tied="lm_head.weight" not in weights)
    fill(network, weights)
    return network


def open_assistant(network: AssistantNetwork, main: MlxModel, facts: ModelFacts) -> MlxHead:
    """Return the assistant of `main`, which is emptied. Raises `ModelError`."""
    return begun(main, AssistantRunner(network, Caches(list), main.runner, again=False), facts, MlxAssistant)


class AssistantRunner(HeadRunner):
    """Runs an assistant, for the last of some tokens."""

    def __init__(self, network: Any, caches: Caches, main: Runner, *, again: bool) -> None:
        super().__init__(network, caches, main, again=again)
        self._main = main.caches
        args = self.parts.args
        kinds = args.layer_types[: args.num_hidden_layers - args.num_kv_shared_layers]
        self._places = {kind: place for place, kind in enumerate(kinds)}
        """The last layer of each kind of attention that has a cache."""
        self._at = 0
        """Number of tokens that have been run, or skipped."""

    def end_of_call(self, held: int, end: int) -> int:
        return end

    def __call__(self, tokens: Any, cache: Sequence[Any]) -> Any:
        """Return the scores of the last token, which alone is run."""
        place, end = self._at + tokens.shape[1] - 1, self.theirs.end
        own = self._last
        rows = own[1] if own and own[0] == place - 1 >= end else self.theirs.rows(place - 1, 1)
        embeddings = self.parts.embed(tokens[:, -1:])
        scores, row = self.network(embeddings, rows, self._entries(rows), end)
        self.skip_to(place + 1)
        self._last = place, row
        return scores

    def skip_to(self, length: int) -> None:
        """Count tokens as read."""
        self._at = self.sound = length

    def stand_at(self, length: int) -> None:
        self._at = min(self._at, length)
        super().stand_at(length)

    def _entries(self, like: Any) -> dict[str, Any]:
        """Return the keys and values that the next token of the main model would see."""
        caches = self._main.all
        return {kind: _seen(caches[place], self._shape(place), like) for kind, place in self._places.items()}

    def _shape(self, place: int) -> tuple[int, ...]:
        """Return the shape of one entry of a layer of the main model."""
        attention = self.parts.layer(place).self_attn
        return 1, attention.n_kv_heads, 1, attention.head_dim


class MlxAssistant(MlxHead):
    """The assistant of an `MlxModel`. Close it before that."""

    runner: AssistantRunner

    def take_state(self, most: int) -> CacheState | None:
        """Return nothing: the main model's state is saved by itself."""
        return None

    def _run(self, end: int) -> None:
        self._held = end
        self.runner.skip_to(end)


def _seen(leaf: Any, shape: tuple[int, ...], like: Any) -> tuple[Any, Any]:
    """Return the keys and values of one cache that the next token sees; zeros of an empty cache.

    An empty main model is only measured.
    """
    if leaf.keys is None or not leaf.offset:
        return mx.zeros(shape, like.dtype), mx.zeros(shape, like.dtype)
    if isinstance(leaf, WindowCache):
        return leaf.seen()
    keys, values = leaf.keys_and_values()
    if isinstance(leaf, EightBits):
        form = {"group_size": leaf.group_size, "bits": leaf.bits}
        return mx.dequantize(*keys, **form), mx.dequantize(*values, **form)
    return keys, values
