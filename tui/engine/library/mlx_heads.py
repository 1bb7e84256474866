"""Tells whether an MLX folder has a head (MTP), by the names of its tensors alone.

Such a head gets a token and the hidden row of the main model before it, and predicts the next token. Three
forms are in use. The head is in the folder of its main model, among the weights or in a file of its own. Or
it has a folder of its own, with the settings of its main model. A folder may claim a head and lack its
tensors, as conversions by mlx-lm do. So the names of the tensors count, not the claim. This module reads no
tensor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from msgspec.structs import replace

from ...protocol import HeadKind, ModelFacts, PromptForm
from .mlx_folder import HEAD_FILE, Folder
from .safetensors import StoredTensor

Family = Literal["qwen", "deepseek", "gemma"]
"""The heads that have the same tensors."""
FAMILIES: Final[Mapping[str, Family]] = {
    "qwen3_5": "qwen",
    "qwen3_5_moe": "qwen",
    "qwen3_next": "qwen",
    "qwen3_5_mtp": "qwen",
    "deepseek_v3": "deepseek",
    "deepseek_v32": "deepseek",
    "glm_moe_dsa": "deepseek",
    "glm4_moe": "deepseek",
    "glm4_moe_lite": "deepseek",
    "gemma4": "gemma",
    "gemma4_text": "gemma",
    "gemma4_unified": "gemma",
    "gemma4_assistant": "gemma",
}
"""By mlx-lm's architecture of the main model, or by that of a folder with nothing but a head."""
ALONE: Final = frozenset({"qwen3_5_mtp", "gemma4_assistant"})
"""The architectures of folders with nothing but a head. mlx-lm has none of them."""
_NEEDED: Final[Mapping[Family, tuple[str, ...]]] = {
    "qwen": (
        "fc.weight",
        "norm.weight",
        "pre_fc_norm_embedding.weight",
        "pre_fc_norm_hidden.weight",
        "layers.0.input_layernorm.weight",
        "layers.0.self_attn.q_proj.weight",
    ),
    "deepseek": (
        "eh_proj.weight",
        "enorm.weight",
        "hnorm.weight",
        "shared_head.norm.weight",
        "input_layernorm.weight",
        "self_attn.o_proj.weight",
    ),
    "gemma": (
        "post_projection.weight",
        "pre_projection.weight",
        "model.embed_tokens.weight",
        "model.norm.weight",
        "model.layers.0.self_attn.q_proj.weight",
    ),
}
"""Tensors that every head has, by their own names. The first one gives rows."""
_QWEN = re.compile(r"(?:model\.|language_model\.)*mtp\.(.+)", re.DOTALL)
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)", re.DOTALL)
"""DeepSeek's heads are layers behind the last one."""
_SECOND: Final[Mapping[Family, tuple[str, ...]]] = {"qwen": ("layers.1.",), "deepseek": ("1.",), "gemma": ()}
"""The beginning of the names of a second head in a row. No architecture here has one."""
_KINDS: Final[Mapping[Family, HeadKind]] = {"qwen": "mtp", "deepseek": "mtp", "gemma": "assistant"}


@dataclass(frozen=True)
class FolderHead:
    """The head in a folder."""

    family: Family
    tensors: Mapping[str, StoredTensor]
    """By their own names, without the beginning that tells that they are parts of a head."""
    alone: bool
    """Whether the folder holds nothing else."""

    @property
    def size(self) -> int:
        """Bytes of all its tensors."""
        return sum(each.end - each.begin for each in self.tensors.values())

    @property
    def width(self) -> int:
        """Numbers in a hidden row, as many as its first layer gives."""
        return self.tensors[_NEEDED[self.family][0]].shape[0]


def head_in(folder: Folder) -> FolderHead | None:
    """Return the head in a folder; None if there is none that can be used."""
    family = FAMILIES.get(folder.model_type)
    if family is None:
        return None
    inside = {name: each for each in folder.tensors if (name := own_name(folder, each.name))}
    beside = {own_name(folder, each.name, HEAD_FILE): each for each in folder.beside}
    tensors = inside | beside
    if not tensors.keys() >= {*_NEEDED[family]} or any(name.startswith(_SECOND[family]) for name in tensors):
        return None
    return FolderHead(family, tensors, alone=len(inside) == len(folder.tensors))


def facts_of(folder: Folder, vocabulary: int, form: PromptForm) -> ModelFacts:
    """Return the facts of a folder, with those of its head."""
    head = head_in(folder)
    facts = folder.facts(vocabulary, form)
    return replace(facts, head=_KINDS[head.family], only_head=head.alone) if head else facts


def own_name(folder: Folder, tensor: str, file: str = "") -> str:
    """Return the name that a tensor of `folder` has in the head; empty if it is no part of a head.

    `file` is the name of its file.
    """
    if FAMILIES[folder.model_type] == "deepseek":
        found = _LAYER.fullmatch(tensor)
        behind = int(found[1]) - folder.layers if found else -1
        return "" if found is None or behind < 0 else f"{behind}.{found[2]}" if behind else found[2]
    if found := _QWEN.fullmatch(tensor):
        return found[1]
    return tensor if folder.model_type in ALONE or file == HEAD_FILE else ""


def misfit(main: Folder, head: Folder) -> str:
    """Return why the head in a folder of its own cannot draft for `main`; empty if it can.

    Names say nothing: a head fits all models of one shape. The vocabulary is compared elsewhere.
    """
    found, family = head_in(head), FAMILIES.get(main.model_type)
    if found is None:
        return "the folder holds no head (MTP) that can be used"
    if family != found.family:
        return f"the head of another model: it does not draft for the architecture {main.model_type!r}"
    if found.width != main.width:
        needed = f"it needs rows of {found.width:,} numbers, these have {main.width:,}"
        return f"the head of another model: {needed}"
    if family == "gemma" and (kind := _other_keys(_keys(main), _keys(head))):
        return f"the head of another model: it looks at keys ({kind}) of another form"
    return ""


@dataclass(frozen=True)
class _Keys:
    """The keys of one kind of attention."""

    size: int
    """Numbers in a key."""
    heads: int
    """Keys of a token."""
    readers: int
    """Queries of a token."""


def _keys(folder: Folder) -> dict[str, _Keys]:
    """Return the forms of keys in a Gemma 4 model, by mlx-lm's names of the kinds of attention."""
    inner = folder.config.get("text_config")
    config = inner if isinstance(inner, dict) else folder.config

    def number(key: str, otherwise: int) -> int:
        return value if type(value := config.get(key)) is int and value > 0 else otherwise

    readers, heads, size = number("num_attention_heads", 8), number("num_key_value_heads", 1), 256
    of_all = number("num_global_key_value_heads", heads) if config.get("attention_k_eq_v") else heads
    forms = {
        "sliding_attention": _Keys(number("head_dim", size), heads, readers),
        "full_attention": _Keys(number("global_head_dim", 2 * size), of_all, readers),
    }
    kinds = config.get("layer_types")
    return {kind: form for kind, form in forms.items() if not isinstance(kinds, list) or kind in kinds}


def _other_keys(main: Mapping[str, _Keys], head: Mapping[str, _Keys]) -> str:
    """Return the first kind of attention whose keys in `main` the head cannot read; empty for none."""
    for kind, form in head.items():
        theirs = main.get(kind)
        if theirs is None or theirs.size != form.size or form.readers % theirs.heads:
            return kind
    return ""
