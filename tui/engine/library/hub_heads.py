"""Tells which GGUF files of a repository look like heads that draft for the models beside them.

The hub gives only names and sizes. So this is a guess, and it decides only about offers. As soon as a file is
here, its metadata tell whether it is a head, and for which model (`head_files.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec.structs import replace

from ...protocol import HeadKind, HubFile

_NAMES: tuple[tuple[re.Pattern[str], HeadKind], ...] = (
    (re.compile(r"(?:^|/)mtp[-_./]", re.IGNORECASE), "mtp"),
    (re.compile(r"eagle[-_]?3", re.IGNORECASE), "eagle3"),
    (re.compile(r"(?:^|[-_./])assistant(?:[-_./]|$)", re.IGNORECASE), "assistant"),
)
"""The names that llama.cpp's converter and the makers of heads give. "Model-MTP-Q4_K_M.gguf" is none of them:
there the head is in the model's own file."""
_INSIDE = re.compile(r"[-_.]mtp[-_.]", re.IGNORECASE)
"""The name of a model whose own file has its MTP head."""
_SMALLER = 2
"""A head has at most this part of the bytes of the largest file beside it."""
_USUAL = "Q8_0"
"""The quantization of a head where none is that of its model: a head is small."""


def with_heads(files: Sequence[HubFile]) -> tuple[HubFile, ...]:
    """Return `files` with the heads marked, behind the models. Without a model beside it, none is a head."""
    kinds = {each.name: _kind(each) for each in files}
    largest = max((each.size for each in files if not kinds[each.name] and each.backend != "mlx"), default=0)
    heads = {name for name, kind in kinds.items() if kind}
    marked = [
        replace(each, head=kinds[each.name])
        if each.name in heads and _SMALLER * each.size <= largest
        else each
        for each in files
    ]
    return tuple(sorted(marked, key=lambda each: (bool(each.head), each.size)))


def head_for(model: HubFile, files: Sequence[HubFile], *, inside: bool = False) -> HubFile | None:
    """Return the head beside `model` to offer with it; None if there is none.

    A model with an MTP head `inside` needs no second one. Before its download, its name may tell that.
    """
    if model.head or model.backend == "mlx":
        return None
    inside = inside or bool(_INSIDE.search(model.name))
    heads = [each for each in files if each.head and not (inside and each.head == "mtp")]
    return min(heads, key=lambda each: _order(each, model), default=None)


def _order(head: HubFile, model: HubFile) -> tuple[bool, bool, int]:
    return head.quantization != model.quantization, head.quantization != _USUAL, head.size


def _kind(file: HubFile) -> HeadKind:
    if file.backend == "mlx":
        return ""
    return next((kind for pattern, kind in _NAMES if pattern.search(file.name)), "")
