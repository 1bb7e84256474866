"""Makes one short name for a model: family, size, quantization. "Qwen2.5-Coder 1.5B Q4_K_M".

It comes from the names that people chose: Ollama's tag, else the file, else its folder or repository. The
title inside a file (`general.name`) is often left over from another file, so it is the last choice. This
module reads no file and knows no screen. Its results are not trusted text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from msgspec import structs

from ...protocol import FoundModel

LONGEST = 200
"""Most characters of a name."""

_QUANTIZATION = re.compile(
    r"(?<![a-z0-9])(?:(?:UD-)?I?Q\d+(?:_[a-z0-9]{1,3})*|(?:UD-)?TQ\d_\d|MXFP4(?:_MOE)?|NVFP4|BF16|FP?(?:8|16|32)"
    r"|\d{1,2}(?:\.\d+)?-?bits?|I\d_S)(?![a-z0-9])",
    re.IGNORECASE,
)
_BARE = re.compile(r"I?Q\d+", re.IGNORECASE)
"""A quantization without its kind: "Q4"."""
_PART = re.compile(r"-\d{5}-of-\d{5}$")
_SIZE = re.compile(r"(?:(?:\d+x)?\d+(?:\.\d+)?[bm]|[ea]\d+(?:\.\d+)?b)", re.IGNORECASE)
_MORE_SIZE = re.compile(r"a\d+(?:\.\d+)?b|\d+e", re.IGNORECASE)
"""A word after the size: active parameters ("A3B") or experts ("16E")."""
_REPOSITORY_IN_FRONT = re.compile(r"^.+[-_]gguf_(?=.)", re.IGNORECASE)
"""llama.cpp's own cache writes OWNER_REPOSITORY_FILE."""
_OWNER_IN_FRONT = re.compile(r"^[A-Za-z][A-Za-z-]*_(?=[A-Za-z][^_]*-[^_]*$)")
"""As in "google_gemma-3-4b-it": an owner, then a name with hyphens only."""
_HUB_FOLDER = re.compile(r"models--.+?--(?P<repository>.+)")
_DIGEST = re.compile(r"(?:sha256-)?[0-9a-f]{32,}")

_NOISE = {"gguf", "ggml", "mlx", "hf", "latest", "meta"}
"""Words without information."""
_USUAL = {"instruct", "it", "chat", "awq", "gptq", "dwq", "i1", "imat", "imatrix"}
"""Words that are left out unless two models would have the same name without them."""
_GENERIC = {"model", "main", "draft", "target", "weights", "pytorch", "consolidated", "output", "unnamed"}
"""File names that do not name a model."""
_SPELLED = {
    "awq": "AWQ", "aya": "Aya", "base": "Base", "codegemma": "CodeGemma", "codellama": "CodeLlama",
    "coder": "Coder", "codestral": "Codestral", "deepseek": "DeepSeek", "devstral": "Devstral",
    "distill": "Distill", "dolphin": "Dolphin", "dwq": "DWQ", "falcon": "Falcon", "gemma": "Gemma-",
    "glm": "GLM-", "granite": "Granite-", "hermes": "Hermes-", "instruct": "Instruct", "lfm": "LFM",
    "llama": "Llama-", "magistral": "Magistral", "medgemma": "MedGemma", "ministral": "Ministral",
    "mistral": "Mistral", "mixtral": "Mixtral", "moe": "MoE", "nemo": "Nemo", "olmo": "OLMo-",
    "openhermes": "OpenHermes-", "phi": "Phi-", "qat": "QAT", "qwen": "Qwen", "qwq": "QwQ",
    "smollm": "SmolLM", "starcoder": "StarCoder", "thinking": "Thinking", "tinyllama": "TinyLlama",
    "vl": "VL", "yi": "Yi-", "zephyr": "Zephyr",
}  # fmt: skip
"""The makers' spelling of lower-case words. A hyphen at the end is used before a number."""
_LETTERS = re.compile(r"([a-z]+)(\d[\w.]*)?")


