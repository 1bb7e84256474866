"""The MLX backend, with mlx-lm's architectures: for Apple silicon, and elsewhere on request.

A folder is opened only after `library.mlx_folder` has checked it, and code of a folder is never run. mlx-lm
builds the network and reads the weights. Caches, choices and text are our own. This package downloads nothing
and chooses no model.
"""

from __future__ import annotations

import glob
import importlib.util
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm import utils as mlx_lm
from mlx_lm.models.cache import make_prompt_cache

from ....protocol import Obstacle
from ...eligibility import NO_HEADS_IN_MLX, OTHER_LIBRARY, uncut_draft, vocabularies
from ...library.gguf import BadModelFile
from ...library.mlx_folder import WINDOWS_SHARE, Folder, read_folder
from ...machine.hardware import memory_bytes
from .. import GivenUp, LoadedModel, ModelError, Options, Progress, asking
from ..cached import PICKS, WARM_UP
from .caches import Caches
from .model import MlxModel, failing
from .parts import Parts
from .vocabulary import MlxVocabulary, Tokenizers

_PIECE = 256 << 20
"""Bytes of weights between two reports of progress."""
_OTHER = "Choose another model, or download this one again."


class MlxBackend:
    """Implements `backends.Backend`. The backend and its models are used on one thread."""

    name = "MLX"
    version = metadata.version("mlx")

    def __init__(self) -> None:
        self._wire_memory()
        self._tokenizers = Tokenizers()

    def device(self) -> str:
        """Return the chip or processor that computes."""
        name = str(mx.device_info().get("device_name") or "unknown")
        return name if mx.default_device() == mx.gpu else f"CPU ({name})"

    def load(self, path: str, options: Options, progress: Callable[[float], bool]) -> MlxModel:
        """Open a folder. Raises `ModelError` with the reason from its files or the library."""
        try:
            folder = read_folder(path)
        except BadModelFile as error:
            raise ModelError(f"{error} ({path})", error.hint) from None
        if glob.escape(path) != path:
            raise ModelError("MLX reads no folder with *, ? or [ in its path", "Rename it, or move it.")
        with failing("the model cannot be loaded", _OTHER):
            self._check_kind(folder)
            network, _ = mlx_lm.load_model(folder.path, lazy=True, strict=True, trust_remote_code=False)
            if mx.default_device() != mx.gpu and folder.widened:
                network.set_dtype(mx.float32)
        self._read_weights(network, progress)
        return self._ready(network, folder, options, progress)

    def load_head(
        self, main: LoadedModel, options: Options, path: str = "", progress: Progress = lambda share: True
    ) -> Obstacle:
        """Return why there is no head: mlx-lm drops its weights."""
        return NO_HEADS_IN_MLX

    def mismatch(self, main: LoadedModel, draft: LoadedModel) -> Obstacle | None:
        """Return why `draft` cannot draft for `main`; None if it can."""
        if not isinstance(main, MlxModel) or not isinstance(draft, MlxModel):
            return OTHER_LIBRARY
        if kind := draft.cache_unknown:
            return uncut_draft(kind)
        return vocabularies(main.vocabulary.words(), draft.vocabulary.words(), "load")

    def _wire_memory(self) -> None:
        """Keep the GPU's memory from being paged out, as long as this process lives."""
        if mx.metal.is_available() and (most := mx.device_info().get("max_recommended_working_set_size")):
            mx.set_wired_limit(int(most))

    def _check_kind(self, folder: Folder) -> None:
        """Reject an unknown architecture before mlx-lm imports anything by its name."""
        kind = mlx_lm.MODEL_REMAPPING.get(folder.model_type, folder.model_type)
        module = f"mlx_lm.models.{kind}"
        if importlib.util.find_spec(module) is None or not hasattr(importlib.import_module(module), "Model"):
            raise ModelError(
                f"mlx-lm has no architecture {folder.model_type!r}", "Update mlx-lm, or choose another model."
            )

    def _read_weights(self, network: Any, progress: Callable[[float], bool]) -> None:
        """Read the weights into memory piece by piece."""
        arrays = [array for _, array in tree_flatten(network.parameters())]
        total = sum(array.nbytes for array in arrays) or 1
        self._check_memory(total)
        done, piece = 0, []
        for array in arrays:
            piece.append(array)
            done += array.nbytes
            if sum(each.nbytes for each in piece) < _PIECE and array is not arrays[-1]:
                continue
            with failing("the weights cannot be read", _OTHER):
                mx.eval(piece)
            piece = []
            if not progress(done / total):
                raise GivenUp("the load was given up")

    def _check_memory(self, needed: int) -> None:
        most = mx.device_info().get("max_recommended_working_set_size") or mx.device_info().get("memory_size")
        most = min(int(most or sys.maxsize), memory_bytes()[0] or sys.maxsize)
        if needed > (left := max(0, most - mx.get_active_memory())):
            raise ModelError(
                f"the weights need {needed / 2**30:.1f} GiB; MLX may use {left / 2**30:.1f} GiB more here",
                "Choose a smaller model, or one with fewer bits.",
            )

    def _ready(
        self, network: Any, folder: Folder, options: Options, progress: Callable[[float], bool]
    ) -> MlxModel:
        """Return the model, after its first calls. `progress` gets 1 to 2 meanwhile."""
        passed = 1.0

        def wanted(tokens: float) -> bool:
            nonlocal passed
            passed += tokens / (2 + sum(WARM_UP[options.role]))
            return progress(min(2.0, passed))

        def ask(tokens: float) -> None:
            if not wanted(tokens):
                raise GivenUp("the load was given up")

        bits = 8 if options.role == "main" and options.cache_type == "q8_0" else 0
        capacity = options.tokens(folder.context_length)
        hint = "Load with a KV cache of 16 bits." if bits else _OTHER
        with failing("the model cannot be run", hint):
            caches = Caches(lambda: make_prompt_cache(network), bits=bits)
            parts = Parts(caches)
            scores = parts.compute(
                lambda: network(mx.array([[0]]), cache=caches.all),
                lambda scores: mx.eval(caches.state) or scores,
                1,
                ask,
            )
            caches.spare_all(capacity, folder.weight_bytes // WINDOWS_SHARE)
        if scores.ndim != 3:
            raise ModelError("not a chat model: it gives no scores for tokens", "Choose another model.")
        vocabulary = MlxVocabulary(folder, scores.shape[-1], self._tokenizers.open)
        ask(1.0)
        picks = PICKS[options.role]
        loaded = MlxModel(
            network, caches, vocabulary, folder, capacity, picks, parts=parts, exact=options.exact
        )
        with asking([loaded], wanted):
            loaded.warm_up(WARM_UP[options.role])
        return loaded
