"""The llama.cpp backend, through llama-cpp-python's ctypes layer.

A file is opened only after `library.header` has checked it, because llama.cpp ends the whole process on some
malformed files. This package downloads nothing and chooses no model.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from importlib import metadata
from typing import Any

from ....protocol import Obstacle
from ...eligibility import NO_HEAD, NO_HEADS_HERE, OTHER_LIBRARY, no_head, unfit_head, vocabularies
from ...library.head_files import ITS_MAIN, ONLY_HEAD
from ...library.header import BadModelFile, Header, read_header
from .. import GivenUp, LoadedModel, ModelError, Options, Progress, Spread
from ..cached import PICKS, WARM_UP
from . import native
from .assistant import open_assistant, reserved_by_assistant
from .batch import BATCH
from .chain import open_head
from .eagle import open_eagle, reserved_by_eagle
from .head import LlamaHead, new_context
from .model import CELLS, LlamaModel
from .reserve import CacheShape, Reserved, reserved
from .rollback import COPIES, HEAD_COPIES, affordable_copies, is_recurrent
from .spreading import spread_over
from .vocabulary import LlamaVocabulary

_Q8_0 = 8
"""ggml_type: blocks of 32 numbers in 34 bytes."""
_CELL = 64
"""Bytes that the library keeps for a cell besides keys and values: its position and its sequences."""
_ESTIMATES = {"eagle3": reserved_by_eagle, "assistant": reserved_by_assistant}
"""By the kind of a head that the library opens only beside its main model, so that it cannot be rehearsed."""
_SMALL = 32 << 20
"""Bytes of weights below which threads wait for each other longer than they compute, above all on a busy
machine. With two threads on two cores, the median token of a model of 14 MB took 20 times as long."""


class LlamaBackend:
    """Implements `backends.Backend`. One for each process, because llama.cpp has one log."""

    name = "llama.cpp"
    version = metadata.version("llama-cpp-python")

    def __init__(self) -> None:
        self._library = native.bindings()
        self.log = native.NativeLog()
        self.log.install(self._library)
        self._library.llama_backend_init()
        self._threads = native.physical_cores()
        self._on_gpu = True
        self._spread: Spread | None = None

    def device(self) -> str:
        """Return the devices of the main model: the GPUs or the CPU with its threads, and the workers."""
        plural = "" if self._threads == 1 else "s"
        gpus = self.gpus() if self._on_gpu else []
        here = ", ".join(gpu.name for gpu in gpus) or f"CPU, {self._threads} thread{plural}"
        return f"{here} + {self._spread.name}" if self._spread else here

    def gpus(self) -> list[native.NativeGpu]:
        """Return the GPUs that it can use."""
        return native.gpus(self._library)

    def load(self, path: str, options: Options, progress: Progress) -> LlamaModel:
        """Open a GGUF. Raises `ModelError` with the reason from the file or the library."""
        header = _header(path)
        if header.facts.only_head:
            raise ModelError(ONLY_HEAD, ITS_MAIN)
        options = replace(options, head=options.head and _has_head(header))
        threads = options.threads or self._default_threads(header)
        if options.role == "main":
            self._threads, self._on_gpu = threads, options.gpu_layers != 0
            self._spread = options.spread
        self.log.clear()
        with ExitStack() as undo:
            model = self._open(path, options, progress)
            undo.callback(self._library.llama_model_free, model)
            self._check_kind(model)
            params = self._params(header, options, threads)
            plans = self._affordable(path, header, options) or self._plans(model, header, options)
            context = self._new_context(model, params, plans)
            undo.callback(self._library.llama_free, context)
            full = bool(params.swa_full) or not self._library.llama_model_n_swa(model)
            picks = PICKS[options.role]  # a call for more rows of logits would end the process
            loaded = LlamaModel(
                self._library, model, context, header, picks, full_windows=full, head=options.head
            )
            if not (options.gpu_layers and self.gpus()):
                loaded.threads = threads
            loaded.warm_up(WARM_UP[options.role])
            undo.pop_all()
            return loaded

    def rehearse(
        self, path: str, options: Options, shapes: Iterable[CacheShape]
    ) -> Iterator[Reserved | None]:
        """Yield the bytes that a load would reserve for each shape of its cache; None for a rejected shape.

        It works like a load, but reads no weights and allocates nothing. Raises `ModelError`.
        """
        header = _header(path)
        if estimate := _ESTIMATES.get(header.facts.head):
            yield from (estimate(header, shape) for shape in shapes)
            return
        alone = header.facts.only_head
        options = replace(options, head=alone or (options.head and _has_head(header)))
        with ExitStack() as undo:
            model = self._open(path, options, lambda fraction: True, dry=True)
            undo.callback(self._library.llama_model_free, model)
            room = sum(gpu.free for gpu in self.gpus()) or native.memory_bytes()
            for shape in shapes:
                planned = replace(options, context_length=shape.context_length, cache_type=shape.cache_type)
                yield (
                    self._by_head(model, header, planned)
                    if alone
                    else self._within(room, model, header, planned)[1]
                )

    def load_head(
        self, main: LoadedModel, options: Options, path: str = "", progress: Progress = lambda share: True
    ) -> LlamaHead | Obstacle:
        """Return the head in the file of `main` as a draft model for it, or why there is none.

        With `path`, it is the head in that file.
        """
        extensions = native.extensions()
        if extensions is None:
            return NO_HEADS_HERE
        if not isinstance(main, LlamaModel):
            return OTHER_LIBRARY if path else NO_HEAD
        self.log.clear()
        options = replace(options, context_length=main.capacity, head=True)
        params = self._params(main.header, options, options.threads or self._default_threads(main.header))
        if path:
            head = self._open_head_file(main, path, options, params, progress)
        elif main.head:
            head = open_head(self._library, extensions, main, params, again=not options.exact)
        else:
            return no_head(main.header)
        if isinstance(head, LlamaHead):
            head.begin()
        return head

    def _open_head_file(
        self, main: LlamaModel, path: str, options: Options, params: Any, progress: Progress
    ) -> LlamaHead | Obstacle:
        """Return the head in the file at `path` as a draft model for `main`, or why it cannot be one."""
        header, again, extensions = _header(path), not options.exact, native.extensions()
        if obstacle := unfit_head(main.header, header, "load"):
            return obstacle
        functions = native.layer_inputs(self._library)
        if header.reader and functions is None:
            return NO_HEADS_HERE
        with ExitStack() as undo:
            model = self._open(path, options, progress)
            undo.callback(self._library.llama_model_free, model)
            theirs = LlamaVocabulary(self._library, model).words()
            if obstacle := vocabularies(main.vocabulary.words(), theirs, "load"):
                return obstacle
            head: LlamaHead
            if header.facts.head == "assistant":  # its cells are the main model's, so their form is the same
                params = self._params(main.header, replace(options, role="main"), params.n_threads)
                head = open_assistant(self._library, extensions, main, params, model, header)
            elif header.reader:
                head = open_eagle(
                    self._library, extensions, functions, main, params, model, header, again=again
                )
            else:
                head = open_head(self._library, extensions, main, params, model, header, again=again)
            undo.pop_all()
            return head

    def mismatch(self, main: LoadedModel, draft: LoadedModel) -> Obstacle | None:
        """Return why `draft` cannot draft for `main`; None if it can."""
        if not isinstance(main, LlamaModel) or not isinstance(draft, LlamaModel):
            return OTHER_LIBRARY
        return vocabularies(main.vocabulary.words(), draft.vocabulary.words(), "load")

    def _open(self, path: str, options: Options, progress: Progress, *, dry: bool = False) -> int:
        """Return the native model. An exception of `progress` ends the load and is raised here.

        A dry model has no weights, and its contexts reserve nothing.
        """
        failure: list[BaseException] = []
        rejected: list[bool] = []

        def report(fraction: float, _data: object) -> bool:
            try:
                going_on = progress(fraction)
            except BaseException as error:  # must not unwind through C frames
                failure.append(error)
                return False
            if not going_on:
                rejected.append(True)
            return going_on

        params = self._library.llama_model_default_params()
        params.n_gpu_layers, params.load_mtp = options.gpu_layers, options.head
        kept = options.spread and spread_over(params, self._library, options.spread, options.gpu_layers)
        if dry:
            params.no_alloc, params.load_mode = True, self._library.LLAMA_LOAD_MODE_NONE
        params.progress_callback = callback = self._library.llama_progress_callback(report)
        model = self._library.llama_model_load_from_file(os.fsencode(path), params)
        del callback, kept  # they must live until here
        if failure:
            raise failure[0]
        if model:
            return int(model)
        if rejected:
            raise GivenUp("the load was given up")
        raise ModelError(self._reason("the model cannot be loaded"), "Choose another model file.")

    def _check_kind(self, model: int) -> None:
        """Reject models that do not continue a text token by token."""
        library = self._library
        if library.llama_model_has_encoder(model) or not library.llama_model_has_decoder(model):
            raise ModelError("not a chat model: it has an encoder", "Choose a decoder-only model.")
        if library.llama_model_is_diffusion(model):
            raise ModelError("not a chat model: it is a diffusion model", "Choose a decoder-only model.")

    def _affordable(self, path: str, header: Header, options: Options) -> list[dict[str, int]]:
        """Return the first layout of the cache that fits into memory; an empty list if memory is no concern.

        Linux hands out memory that it does not have, and kills the process when the memory is used. Raises
        `ModelError` if no layout fits.
        """
        if options.spread:  # its memories were planned
            return []
        params, memory = self._params(header, options, threads=1), native.memory_bytes()
        needed = params.n_ctx * header.cache_bytes * (17 if params.type_k == _Q8_0 else 32) // 32
        if needed <= memory or self.gpus():
            return []
        with ExitStack() as undo:
            model = self._open(path, options, lambda fraction: True, dry=True)
            undo.callback(self._library.llama_model_free, model)
            plan, taken = self._within(memory, model, header, options)
        if plan is not None:
            return [plan]
        reason = f"the context needs {_size(taken.cache if taken else needed)}"
        raise ModelError(f"{reason}, and this machine has {_size(memory)}", _shorter(params))

    def _within(
        self, room: int, model: int, header: Header, options: Options
    ) -> tuple[dict[str, int] | None, Reserved | None]:
        """Return the first layout of the cache that takes at most `room` bytes, and its bytes.

        `model` is dry. If none fits, return the bytes of the last layout that the library accepts.
        """
        taken = None
        cells = self._params(header, options, threads=1).n_ctx
        if cells * _CELL > native.memory_bytes() // 16:  # even a dry context allocates its cells
            return None, None
        for plan in self._plans(model, header, options):
            self.log.clear()
            context = self._first_that_fits(model, self._params(header, options, threads=1), [plan])
            if not context:
                continue
            if options.head:
                own = self._params(header, replace(options, role="draft"), threads=1)
                if head := new_context(self._library, model, context, own):
                    self._library.llama_free(head)
            taken = reserved(self.log.lines)
            self._library.llama_free(context)
            if taken.cache <= room:
                return plan, taken
        return None, taken

    def _by_head(self, model: int, header: Header, options: Options) -> Reserved | None:
        """Return the bytes of a head in a file of its own; None if the library rejects it. `model` is dry."""
        self.log.clear()
        context = new_context(self._library, model, 0, self._params(header, options, threads=1))
        if not context:
            return None
        self._library.llama_free(context)
        return reserved(self.log.lines)

    def _new_context(self, model: int, params: Any, plans: Iterable[dict[str, int]]) -> int:
        """Return the best context that fits. `params` are then its parameters."""
        hint = _shorter(params)
        if context := self._first_that_fits(model, params, plans):
            return context
        if params.type_k == _Q8_0:
            hint = f"Load with a KV cache of 16 bits. {hint}"
        raise ModelError(self._reason("there is not enough memory for the context"), hint)

    def _params(self, header: Header, options: Options, threads: int) -> Any:
        params = self._library.llama_context_default_params()
        # For another length, the library makes a longer cache, but calls get only as many rows as were asked
        # for. In a short context, that is less than a round needs.
        params.n_ctx = -(-options.tokens(header.facts.context_length) // CELLS) * CELLS
        params.n_batch = params.n_ubatch = BATCH
        params.n_threads = params.n_threads_batch = threads
        params.no_perf = True
        if options.role == "main" and options.cache_type == "q8_0":
            params.type_k = params.type_v = _Q8_0
            params.flash_attn_type = self._library.LLAMA_FLASH_ATTN_TYPE_ENABLED  # V in 8 bits needs it
        return params

    def _plans(self, model: int, header: Header, options: Options) -> Iterator[dict[str, int]]:
        """Yield layouts of the cache, the best first."""
        outputs = PICKS[options.role]  # 0 would reserve room for the logits of a whole batch
        if not is_recurrent(self._library, model):
            # A window with all cells can be rewound anywhere. Without them, a prompt that changed in the
            # middle is read again from its start.
            yield {"n_outputs_max": outputs, "swa_full": True}
            if self._library.llama_model_n_swa(model):
                yield {"n_outputs_max": outputs, "swa_full": False}
            return
        most = HEAD_COPIES if options.head else COPIES
        copies = affordable_copies(self._library, model, header, most) if options.role == "main" else 0
        if copies:
            yield {"n_outputs_max": outputs, "n_rs_seq": copies}
        # The library reserves an output for each sequence, even without tokens.
        yield {"n_outputs_max": max(2, outputs), "n_rs_seq": 0, "n_seq_max": 2, "kv_unified": True}

    def _first_that_fits(self, model: int, params: Any, plans: Iterable[dict[str, int]]) -> int:
        """Return the first context that can be made by a plan; 0 if none can."""
        library = self._library
        for plan in plans:
            for name, value in plan.items():
                setattr(params, name, value)
            context = library.llama_init_from_model(model, params)
            # Copies that an architecture does not support are left out without an error.
            if (
                context
                and library.llama_get_memory(context)
                and (library.llama_n_rs_seq(context) == params.n_rs_seq)
            ):
                return int(context)
            if context:
                library.llama_free(context)
        return 0

    def _default_threads(self, header: Header) -> int:
        return 1 if header.facts.size < _SMALL else native.physical_cores()

    def _reason(self, otherwise: str) -> str:
        return self.log.reason() or otherwise


def _shorter(params: Any) -> str:
    return f"Load with a context shorter than {params.n_ctx}, or a smaller model."


def _size(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MiB"


def _has_head(header: Header) -> bool:
    """Return whether the file holds a head, and the library has the functions that it needs."""
    return header.facts.head == "mtp" and native.extensions() is not None


def _header(path: str) -> Header:
    try:
        return read_header(path)
    except BadModelFile as error:
        raise ModelError(f"{error} ({path})", error.hint) from None
