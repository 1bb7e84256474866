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
from functools import partial
from importlib import metadata
from time import perf_counter
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm import utils as mlx_lm
from mlx_lm.models.cache import make_prompt_cache
from msgspec.structs import replace

from ....choices import HEAD
from ....protocol import ModelFacts, Obstacle
from ...eligibility import NO_HEAD, NO_HEAD_ON_RING, OTHER_LIBRARY, uncut_draft, unfit_folder, vocabularies
from ...library.describe import folder_tokens, named
from ...library.gguf import BadModelFile
from ...library.head_files import ITS_MAIN, ONLY_HEAD
from ...library.mlx_folder import WINDOWS_SHARE, Folder, read_folder
from ...library.mlx_heads import FAMILIES, FolderHead, facts_of, head_in
from ...machine.hardware import memory_bytes
from .. import GivenUp, LoadedModel, ModelError, Options, Progress, Ring, asking, prompt_form
from ..cached import PICKS, WARM_UP
from .assistant import open_assistant, read_assistant
from .caches import Caches
from .head import NAME, MlxHead, open_head
from .model import MlxModel, failing
from .mtp import read_head, without_head
from .output_layer import OutputLayer
from .parts import Parts
from .pipeline import SPLIT, Stage
from .ring import LeadsRing, RingWire, StagedModel, WholeCalls, keep_all, staged
from .vocabulary import MlxVocabulary, Tokenizers

_PIECE, _LARGEST_PIECE = 16 << 20, 256 << 20
"""Bytes of weights between two reports of progress: at first, and at most."""
_QUICK = 0.2
"""Seconds. If a piece takes longer than this, the next one is half as large, and if not, twice as large."""
_OTHER = "Choose another model, or download this one again."


