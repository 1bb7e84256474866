"""The libraries that run models, each behind the same small protocols.

A backend opens a model file and offers the `Model` that speculation drives, with the vocabulary that
turns its tokens into text. Arrays, native handles and library types stay inside the backend.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from errno import ENOENT, ENOTDIR
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from ...protocol import BackendName, CacheType, Load
from ..library.gguf import BadModelFile
from ..library.mlx_folder import is_folder, read_folder
from ..speculation.loop import Pick
from ..speculation.sampling import Constraint, Sampler


class ModelError(Exception):
    """A model that cannot be opened or run. `hint` says what a person should do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


LONGEST_DEFAULT_CONTEXT = 8192
"""Tokens of context where nobody says how many."""

Role = Literal["main", "draft"]

Rewinds = Literal["anywhere", "round"]
"""How far back a cache can be cut without being computed again: to any length, or to where the last rewind
left it. The tokens of a round may always be refused. Further back the second kind needs a checkpoint."""


@dataclass(frozen=True)
class Options:
    """How to open a model."""

    role: Role
    context_length: int
    """Tokens of KV cache wanted; 0 takes the model's own, at most 8192."""
    gpu_layers: int = -1
    threads: int = 0
    cache_type: CacheType = "f16"

    @classmethod
    def of(cls, load: Load, role: Role) -> Options:
        """As `load` wants it. A draft goes to the GPU whole, unless nothing is to go there."""
        layers = load.gpu_layers if role == "main" or not load.gpu_layers else -1
        return cls(role, load.context_length, layers, load.threads, load.cache_type)

    def tokens(self, trained: int) -> int:
        """The context length for a model that was trained on `trained` tokens; 0 where it does not say."""
        return self.context_length or min(trained or LONGEST_DEFAULT_CONTEXT, LONGEST_DEFAULT_CONTEXT)


class Vocabulary(Protocol):
    """Tokens to text and back."""

    end_tokens: frozenset[int]
    """Every token that ends an answer."""
    chat_template: str | None
    """The model's own Jinja template, as its file has it."""
    bos_text: str
    eos_text: str
    control_texts: tuple[str, ...]
    """The texts of all tokens that give a conversation its form, whatever kind their file says they are: what
    no text of a message may become."""
    control_tokens: frozenset[int]
    """Tokens that are no text by their kind."""

    def encode(self, text: str) -> list[int]:
        """Tokens of `text`, control tokens recognised, no BOS added."""
        ...

    def encode_start(self) -> list[int]:
        """The tokens that every prompt must begin with: [BOS] or none."""
        ...

    def piece(self, token: int) -> bytes:
        """The bytes of a token; of a control token, its name. Raises IndexError outside the vocabulary."""
        ...


class LoadedModel(Protocol):
    """A `speculation.Model` with what the engine needs around it."""

    @property
    def vocabulary(self) -> Vocabulary: ...

    name: str
    path: str
    architecture: str
    parameters: int
    quantisation: str
    size: int
    trained_context_length: int
    vocabulary_size: int
    rewinds: Rewinds
    drops_from: int
    """With so many tokens in the cache, a sliding window may have dropped the first ones; 0 for never."""
    chunk: int
    """Tokens of a prompt that it likes to read at once; an answer can be cancelled between two such."""

    @property
    def tokens(self) -> Sequence[int]:
        """The token ids in the cache, in order."""
        ...

    @property
    def length(self) -> int: ...

    @property
    def capacity(self) -> int: ...

    def start(self, sampler: Sampler) -> None:
        """Choose tokens by `sampler` from now on."""
        ...

    def constraint(self, grammar: str) -> Constraint:
        """What may be written by a GBNF grammar, for one answer of this model. Raises `ModelError`."""
        ...

    def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]: ...

    def rewind(self, length: int) -> None:
        """Cut the cache back to its first `length` tokens.

        The next call runs those again that the cache could not keep.
        """
        ...

    def reach(self, length: int) -> int:
        """How many tokens the cache still holds after `rewind(length)`; the rest would be run again."""
        ...

    def checkpoint(self, length: int) -> None:
        """Copy the cache as soon as it holds `length` tokens, so that `rewind` can come back there.

        A model whose cache can be cut anywhere copies nothing. A later wish replaces an earlier one, and 0
        withdraws it.
        """
        ...

    def close(self) -> None: ...