@dataclass(frozen=True)
class _Words:
    """The parts of a name."""

    family: tuple[str, ...]
    size: str
    rest: tuple[str, ...]
    """Words after the size: a version, a date."""
    usual: tuple[str, ...]
    """Words that are left out."""
    quantizations: tuple[str, ...]

    @property
    def telling(self) -> bool:
        """Whether it names a model: a published name has a size or a quantization."""
        named = {word.casefold() for word in self.family} - _GENERIC
        return bool(named) and bool(self.size or self.quantizations)

    def said(self, quantization: str) -> str:
        rest = "-".join(self.rest)
        return " ".join(filter(None, ("-".join(self.family), self.size, rest, quantization)))


def short_name(path: Path, title: str, quantization: str, tag: str = "") -> str:
    """Return the name of the model at `path`.

    `title` is the title inside (`general.name`), `quantization` the header's ("Q4_K_M", "4 bits"), and `tag`
    the name that Ollama gives the model.
    """
    if "(demo)" in title:
        return title[:LONGEST]
    inside = _words(title)
    if (words := _chosen(path, tag)) is None:
        if not (inside.size and inside.family):
            return f"{title or _stem(path)} {_trusted(quantization, ())}".strip()[:LONGEST]
        words = replace(inside, quantizations=())
    if not words.size and _maker(words) == _maker(inside):
        words = replace(words, size=inside.size)
    return words.said(_trusted(quantization, words.quantizations))[:LONGEST]


def told_apart(models: Sequence[FoundModel]) -> tuple[FoundModel, ...]:
    """Return the models that share a name with another, each with a longer name of its own.

    The additions depend on the models alone, not on their order: first the words that a short name leaves
    out, then the program, the folders, the file, and at last the path.
    """
    names = {model.path: (model.name, "") for model in models}
    files = [model for model in models if not model.tag]  # tags leave "instruct" out
    ways = [(_with_usual, files), (_with_source, models), *((_with_place(i), models) for i in range(4))]
    for tell, some in ways:
        for alike in _groups(some, names):
            told = {model.path: tell(model, *names[model.path]) for model in alike}
            if len(set(map(_read, told.values()))) > 1:
                names |= told
    renamed = (structs.replace(model, name=_shown(names[model.path])) for model in models)
    return tuple(new for new, model in zip(renamed, models, strict=True) if new.name != model.name)


def quantization_in(name: str) -> str:
    """Return the last quantization in a file's name, in capitals; empty if there is none."""
    found = _QUANTIZATION.findall(name)
    return str(found[-1]).upper() if found else ""


_Name = tuple[str, str]
"""A short name, and the addition that tells it from another one."""
_Tell = Callable[[FoundModel, str, str], _Name]


def _groups(models: Sequence[FoundModel], names: Mapping[str, _Name]) -> list[list[FoundModel]]:
    """Return the groups of models with the same name."""
    groups: dict[str, dict[str, FoundModel]] = {}
    for model in models:
        groups.setdefault(_read(names[model.path]), {})[model.path] = model
    return [list(group.values()) for group in groups.values() if len(group) > 1]


def _shown(name: _Name) -> str:
    return f"{name[0]} ({name[1]})" if name[1] else name[0]


def _read(name: _Name) -> str:
    """Return the name as a reader sees it: a difference in capitals is no difference."""
    return _shown(name).casefold()


def _with_usual(model: FoundModel, name: str, more: str) -> _Name:
    words = _chosen(Path(model.path), model.tag)
    if words is None or not words.usual:
        return name, more
    quantization = _trusted(model.quantization, words.quantizations)
    return f"{name.removesuffix(quantization)}{'-'.join(words.usual)} {quantization}".strip(), more


def _with_source(model: FoundModel, name: str, more: str) -> _Name:
    return name, model.source


