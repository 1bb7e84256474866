"""The backends: the libraries that run models, each behind the same small protocols.

A backend opens a model file and returns a model for speculation, with the vocabulary that turns its tokens
into text. Arrays, native handles and library types stay inside the backend.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from errno import ENOENT, ENOTDIR
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from ...errors import OutriderError
from ...protocol import BackendName, CacheType, Load
from ..library.gguf import BadModelFile
from ..library.mlx_folder import is_folder, read_folder
from ..speculation.loop import Pick
from ..speculation.sampling import Constraint, Sampler
from ..wording import MAKE_ROOM, lacks_memory


class ModelError(OutriderError):
    """A model cannot be opened or run."""


LONGEST_DEFAULT_CONTEXT = 8192
"""Largest context length in tokens if nobody sets one."""

Role = Literal["main", "draft"]

Rewinds = Literal["anywhere", "round"]
"""The lengths to which a cache can be cut back without computing it again: "anywhere", or "round", which is
back to the length after the last rewind. The tokens of a round can be rejected in both kinds. Further back
the second kind needs a checkpoint."""


@dataclass(frozen=True)
class Options:
    """The options for opening a model."""

    role: Role
    context_length: int
    """Wanted size of the KV cache in tokens; 0 takes the model's own, at most 8192."""
    gpu_layers: int = -1
    threads: int = 0
    cache_type: CacheType = "f16"

    @classmethod
    def of(cls, load: Load, role: Role) -> Options:
        """Return the options of `load` for this role. A draft goes to the GPU as a whole, or not at all."""
        layers = load.gpu_layers if role == "main" or not load.gpu_layers else -1
        return cls(role, load.context_length, layers, load.threads, load.cache_type)

    def tokens(self, trained: int) -> int:
        """Return the context length of a model trained for `trained` tokens (0 if its file does not say)."""
        return self.context_length or min(trained or LONGEST_DEFAULT_CONTEXT, LONGEST_DEFAULT_CONTEXT)


class Vocabulary(Protocol):
    """Turns tokens into text and back."""

    end_tokens: frozenset[int]
    """Every token that ends an answer."""
    chat_template: str | None
    """The model's own Jinja template, as its file has it."""
    bos_text: str
    eos_text: str
    control_texts: tuple[str, ...]
    """The texts of all tokens that give a conversation its form, whether the file marks them as control
    tokens or not. No text of a message may become one of them."""
    control_tokens: frozenset[int]
    """The tokens that the file marks as no text."""

    def encode(self, text: str) -> list[int]:
        """Return the tokens of `text`. Control tokens are recognized; no BOS is added."""
        ...

    def encode_start(self) -> list[int]:
        """Return the tokens at the beginning of every prompt: [BOS] or none."""
        ...

    def piece(self, token: int) -> bytes:
        """Return the bytes of a token, or the name of a control token. Raises IndexError for no token."""
        ...


class LoadedModel(Protocol):
    """A `speculation.Model` with the vocabulary and the facts that the engine needs."""

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
    """Cache length from which a sliding window may have dropped the first tokens; 0 for never."""
    chunk: int
    """Preferred number of prompt tokens in one call; an answer can be cancelled between two calls."""

    @property
    def tokens(self) -> Sequence[int]:
        """The token ids in the cache, in order."""
        ...

    @property
    def length(self) -> int: ...

    @property
    def capacity(self) -> int: ...

    def start(self, sampler: Sampler) -> None:
        """Use `sampler` to choose tokens from now on."""
        ...

    def constraint(self, grammar: str) -> Constraint:
        """Return a GBNF grammar as a constraint for one answer of this model. Raises `ModelError`."""
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
    """A model that can run a single row beside a copy of it: kernels for several rows then compute it."""

    def double_single_rows(self, length: int) -> None:
        """Run single rows beside a copy from `length` cached tokens on. The capacity may shrink by one."""
        ...


def check_call(model: LoadedModel, tokens: Sequence[int], picks: int, most: int) -> None:
    """Check that `model.extend(tokens, picks)` is possible, with at most `most` picks in one call.

    Raises `ModelError` for an unknown token and for a full cache, `ValueError` for an invalid number of
    picks.
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
    """The name to show: "llama.cpp", "MLX"."""
    version: str
    """The version of the library: another version may round differently."""

    def device(self) -> str:
        """Return the device to show: "CPU, 8 threads", "NVIDIA H200"."""
        ...

    def load(self, path: str, options: Options, progress: Callable[[float], bool]) -> LoadedModel:
        """Open a model. `progress` gets 0 to 1 and returns False to give up. Raises `ModelError`."""
        ...

    def grammar(self, json_schema: str) -> str:
        """Return the GBNF grammar of a JSON schema. Raises `ModelError`."""
        ...

    def mismatch(self, main: LoadedModel, draft: LoadedModel) -> str:
        """Return the reason why `draft` cannot draft for `main`, in one line; empty if it can."""
        ...


def open_backend(path: str, wanted: BackendName = "auto") -> Backend:
    """Return the backend for the file or folder at `path`. Only the library that is needed is imported.

    Raises `ModelError` if no backend can open it, or not the `wanted` one.
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
        hint = MAKE_ROOM if lacks_memory(error) else "Install llama-cpp-python again."
        raise ModelError(reason, hint) from None


def _open_mlx(folder: Path) -> Backend:
    """Return MLX for a folder that it can open. A faulty folder is reported before MLX is imported."""
    try:
        read_folder(folder)
    except BadModelFile as error:
        raise ModelError(f"{error} ({folder})", error.hint) from None
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
        hint = MAKE_ROOM if lacks_memory(error) else f"Install it again: pip install {packages}"
        raise ModelError(reason, hint) from None
