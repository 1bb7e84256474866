"""Describes a model file or folder for the list of models. It reads only the header, and runs no
native code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import asdict, replace

from ...protocol import FoundModel, ModelFacts
from .find import ModelFile, candidate
from .forms import form_of
from .gguf import BadModelFile, UnusableModelFile
from .header import MAX_TEXT, read_header, read_words
from .mlx_folder import Folder, is_folder, read_folder
from .mlx_heads import ALONE, facts_of, head_in
from .short_name import short_name
from .supported import llama_cpp_knows, mlx_knows
from .token_texts import Tokens, fingerprint

_MOST_TOKENS = 1 << 22
_RECURRENT = ("ssm_cfg", "state_size", "linear_num_value_heads", "mamba_d_state", "conv_L_cache")


def describe(candidate: ModelFile) -> FoundModel:
    """Describe a model from its header. Raises `BadModelFile` if it is not a model or cannot be loaded."""
    size = sum(each.stat().st_size for each in candidate.files)
    facts, more = (_of_folder if is_folder(candidate.path) else _of_file)(candidate.path)
    return FoundModel(
        **asdict(replace(named(facts, candidate.tag), size=size, demo=candidate.demo)),
        **more,
        source=candidate.source,
        tag=candidate.tag[:MAX_TEXT],
    )


def holds_only_head(path: str | Path) -> bool:
    """Return whether a file or folder holds a head and no model. One that cannot be read holds none."""
    try:
        if is_folder(Path(path)):
            return bool((head := head_in(read_folder(path))) and head.alone)
        return read_header(path).facts.only_head
    except BadModelFile:
        return False


def named(facts: ModelFacts, tag: str | None = None) -> ModelFacts:
    """Return `facts` with a short name for the title. `tag` is Ollama's name; None searches for it."""
    path = Path(facts.path)
    if tag is None:
        tag = candidate(path).tag if path.parent.name == "blobs" else ""
    return replace(facts, name=short_name(path, facts.name, facts.quantization, tag))


def tokens_of(path: Path) -> Tokens:
    """Return the text tokens of a file or a folder, by id. Raises `BadModelFile`."""
    return folder_tokens(path, words=True) if is_folder(path) else read_words(path)


def folder_tokens(path: Path, *, words: bool = False) -> Tokens:
    """Return the tokens of tokenizer.json by id: those of the model and the added ones.

    With `words`, tokens that are not text are left out. Raises `BadModelFile`.
    """
    try:
        data = json.loads((path / "tokenizer.json").read_bytes())
        found = {number: text.encode("utf-8", "surrogatepass") for text, number in _entries(data)}
        special = {each["id"] for each in data.get("added_tokens") or () if words and each.get("special")}
        return {number: text for number, text in found.items() if number not in special}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BadModelFile(f"tokenizer.json cannot be read: {type(error).__name__}") from None


def _entries(data: Any) -> Iterator[tuple[str, int]]:
    own = data["model"]["vocab"]
    pairs = own.items() if isinstance(own, dict) else ((entry[0], i) for i, entry in enumerate(own))
    added = ((each["content"], each["id"]) for each in data.get("added_tokens") or ())
    for source in (pairs, added):
        for text, number in source:
            if type(number) is int and 0 <= number < _MOST_TOKENS and isinstance(text, str):
                yield text, number


def _of_file(path: Path) -> tuple[ModelFacts, dict[str, Any]]:
    """Return the facts of a GGUF file, and the other fields of `FoundModel` that it gives."""
    header = read_header(path)
    if not llama_cpp_knows(header.facts.architecture):
        raise UnusableModelFile(f"llama.cpp has no architecture {header.facts.architecture!r}")
    fields = ("tokenizer", "fingerprint", "traits", "license")
    return header.facts, {"backend": "llama.cpp"} | {name: getattr(header, name) for name in fields}


def _of_folder(path: Path) -> tuple[ModelFacts, dict[str, Any]]:
    """Return the same of an MLX folder."""
    folder = read_folder(path)
    if folder.model_type not in ALONE and not mlx_knows(folder.model_type):
        raise UnusableModelFile(f"mlx-lm has no architecture {folder.model_type!r}")
    tokens = folder_tokens(path)
    texts = [tokens.get(number, b"") for number in range(max(tokens, default=-1) + 1)]
    end = folder.config.get("eos_token_id")
    facts = facts_of(folder, len(tokens), form_of(folder.chat_template, lambda mark: mark.encode() in texts))
    return facts, {
        "backend": "mlx",
        "tokenizer": "tokenizers",
        "fingerprint": fingerprint(texts, [end] if type(end) is int else []),
        "traits": tuple(_traits(folder)),
    }


def _traits(folder: Folder) -> Iterator[str]:
    inner = folder.config.get("text_config")
    config = {**folder.config, **(inner if isinstance(inner, dict) else {})}
    if any(config.get(key) for key in _RECURRENT):
        yield "recurrent"
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        yield "sliding window"
    if head_in(folder):
        yield "MTP heads"
    if config.get("num_experts") or config.get("num_local_experts") or config.get("n_routed_experts"):
        yield "mixture of experts"
