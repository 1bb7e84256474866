"""Tells whether a GGUF file has a head: a last block that drafts for the model in the same file.

Such a head (MTP, multi-token prediction) gets a token and the hidden row of the main model before it, and
predicts the next token. A file may claim a head and lack its tensors, and llama.cpp ends the process on some
of these. So the names of the tensors count, not the claim. This module opens no file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import takewhile

from .gguf import Tensor

ROWS_OF_OUTPUTS = frozenset({"deepseek4", "mimo2", "qwen3next", "step35"})
"""Architectures whose head gives its own hidden row only for tokens with scores. The others give all rows,
and a shorter list of them would begin with a wrong one. `nemotron_h_moe` can do both."""
_EVERY = ("nextn.eh_proj", "nextn.enorm", "nextn.hnorm")
"""The tensors of every head: it joins the normalized embedding and the normalized hidden row."""
_MORE: dict[str, tuple[str, ...]] = {
    "bailingmoe3": ("layer_output_norm",),
    "cohere2moe": ("ffn_gate_inp",),
    "deepseek2": ("attn_k_b", "ffn_gate_inp"),
    "deepseek32": ("attn_k_b", "ffn_gate_inp"),
    "deepseek4": (),
    "glm-dsa": ("attn_k_b", "ffn_gate_inp"),
    "glm4moe": ("ffn_gate_inp",),
    "hy_v3": (),
    "mimo2": ("attn_qkv", "ffn_gate", "ffn_down", "ffn_up"),
    "nemotron_h_moe": ("nextn.shared_head_norm",),
    "qwen35": (),
    "qwen35moe": ("ffn_gate_inp",),
    "qwen3next": ("ffn_gate_inp",),
    "step35": (),
}
"""The architectures for which llama.cpp can run a head, each with the other tensors that it asserts."""
_SEVERAL = frozenset({"hy_v3", "mimo2", "step35"})
"""Architectures for which llama.cpp can run several heads in a row. Elsewhere it ends the process on them."""


def usable_heads(architecture: str, blocks: int, heads: int, tensors: Collection[str]) -> int:
    """Return how many heads of a model with these tensors can be run; 0 if it has none.

    `heads` is the number of heads that the file claims: they are the last of its `blocks`.
    """
    if architecture not in _MORE or not 0 < heads < blocks or (heads > 1 and architecture not in _SEVERAL):
        return 0
    needed = (*_EVERY, *_MORE[architecture])
    whole = (
        all(f"blk.{block}.{name}.weight" in tensors for name in needed)
        for block in range(blocks - heads, blocks)
    )
    return sum(1 for _ in takewhile(bool, whole))


def runs_one_head(architecture: str) -> bool:
    """Return whether llama.cpp can run a single head of this architecture, and not several."""
    return architecture in _MORE and architecture not in _SEVERAL


def is_only_head(architecture: str, blocks: int, heads: int, tensors: Collection[str]) -> bool:
    """Return whether a file holds a head and no model: llama.cpp would end the process on the first token."""
    if architecture not in _MORE or not heads or not tensors:
        return False
    return heads == blocks or "blk.0.attn_norm.weight" not in tensors


def of_head(blocks: int, heads: int, tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return the tensors of the heads."""
    starts = tuple(f"blk.{block}." for block in range(blocks - heads, blocks))
    return [each for each in tensors if each.name.startswith(starts)]
