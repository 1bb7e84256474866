"""Opens tokenizer.json with the `tokenizers` library: a large file in several steps.

The library reads a file in one call and keeps the lock of the interpreter meanwhile. For the 262,144 tokens
of Gemma that takes more than a second, in which no cancel is heard and no progress is shown. So the tokens
and the merges of a large BPE file are read here, and the library makes its model of them. The tokenizer is
the same. A file of any other form goes to the library as a whole. This module encodes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE

_LARGE = 4 << 20
"""Bytes. The library reads a smaller file in about a tenth of a second."""
_Object = dict[str, msgspec.Raw]
_OPTIONS = frozenset((
    "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback",
    "ignore_merges",
))  # fmt: skip
"""The settings of a BPE model, apart from its tokens and merges."""


class _Added(msgspec.Struct, forbid_unknown_fields=True):
    """A token in the list `added_tokens`, with all of its settings."""

    id: int
    content: str
    single_word: bool
    lstrip: bool
    rstrip: bool
    normalized: bool
    special: bool


def open_tokenizer(data: bytes, ask: Callable[[], object] = lambda: None) -> Tokenizer:
    """Return the tokenizer of a file. `ask` is called between two steps, and may raise any error.

    Raises the errors of the library.
    """
    parts = _parts(data, ask) if len(data) > _LARGE else None
    return parts or Tokenizer.from_buffer(data)


def _parts(data: bytes, ask: Callable[[], object]) -> Tokenizer | None:
    """Return the tokenizer of a BPE file, put together from its parts; None for a file of another form."""
    try:
        whole = msgspec.json.decode(data, type=_Object)
        added = msgspec.json.decode(whole["added_tokens"], type=list[_Added])
        model = msgspec.json.decode(whole["model"], type=_Object)
        tokens = msgspec.json.decode(model.pop("vocab"), type=dict[str, int])
        ask()
        merges = _pairs(msgspec.json.decode(model.pop("merges"), type=list[Any]))
        kind = msgspec.json.decode(model.pop("type"))
    except (msgspec.MsgspecError, KeyError):
        return None
    if kind != "BPE" or merges is None or not model.keys() <= _OPTIONS:
        return None
    ask()
    options = {name: msgspec.json.decode(value) for name, value in model.items()}
    bpe = BPE(tokens, merges, **{name: value for name, value in options.items() if value is not None})
    ask()
    empty = msgspec.Raw(msgspec.json.encode({"type": "BPE", **options, "vocab": {}, "merges": []}))
    rest = whole | {"model": empty, "added_tokens": msgspec.Raw(b"[]")}
    tokenizer = Tokenizer.from_buffer(msgspec.json.encode(rest))
    tokenizer.model = bpe
    tokenizer.add_tokens([_library_form(each) for each in added])
    return tokenizer


def _pairs(merges: list[Any]) -> list[Any] | None:
    """Return merges as pairs. Files have them as lists of two texts, older ones as texts with a space."""
    kinds = set(map(type, merges))
    if kinds == {str} and not any(each.startswith("#version") for each in merges):
        merges = [each.split(" ") for each in merges]
    elif kinds != {list}:
        return None
    return list(map(tuple, merges))


def _library_form(token: _Added) -> AddedToken:
    settings: dict[str, Any] = msgspec.structs.asdict(token)
    del settings["id"]
    return AddedToken(settings.pop("content"), **settings)
