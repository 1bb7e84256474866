"""Describes a model file or folder for the list of models. It reads only the header, and runs no
native code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import asdict, replace

from ...protocol import FoundModel, ModelFacts
from .find import ModelFile, candidate
from .forms import form_of
from .gguf import BadModelFile, UnusableModelFile
from .header import MAX_TEXT, read_header, read_words
from .mlx_folder import TOKENIZER, Folder, is_folder, read_folder
from .mlx_heads import ALONE, facts_of, head_in
from .short_name import short_name
from .supported import llama_cpp_knows, mlx_knows
from .token_texts import Tokens, fingerprint

_MOST_TOKENS = 1 << 22
_RECURRENT = ("ssm_cfg", "state_size", "linear_num_value_heads", "mamba_d_state", "conv_L_cache")


@dataclass
class LastVocabulary:
    """The vocabulary of the last folder. The folders of one model mostly follow each other, and share it."""

    digest: bytes = b""
    count: int = 0
    """Number of tokens."""
    texts: list[bytes] = field(default_factory=list)
    """The text of each id; empty for unused ids."""

    def read(self, path: Path) -> None:
        """Read the vocabulary of a folder, if it is another one. Raises `BadModelFile`."""
        try:
            digest = blake2b((path / TOKENIZER).read_bytes()).digest()
        except OSError as error:
            raise BadModelFile(f"{TOKENIZER} cannot be read: {type(error).__name__}") from None
        if digest != self.digest:
            tokens = folder_tokens(path)
            self.texts = [tokens.get(number, b"") for number in range(max(tokens, default=-1) + 1)]
            self.digest, self.count = digest, len(tokens)


def describe(candidate: ModelFile, last: LastVocabulary | None = None) -> FoundModel:
    """Describe a model from its header. Raises `BadModelFile` if it is not a model or cannot be loaded.

    `last` saves time where several folders are described in a row.
    """
    size = sum(each.stat().st_size for each in candidate.files)
    if is_folder(candidate.path):
        facts, more = _of_folder(candidate.path, last or LastVocabulary())
    else:
        facts, more = _of_file(candidate.path)
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


def has_own_head(path: str | Path) -> bool:
    """Return whether a GGUF file holds a model together with its head. One that cannot be read does not."""
    try:
        facts = read_header(path).facts
        return bool(facts.head) and not facts.only_head
    except (BadModelFile, OSError):
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
        file = (path / TOKENIZER).read_bytes()
        try:
            data = _DECODER.decode(file)
        except msgspec.MsgspecError:  # half a character in a text, which json lets pass
            data = msgspec.convert(json.loads(file), _Tokenizer)
        added = data.added_tokens or []
        found = {number: text.encode("utf-8", "surrogatepass") for text, number in _entries(data.model.vocab)}
        found |= {
            each.id: each.content.encode("utf-8", "surrogatepass")
            for each in added
            if _is_token(each.id) and isinstance(each.content, str)
        }
        for each in added:
            if words and each.special and _is_token(each.id):
                found.pop(each.id, None)
        return found
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BadModelFile(f"{TOKENIZER} cannot be read: {type(error).__name__}") from None


class _Added(msgspec.Struct):
    content: Any = None
    id: Any = None
    special: Any = None


class _Vocabulary(msgspec.Struct):
    vocab: dict[str, Any] | list[Any]


class _Tokenizer(msgspec.Struct):
    """The needed part of tokenizer.json. Its merges, which are most of the file, are never built."""

    model: _Vocabulary
    added_tokens: list[_Added] | None = None


_DECODER = msgspec.json.Decoder(_Tokenizer)


def _entries(own: dict[str, Any] | list[Any]) -> Iterable[tuple[str, int]]:
    """Return the texts and ids of the model's own tokens, as a mapping or a list gives them."""
    if isinstance(own, dict):
        return [(text, number) for text, number in own.items() if _is_token(number)]
    return [(entry[0], i) for i, entry in enumerate(own[:_MOST_TOKENS]) if isinstance(entry[0], str)]


def _is_token(number: object) -> bool:
    return type(number) is int and 0 <= number < _MOST_TOKENS


def _of_file(path: Path) -> tuple[ModelFacts, dict[str, Any]]:
    """Return the facts of a GGUF file, and the other fields of `FoundModel` that it gives."""
    header = read_header(path)
    if not llama_cpp_knows(header.facts.architecture):
        raise UnusableModelFile(f"llama.cpp has no architecture {header.facts.architecture!r}")
    fields = ("tokenizer", "fingerprint", "traits", "license")
    return header.facts, {"backend": "llama.cpp"} | {name: getattr(header, name) for name in fields}


def _of_folder(path: Path, vocabulary: LastVocabulary) -> tuple[ModelFacts, dict[str, Any]]:
    """Return the same of an MLX folder."""
    folder = read_folder(path)
    if folder.model_type not in ALONE and not mlx_knows(folder.model_type):
        raise UnusableModelFile(f"mlx-lm has no architecture {folder.model_type!r}")
    vocabulary.read(path)
    texts = vocabulary.texts
    end = folder.config.get("eos_token_id")
    form = form_of(folder.chat_template, lambda mark: mark.encode() in texts)
    facts = facts_of(folder, vocabulary.count, form)
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