@runtime_checkable
class Doubling(Protocol):
    """A model that can run a single row beside a copy of it, so that kernels for several rows compute it."""

    def double_single_rows(self, length: int) -> None:
        """Do so from `length` tokens in the cache on. The capacity may shrink by one."""
        ...


def check_call(model: LoadedModel, tokens: Sequence[int], picks: int, most: int) -> None:
    """Whether `model.extend(tokens, picks)` can be done, with at most `most` picks in one call.

    Raises `ModelError` for a token that the model does not know and for a full cache, `ValueError` for picks
    that cannot be.
    """
    if not 0 <= picks <= min(len(tokens), most):
        raise ValueError(f"{picks} picks in {len(tokens)} tokens")
    if tokens and not (min(tokens) >= 0 and max(tokens) < model.vocabulary_size):
        raise ModelError(f"a token is not among the {model.vocabulary_size} of {model.name}")
    if model.length + len(tokens) > model.capacity:
        raise ModelError("the context is full", "Start a new chat, or load with a longer context.")


class Backend(Protocol):
    """A library that opens models."""

    name: str
    """As shown: "llama.cpp", "MLX"."""
    version: str
    """Of the library: another one may round otherwise."""

    def device(self) -> str:
        """Where it computes, as shown: "CPU, 8 threads", "NVIDIA H200"."""
        ...

    def load(self, path: str, options: Options, progress: Callable[[float], bool]) -> LoadedModel:
        """Open a model. `progress` gets 0 to 1 and answers False to give up. Raises `ModelError`."""
        ...

    def grammar(self, json_schema: str) -> str:
        """The GBNF grammar of the JSON texts that a schema describes. Raises `ModelError`."""
        ...

    def mismatch(self, main: LoadedModel, draft: LoadedModel) -> str:
        """Why `draft` cannot draft for `main`, in one line; empty if it can."""
        ...


def open_backend(path: str, wanted: BackendName = "auto") -> Backend:
    """The backend for a model, by what stands at `path`; imports no library but the one that is needed.

    Raises `ModelError` for what no backend here can open, or not the one that is `wanted`.
    """
    if path.startswith("scripted:"):
        from .scripted import ScriptedBackend

        return ScriptedBackend()
    place = Path(path)
    try:
        place.stat()
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", ENOENT)
        reason = "the file does not exist" if number in (ENOENT, ENOTDIR) else os.strerror(number)
        raise ModelError(f"{reason} ({path})", "Check the path.") from None
    if is_folder(place):
        if wanted == "llama.cpp":
            raise ModelError(f"this is an MLX folder, and llama.cpp opens GGUF files ({path})", "Choose one.")
        return _open_mlx(place)
    if place.is_dir():
        hint = "Choose the .gguf file inside it, or an MLX folder: config.json and *.safetensors."
        raise ModelError(f"this is a folder, not a model ({path})", hint)
    if not place.is_file():
        raise ModelError(f"this is not a file ({path})", "Check the path.")
    if wanted == "mlx":
        raise ModelError(
            f"this is a file, and MLX opens folders ({path})", "Choose a folder, or another backend."
        )
    try:
        from .llama_cpp import LlamaBackend

        return LlamaBackend()
    except (ImportError, OSError, RuntimeError) as error:
        reason = f"the llama.cpp library cannot be loaded: {error}"
        raise ModelError(reason, "Install llama-cpp-python again.") from None


def _open_mlx(folder: Path) -> Backend:
    """MLX, for a folder that it can open. What is wrong with one is said before MLX is imported."""
    try:
        read_folder(folder)
    except BadModelFile as error:
        hint = "Choose another model, or download this one again."
        raise ModelError(f"{error} ({folder})", hint) from None
    packages = "mlx-lm" if sys.platform == "darwin" else '"mlx[cpu]" mlx-lm'
    try:
        from .mlx import MlxBackend

        return MlxBackend()
    except ModuleNotFoundError as error:
        name = str(error.name).partition(".")[0]
        ours = name in ("mlx", "mlx_lm")
        missing = "MLX is not installed" if ours else f"MLX needs {name}, which is missing"
        raise ModelError(missing, f"Install it: pip install {packages}; or choose a GGUF file.") from None
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        reason = f"MLX cannot be loaded: {error}"
        raise ModelError(reason, f"Install it again: pip install {packages}") from None
