"""Reads the facts about a model from an MLX folder, and checks that the folder can be opened safely.

Such a folder may name Python code; code from a folder is never run. Any code that a library could be made to
run, and any path out of the folder, is rejected before a library sees it. Names of code for transformers are
ignored. The weights are opened only after `safetensors` has checked them. This module imports nothing from a
folder, and reads only small files.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...protocol import ModelFacts, PromptForm
from .foreign_code import CODE, check_settings
from .gguf import BadModelFile, UnreadableModelFile, UnusableModelFile
from .safetensors import StoredTensor, read_tensors, without_repeats
from .tensor_types import commonest

MAX_JSON = 8 << 20
"""Bytes of a settings file. A large model with different bits for each layer needs that much."""
MAX_TOKENIZER = 64 << 20
WINDOWS_SHARE = 4
"""MLX's windowed caches keep every entry if that takes at most one byte for this many bytes of weights. Such
a cache can be rewound to any position."""
_MAX_ENTRIES = 10_000
_MAX_LAYERS = 1024
_MAX_SHARDS = 2000
_SETTINGS = (
    *("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("hf_quant_config.json", "chat_template.json"),
)
"""All settings files that this module or mlx-lm reads."""
TOKENIZER, _TEMPLATE = "tokenizer.json", "chat_template.jinja"
_INDEX = "model.safetensors.index.json"
HEAD_FILE = "mtp.safetensors"
"""The head of the model, where it is not among the weights. mlx-lm does not read it."""
_PART = re.compile(r"(model.*)-\d{5}-of-(\d{5})\.safetensors", re.DOTALL)
_OUTER = re.compile(r"(?:^|\.)(?:embed_tokens|lm_head)\.")
_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_LAYERS = ("num_hidden_layers", "num_layers", "n_layers", "n_layer")
_CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length")


@dataclass(frozen=True)
class Folder:
    """A model as its folder describes it. The texts are not trusted."""

    path: Path
    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    tokenizer: Mapping[str, Any]
    """tokenizer_config.json, completed from special_tokens_map.json."""
    chat_template: str | None
    shards: tuple[Path, ...]
    tensors: tuple[StoredTensor, ...] = field(repr=False)
    beside: tuple[StoredTensor, ...] = field(default=(), repr=False)
    """The tensors in `HEAD_FILE`."""

    def facts(self, vocabulary: int, form: PromptForm) -> ModelFacts:
        """Return the facts. The tokenizer knows the number of tokens and the form of prompts."""
        return ModelFacts(
            name=self.name,
            path=str(self.path),
            architecture=self.model_type,
            parameters=sum(map(self.stands_for, self.tensors)),
            quantization=self.quantization,
            size=self.weight_bytes,
            context_length=self.context_length,
            vocabulary=vocabulary,
            prompt_form=form,
        )

    @property
    def name(self) -> str:
        """The model's published name. In a huggingface_hub cache, the folder's own name is only a hash."""
        if self.path.parent.name == "snapshots" and self.path.parent.parent.name.startswith("models--"):
            return self.path.parent.parent.name.rpartition("--")[2]
        return self.path.name

    @property
    def model_type(self) -> str:
        """mlx-lm's name of the architecture."""
        return str(self.config["model_type"])

    @property
    def weight_bytes(self) -> int:
        return sum(tensor.end - tensor.begin for tensor in self.tensors)

    @property
    def outer_bytes(self) -> int:
        """Bytes of the embeddings and of the output layer."""
        outer = (each for each in self.tensors if _OUTER.search(each.name))
        return sum(each.end - each.begin for each in outer)

    @property
    def context_length(self) -> int:
        """Tokens that the model was trained on; 0 if the folder does not say."""
        return self._number(*_CONTEXT)

    @property
    def width(self) -> int:
        """Numbers in a hidden row."""
        return self._number("hidden_size", "n_embd", "d_model")

    @property
    def layers(self) -> int:
        return self._number(*_LAYERS)

    @property
    def cached_numbers(self) -> int:
        """Numbers that attention keeps for each token, over all layers; sliding windows count as full."""
        heads = self._number("num_attention_heads", "n_heads", "n_head")
        each = self._number("head_dim") or self.width // max(1, heads)
        return 2 * self.layers * (self._number("num_key_value_heads") or heads) * each

    @property
    def windowed(self) -> tuple[int, int]:
        """Number of layers with a sliding window, and its length in tokens; (0, 0) without any."""
        window, pattern = self._number("sliding_window"), self._number("sliding_window_pattern")
        inner = _mapping(self.config.get("text_config"))
        kinds = self.config.get("layer_types") or inner.get("layer_types")
        if not window:
            return 0, 0
        if isinstance(kinds, list):
            return kinds.count("sliding_attention"), window
        return (self.layers - self.layers // pattern, window) if pattern else (0, 0)

    @property
    def widest(self) -> int:
        """Numbers for one token inside a layer, at the widest point."""
        return 2 * self.width + 3 * self._number("intermediate_size")

    @property
    def widened(self) -> int:
        """Bytes by which the 16-bit numbers of a quantized model grow in 32 bits; 0 for other models.

        MLX's kernels for a processor multiply quantized weights 10 to 50 times as fast with scales of 32
        bits (mlx 0.32). So without a GPU these numbers get 32 bits when they are loaded.
        """
        short = [each for each in self.tensors if each.dtype in ("F16", "BF16")]
        if not any(each.name.endswith(".scales") for each in short):
            return 0
        return sum(each.end - each.begin for each in short)

    def _number(self, *keys: str) -> int:
        """Return the first of `keys` with a whole number above zero in the configuration; else 0."""
        for config in (self.config, _mapping(self.config.get("text_config"))):
            for key in keys:
                if type(number := config.get(key)) is int and 0 < number < 1 << 31:
                    return number
        return 0

    @property
    def quantization(self) -> str:
        """Such as "4 bits", "mxfp4" or "BF16"."""
        given = self._quantization
        if given.get("mode", "affine") != "affine":
            return str(given["mode"])[:20]
        if type(bits := given.get("bits")) is int:
            return f"{bits} bits"
        method = given.get("quant_method")
        return str(method)[:20] if method else self._commonest_type

    @property
    def _quantization(self) -> Mapping[str, Any]:
        return _mapping(self.config.get("quantization") or self.config.get("quantization_config"))

    @property
    def _commonest_type(self) -> str:
        return commonest((tensor.dtype, tensor.end - tensor.begin) for tensor in self.tensors)

    def stands_for(self, tensor: StoredTensor) -> int:
        """Return the number of parameters that a tensor stands for; quantized, it holds fewer numbers."""
        bits = self._quantization.get("bits")
        if tensor.dtype == "U32" and type(bits) is int and bits > 0:
            return tensor.elements * 32 // bits
        return 0 if tensor.name.endswith((".scales", ".biases")) else tensor.elements


def read_folder(path: str | Path) -> Folder:
    """Read and check a folder. Takes a few hundredths of a second. Raises `BadModelFile`."""
    path = Path(path)
    if not path.is_dir():
        raise UnusableModelFile("this is no folder, and MLX opens no files")
    try:
        _check_links(path)
        settings = {name: _json(path / name) for name in _SETTINGS if (path / name).is_file()}
        if "config.json" not in settings:
            raise BadModelFile("config.json is missing")
        for name, values in settings.items():
            check_settings(name, values)
        _check_config(settings["config.json"])
        if not (path / TOKENIZER).is_file():
            missing = "tokenizer.json is missing: text cannot become tokens"
            if (path / "tokenizer.model").is_file():
                raise UnusableModelFile(f"{missing} by tokenizer.model alone")
            raise BadModelFile(missing)
        if (size := (path / TOKENIZER).stat().st_size) > MAX_TOKENIZER:
            raise BadModelFile(f"tokenizer.json has {size >> 20} MiB, {MAX_TOKENIZER >> 20} at most")
        shards = _shards(path)
        tensors = _tensors(shards)
        _check_index(path, shards, tensors)
        return Folder(
            path=path,
            config=settings["config.json"],
            generation=settings.get("generation_config.json", {}),
            tokenizer=settings.get("special_tokens_map.json", {}) | settings.get("tokenizer_config.json", {}),
            chat_template=_chat_template(path, settings),
            shards=shards,
            tensors=tensors,
            beside=_tensors((path / HEAD_FILE,)) if (path / HEAD_FILE).is_file() else (),
        )
    except OSError as error:
        raise UnreadableModelFile(f"the folder {path.name} cannot be read: {error.strerror}") from None


def is_folder(path: Path) -> bool:
    """Return whether the folder holds a model for MLX, or is meant to."""
    return os.path.lexists(path / "config.json")


def is_read(name: str) -> bool:
    """Return whether this module or mlx-lm opens a file of this name.

    Repositories hold other files too: the weights in a second format, adapters, other tokenizers.
    """
    return is_weights(name) or name in (*_SETTINGS, TOKENIZER, _TEMPLATE, _INDEX, HEAD_FILE)


def is_weights(name: str) -> bool:
    """Return whether mlx-lm takes a file for weights of the model."""
    return name.startswith("model") and name.endswith(".safetensors")


def plain_name(name: object) -> bool:
    """Return whether `name` can only name a file in its folder."""
    return (
        isinstance(name, str)
        and 0 < len(name) <= 255
        and not name.startswith(".")
        and name.isprintable()
        and not any(character in name for character in "/\\:*?[]")
    )


def _check_links(path: Path) -> None:
    """Reject links that leave the folder, and links to code. Downloads of huggingface_hub link to `blobs`."""
    inside = [path.resolve()]
    if path.parent.name == "snapshots":
        inside.append(path.parent.parent.resolve() / "blobs")
    with os.scandir(path) as entries:
        for count, entry in enumerate(entries):
            if count >= _MAX_ENTRIES:
                raise UnusableModelFile(f"the folder has more than {_MAX_ENTRIES} files")
            if not entry.is_symlink():
                continue
            target = Path(os.path.realpath(entry.path))
            if not any(target.is_relative_to(folder) for folder in inside):
                raise UnusableModelFile(f"{entry.name} is a link that leaves the folder")
            if CODE.fullmatch(target.name):
                raise UnusableModelFile(f"{entry.name} is a link to code ({target.name})")


def _json(path: Path) -> dict[str, Any]:
    if (size := path.stat().st_size) > MAX_JSON:
        raise BadModelFile(f"{path.name} has {size >> 20} MiB, {MAX_JSON >> 20} at most")
    try:
        values = json.loads(path.read_bytes(), object_pairs_hook=without_repeats)
    except (ValueError, RecursionError) as error:
        raise BadModelFile(f"{path.name} is not JSON that can be read: {str(error)[:60]}") from None
    if not isinstance(values, dict):
        raise BadModelFile(f"{path.name} is no JSON object")
    return values


def _check_config(config: Mapping[str, Any]) -> None:
    kind = config.get("model_type")
    if not isinstance(kind, str) or not _TYPE.fullmatch(kind):
        raise UnusableModelFile(f"config.json: model_type is no architecture: {str(kind)[:40]!r}")
    for part in (config, _mapping(config.get("text_config"))):
        for key in _LAYERS:
            layers = part.get(key, 1)
            if layers is not None and (type(layers) is not int or not 0 < layers <= _MAX_LAYERS):
                raise BadModelFile(f"config.json: {key} is not 1 to {_MAX_LAYERS}")


def _shards(path: Path) -> tuple[Path, ...]:
    """Return the files with weights. Like mlx-lm, go by their names alone and ignore the index."""
    found = sorted(each for each in path.iterdir() if is_weights(each.name))
    if len(found) > _MAX_SHARDS:
        raise UnusableModelFile(f"the folder has more than {_MAX_SHARDS} files of weights")
    if not found:
        raise UnusableModelFile("there are no weights: no file is called model*.safetensors")
    names = {each.name for each in found}
    for part in filter(None, map(_PART.fullmatch, sorted(names))):
        for number in range(1, min(int(part[2]), _MAX_SHARDS) + 1):
            if (name := f"{part[1]}-{number:05d}-of-{part[2]}.safetensors") not in names:
                raise BadModelFile(f"{name} is missing: {part[0]} is one of {int(part[2])} files")
    return tuple(found)


def _check_index(path: Path, shards: tuple[Path, ...], tensors: Iterable[StoredTensor]) -> None:
    """Reject a folder in which files of the index are missing.

    Quantization often leaves the index of the original model. Such an index names none of the present files,
    but tensors that are in them.
    """
    index = _indexed(path / _INDEX) if (path / _INDEX).is_file() else {}
    files = set(index.values())
    if files.isdisjoint(each.name for each in shards) and any(each.name in index for each in tensors):
        return
    for name in sorted(files):
        if not (path / name).is_file():
            raise BadModelFile(f"{name} is missing: {_INDEX} names it")
        if path / name not in shards and name != HEAD_FILE:
            raise UnusableModelFile(
                f"{_INDEX}: {name} is no file that MLX reads: it must be model*.safetensors"
            )


def _indexed(path: Path) -> dict[str, str]:
    """Return the file of each tensor, as the index names it."""
    index = _json(path).get("weight_map")
    if not isinstance(index, dict):
        raise BadModelFile(f"{path.name}: weight_map is missing")
    for tensor, name in index.items():
        if not plain_name(name) or not str(name).endswith(".safetensors"):
            shown = str(name)[:60]
            raise BadModelFile(
                f"{path.name}: weight_map.{str(tensor)[:60]} is no file of the folder: {shown}"
            )
    return index


def _tensors(shards: tuple[Path, ...]) -> tuple[StoredTensor, ...]:
    found: dict[str, StoredTensor] = {}
    for shard in shards:
        for tensor in read_tensors(shard):
            if tensor.name in found:
                raise BadModelFile(f"{shard.name} holds {tensor.name[:80]} a second time")
            found[tensor.name] = tensor
    if not found:
        raise BadModelFile("the files of weights hold no tensors")
    return tuple(found.values())


def _chat_template(path: Path, settings: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the model's own template. The places are searched in the order of transformers."""
    file = path / _TEMPLATE
    if file.is_file():
        if file.stat().st_size > MAX_JSON:
            raise BadModelFile(f"{file.name} has more than {MAX_JSON >> 20} MiB")
        return file.read_text("utf-8", "replace")
    for name in ("tokenizer_config.json", "chat_template.json"):
        given = settings.get(name, {}).get("chat_template")
        if isinstance(given, list):
            named = {each.get("name"): each.get("template") for each in given if isinstance(each, dict)}
            given = named.get("default")
        if isinstance(given, str) and given:
            return given
    return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
