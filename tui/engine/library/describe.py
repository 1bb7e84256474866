"""Describes a model file or folder for the list of models. It reads only the header, and runs no
native code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...protocol import FoundModel
from .find import ModelFile, candidate
from .forms import form_of
from .gguf import BadModelFile, UnusableModelFile
from .header import Header, read_header, read_words
from .mlx_folder import Folder, is_folder, read_folder
from .short_name import short_name
from .supported import llama_cpp_knows, mlx_knows
from .token_texts import Tokens, fingerprint

MAX_TEXT = 200
"""Most characters of a tag, an architecture or a license."""
_MOST_TOKENS = 1 << 22
_RECURRENT = ("ssm_cfg", "state_size", "linear_num_value_heads", "mamba_d_state", "conv_L_cache")


def describe(candidate: ModelFile) -> FoundModel:
    """Describe a model from its header. Raises `BadModelFile` if it is not a model or cannot be loaded."""
    size = sum(each.stat().st_size for each in candidate.files)
    if is_folder(candidate.path):
        folder = read_folder(candidate.path)
        if not mlx_knows(folder.model_type):
            raise UnusableModelFile(f"mlx-lm has no architecture {folder.model_type!r}")
        return _of_folder(candidate, folder, size)
    header = read_header(candidate.path)
    if not llama_cpp_knows(header.architecture):
        raise UnusableModelFile(f"llama.cpp has no architecture {header.architecture[:MAX_TEXT]!r}")
    return _of_file(candidate, header, size)


def name_of(path: Path, title: str, quantization: str) -> str:
    """Return the short name of the model at `path`, as `describe` does. `title` is from its header."""
    tag = candidate(path).tag if path.parent.name == "blobs" else ""
    return short_name(path, title, quantization, tag)


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


def _of_file(candidate: ModelFile, header: Header, size: int) -> FoundModel:
    return FoundModel(
        path=str(candidate.path),
        name=short_name(candidate.path, header.name, header.quantization, candidate.tag),
        source=candidate.source,
        backend="llama.cpp",
        architecture=header.architecture[:MAX_TEXT],
        parameters=header.parameters,
        quantization=header.quantization,
        size=size,
        context_length=header.context_length,
        vocabulary=header.vocabulary,
        tokenizer=header.tokenizer[:MAX_TEXT],
        fingerprint=header.fingerprint,
        prompt_form=header.prompt_form,
        traits=header.traits,
        license=header.license[:MAX_TEXT],
        tag=candidate.tag[:MAX_TEXT],
    )


def _of_folder(candidate: ModelFile, folder: Folder, size: int) -> FoundModel:
    tokens = folder_tokens(candidate.path)
    texts = [tokens.get(number, b"") for number in range(max(tokens, default=-1) + 1)]
    end = folder.config.get("eos_token_id")
    return FoundModel(
        path=str(candidate.path),
        name=short_name(candidate.path, folder.name, folder.quantization),
        source=candidate.source,
        backend="mlx",
        architecture=folder.model_type,
        parameters=folder.parameters,
        quantization=folder.quantization,
        size=size,
        context_length=folder.context_length,
        vocabulary=len(tokens),
        tokenizer="tokenizers",
        fingerprint=fingerprint(texts, [end] if type(end) is int else []),
        prompt_form=form_of(folder.chat_template, lambda mark: mark.encode() in texts),
        traits=tuple(_traits(folder)),
    )


def _traits(folder: Folder) -> Iterator[str]:
    inner = folder.config.get("text_config")
    config = {**folder.config, **(inner if isinstance(inner, dict) else {})}
    if any(config.get(key) for key in _RECURRENT):
        yield "recurrent"
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        yield "sliding window"
    if config.get("num_nextn_predict_layers"):
        yield "MTP heads"
    if config.get("num_experts") or config.get("num_local_experts") or config.get("n_routed_experts"):
        yield "mixture of experts"