class MlxBackend:
    """Implements `backends.Backend`. The backend and its models are used on one thread."""

    name = "MLX"
    version = metadata.version("mlx")

    def __init__(self) -> None:
        self._wire_memory()
        self._tokenizers = Tokenizers()
        self._machines = ""

    def device(self) -> str:
        """Return the chip or processor that computes, and the other machines of the ring."""
        name = str(mx.device_info().get("device_name") or "unknown")
        here = name if mx.default_device() == mx.gpu else f"CPU ({name})"
        return f"{here} + {self._machines}" if self._machines else here

    def load(self, path: str, options: Options, progress: Callable[[float], bool]) -> MlxModel:
        """Open a folder. Raises `ModelError` with the reason from its files or the library."""
        try:
            return self._load(path, options, progress)
        except Exception:  # whatever ends the load: the other machines wait for this one
            if options.ring:
                options.ring.give_up()
            raise

    def _load(self, path: str, options: Options, progress: Callable[[float], bool]) -> MlxModel:
        folder = _folder(path)
        if (head := head_in(folder)) and head.alone:
            raise ModelError(ONLY_HEAD, ITS_MAIN)
        with failing("the model cannot be loaded", _OTHER):
            network, _ = mlx_lm.load_model(
                folder.path, lazy=True, strict=True, trust_remote_code=False, **self._classes(folder)
            )
            _widen(network, folder)
        if options.ring:
            return self._on_ring(network, folder, options, options.ring, progress)
        self._read_weights(network, progress)
        return self._ready(network, folder, options, progress)

    def _on_ring(
        self, network: Any, folder: Folder, options: Options, ring: Ring, progress: Callable[[float], bool]
    ) -> MlxModel:
        """Return the model of which this machine computes some layers."""
        if folder.model_type not in SPLIT:
            reason = f"an MLX model of the architecture {folder.model_type!r} is not split over machines"
            raise ModelError(reason, "Load it on one machine, without --workers.")
        assert isinstance(ring.lines, RingWire)
        ring.begin(options)
        stage = Stage(network, ring.lines, ring.own)
        self._read_weights(network, progress)
        ring.ready(lambda: progress(1.0))
        self._machines = ring.name
        # All machines run the first calls together, so none of them may stop alone.
        try:
            return self._ready(
                network, folder, options, lambda share: progress(share) or True, staged(ring, stage)
            )
        except ModelError as error:
            if isinstance(ring, LeadsRing):
                ring.fail(error)
            raise

    def load_head(
        self, main: LoadedModel, options: Options, path: str = "", progress: Progress = lambda share: True
    ) -> MlxHead | Obstacle:
        """Return the head in the folder of `main` as a draft model for it, or why there is none.

        With `path`, it is the head in that folder.
        """
        if not isinstance(main, MlxModel):
            return OTHER_LIBRARY if path else NO_HEAD
        if isinstance(main, StagedModel):
            return NO_HEAD_ON_RING
        own = _folder(main.facts.path)
        folder = _folder(path) if path else own
        if path:
            words = partial(folder_tokens, words=True)
            if obstacle := unfit_folder(own, folder, "load"):
                return obstacle
            if obstacle := vocabularies(words(own.path), words(folder.path), "load"):
                return obstacle
        if (found := head_in(folder)) is None:
            return NO_HEAD
        facts = _facts_of(found, folder, main) if path else replace(_facts_of(found, folder, main), path=HEAD)
        assistant = found.family == "gemma"
        with failing("the head cannot be loaded", "Choose another draft."):
            network = read_assistant(folder) if assistant else read_head(folder, main.runner.network)
            _widen(network, folder)
        self._read_weights(network, progress)
        with failing("the head cannot be run", "Choose another draft."):
            if assistant:
                return open_assistant(network, main, facts)
            return open_head(network, main, facts, again=not options.exact)

    def mismatch(self, main: LoadedModel, draft: LoadedModel) -> Obstacle | None:
        """Return why `draft` cannot draft for `main`; None if it can."""
        if not isinstance(main, MlxModel) or not isinstance(draft, MlxModel):
            return OTHER_LIBRARY
        if kind := draft.cache_unknown:
            return uncut_draft(kind)
        if main.vocabulary.shares_file(draft.vocabulary):
            return None
        return vocabularies(main.vocabulary.words(), draft.vocabulary.words(), "load")

    def _wire_memory(self) -> None:
        """Keep the GPU's memory from being paged out, as long as this process lives."""
        if mx.metal.is_available() and (most := mx.device_info().get("max_recommended_working_set_size")):
            mx.set_wired_limit(int(most))

    def _classes(self, folder: Folder) -> dict[str, Any]:
        """Return mlx-lm's argument for the classes of an architecture, if they are not its own.

        An unknown architecture is rejected before mlx-lm imports anything by its name.
        """
        kind = mlx_lm.MODEL_REMAPPING.get(folder.model_type, folder.model_type)
        name = f"mlx_lm.models.{kind}"
        module = importlib.import_module(name) if importlib.util.find_spec(name) else None
        if module is None or not hasattr(module, "Model"):
            raise ModelError(
                f"mlx-lm has no architecture {folder.model_type!r}", "Update mlx-lm, or choose another model."
            )
        if folder.model_type not in FAMILIES:
            return {}
        model = without_head(module.Model, folder)
        return {"get_model_classes": lambda config: (model, module.ModelArgs)}

    def _read_weights(self, network: Any, progress: Callable[[float], bool]) -> None:
        """Read the weights into memory piece by piece."""
        arrays = [array for _, array in tree_flatten(network.parameters())]
        total = sum(array.nbytes for array in arrays) or 1
        self._check_memory(total)
        if not progress(0.0):
            raise GivenUp("the load was given up")
        done, piece, size = 0, [], _PIECE
        for array in arrays:
            piece.append(array)
            done += array.nbytes
            if sum(each.nbytes for each in piece) < size and array is not arrays[-1]:
                continue
            began = perf_counter()
            with failing("the weights cannot be read", _OTHER):
                mx.eval(piece)
            piece = []
            size = min(_LARGEST_PIECE, 2 * size) if perf_counter() - began < _QUICK else max(1, size // 2)
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
        self, network: Any, folder: Folder, options: Options, progress: Callable[[float], bool],
        make: Callable[..., MlxModel] = MlxModel,
    ) -> MlxModel:  # fmt: skip
        """Return the model, after its first calls. `progress` gets 1 to 2 meanwhile."""
        passed = 1.0

        def wanted(tokens: float) -> bool:
            nonlocal passed
            passed += tokens / (2 + sum(WARM_UP[options.role]))
            return progress(min(2.0, passed))

        def ask(tokens: float) -> None:
            if not wanted(tokens):
                raise GivenUp("the load was given up")

        caches, parts, scores = self._first_call(network, folder, options, ask)
        ask(0.0)
        encoder = self._tokenizers.open(folder, lambda: ask(0.1))
        ask(0.2)
        vocabulary = MlxVocabulary(folder, scores.shape[-1], encoder)
        ask(0.5)
        facts = named(facts_of(folder, vocabulary.size, prompt_form(vocabulary)))
        capacity, picks, exact = options.tokens(folder.context_length), PICKS[options.role], options.exact
        loaded = make(network, caches, vocabulary, facts, capacity, picks, parts=parts, exact=exact)
        with asking([loaded], wanted):
            loaded.warm_up(WARM_UP[options.role])
        return loaded

    def _first_call(
        self, network: Any, folder: Folder, options: Options, ask: Callable[[float], None]
    ) -> tuple[Caches, Parts, Any]:
        """Run one token. Return the caches with their room, the parts of calls, and the scores."""
        bits = 8 if options.role == "main" and options.cache_type == "q8_0" else 0
        capacity = options.tokens(folder.context_length)
        windows = folder.weight_bytes // WINDOWS_SHARE
        hint = "Load with a KV cache of 16 bits." if bits else _OTHER
        with failing("the model cannot be run", hint):
            caches = Caches(lambda: make_prompt_cache(network), bits=bits)
            parts = WholeCalls(caches) if options.ring else Parts(caches, OutputLayer(network))
            scores = parts.compute(
                lambda: network(mx.array([[0]]), cache=caches.all),
                lambda scores: mx.eval(caches.state) or scores,
                1,
                ask,
            )
            keep_all(caches, capacity) if options.ring else caches.spare_all(capacity, windows)
        if scores.ndim != 3:
            raise ModelError("not a chat model: it gives no scores for tokens", "Choose another model.")
        return caches, parts, scores


def _folder(path: str) -> Folder:
    """Return a folder that MLX can read. Raises `ModelError`."""
    try:
        folder = read_folder(path)
    except BadModelFile as error:
        raise ModelError(f"{error} ({path})", error.hint) from None
    if glob.escape(path) != path:
        raise ModelError("MLX reads no folder with *, ? or [ in its path", "Rename it, or move it.")
    return folder


def _widen(network: Any, folder: Folder) -> None:
    """Give the 16-bit numbers of a quantized network 32 bits where no GPU computes."""
    if mx.default_device() != mx.gpu and folder.widened:
        network.set_dtype(mx.float32)


def _facts_of(head: FolderHead, folder: Folder, main: MlxModel) -> ModelFacts:
    """Return the facts about a head. Its vocabulary and its output layer are those of `main`."""
    name = NAME if str(folder.path) == main.facts.path else folder.name
    parameters = sum(map(folder.stands_for, head.tensors.values()))
    return replace(main.facts, name=name, path=str(folder.path), parameters=parameters, size=head.size)