def _with_place(level: int) -> _Tell:
    """Add the folder, the folder around it, the file or Ollama's tag, or the whole path, by `level`."""

    def tell(model: FoundModel, name: str, more: str) -> _Name:
        path = Path(model.path)
        hub = _hub_folder(path)
        folders = hub.removeprefix("models--").split("--", 1) if hub else (path.parts[-3:-1] or ("",))
        place = (folders[-1], folders[0], model.tag or path.name, model.path)[level]
        return name, ", ".join(filter(None, (more, place)))

    return tell


# From a text to its words


def _chosen(path: Path, tag: str) -> _Words | None:
    """Return the words of the first given name that names a model; None if none does."""
    hub = _HUB_FOLDER.fullmatch(_hub_folder(path))
    texts = (_stem(path), hub["repository"] if hub else path.parent.name)
    if tag and (words := _words(tag)).family:
        return words
    return next((words for words in map(_words, texts) if words.telling), None)


def _stem(path: Path) -> str:
    return re.sub(r"\.gguf$", "", path.name, flags=re.IGNORECASE)


def _hub_folder(path: Path) -> str:
    """Return the folder of the repository in a cache of huggingface_hub; empty elsewhere."""
    return next((part for part in path.parts[:-1] if part.startswith("models--")), "")


def _words(text: str) -> _Words:
    text = _PART.sub("", text[:LONGEST]).rpartition("/")[2].replace(":", "-")
    quantizations = tuple(_QUANTIZATION.findall(text))
    text = _OWNER_IN_FRONT.sub("", _REPOSITORY_IN_FRONT.sub("", _QUANTIZATION.sub("-", text)))
    if "-" in text.strip("-"):  # "qwen1_5-0_5b-chat": elsewhere an underscore separates words
        text = re.sub(r"(?<=\d)_(?=\d)", ".", text)
    words = re.split(r"[-_\s,()\[\]]+|\.(?![0-9])", text)
    words = [word for word in words if word and word.casefold() not in _NOISE and not _DIGEST.fullmatch(word)]
    begin, end = _size(words)
    size = "-".join(words[begin:end]).upper().replace("X", "x")
    family, rest = (tuple(map(_spelled, part)) for part in (words[:begin], words[end:]))
    if size:  # "neural-chat-7b" has "chat" as part of its name
        return _Words(family, size, *_parted(rest), quantizations)
    family, usual = _parted(family)
    return _Words(family, size, rest, usual, quantizations)


def _parted(words: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the words to keep, and the words to leave out."""
    usual = tuple(word for word in words if word.casefold() in _USUAL)
    return tuple(word for word in words if word not in usual), usual


def _size(words: Sequence[str]) -> tuple[int, int]:
    """Return the position of the size, start and end; both after the last word if there is none."""
    begin = next((i for i, word in enumerate(words) if _SIZE.fullmatch(word)), len(words))
    end = begin + 1
    while end < len(words) and _MORE_SIZE.fullmatch(words[end]):
        end += 1
    return begin, min(end, len(words))


def _spelled(word: str) -> str:
    if re.fullmatch(r"[rk]\d", word):
        return word.upper()
    if not (found := _LETTERS.fullmatch(word)) or found[1] not in _SPELLED:
        return word
    number = found[2] or ""
    return _SPELLED[found[1]].removesuffix("" if number else "-") + number


def _maker(words: _Words) -> str:
    """Return the letters at the start of a name."""
    found = re.match(r"[a-z]+", "".join(words.family[:1]).casefold())
    return found[0] if found else ""


def _trusted(header: str, written: Sequence[str]) -> str:
    """Return the header's quantization, or a more precise one from a name: "UD-Q4_K_XL" for Q4_K_M.

    A file may have any name, so both must have the same bits.
    """
    if header.endswith(" bits"):
        return header.replace(" bits", "bit")
    kinds = (word.upper() for word in written if "Q" in word.upper() and not _BARE.fullmatch(word))
    return next((kind for kind in kinds if not header or _bits(kind) == _bits(header)), header.upper())


def _bits(quantization: str) -> str:
    found = re.search(r"\d+", quantization)
    return found[0] if found else ""
