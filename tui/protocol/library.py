"""Questions about the models on the engine's machine, and the replies (those about the hub: `hub.py`).

A question has an `id` below zero, so that it never equals the id of an answer. Every reply has the same id.
The docstring of a question names its last reply, which may be a `Failed` instead. `Cancel` ends a question
early. Several questions run at once, beside loads and answers. Names and reasons quote files: clean them
before you show them.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ..choices import DraftChoice
from .generation import Load, ModelFacts, WorkerHost, WorkerState
from .terms import Finite, Rounding, Signed, Tagged, Unsigned

Judgement = Literal["recommended", "possible", "no"]
"""Whether a model can draft for another: it should, it can, it cannot."""


# The models on the machine


class FoundModel(ModelFacts, frozen=True, kw_only=True):
    """A model in the list, before it is loaded."""

    source: str
    """The program or folder: "LM Studio", "Hugging Face", "Ollama", "llama.cpp", "folder", "built in"."""
    backend: Literal["llama.cpp", "mlx"]
    tokenizer: str
    """The kind of vocabulary: "gpt2" (byte-level BPE), "llama" (SentencePiece), ..."""
    fingerprint: str
    """Equal for two models whose tokens have the same texts and the same special ids."""
    traits: tuple[str, ...] = ()
    """Traits that matter for drafting: "recurrent", "sliding window", "MTP heads", "EAGLE-3 head",
    "mixture of experts", and "mostly Q5_0" if most bytes have another type than the file's name says."""
    license: str = ""
    tag: str = ""
    """Its name in Ollama: "smollm2:135m"."""


class Skipped(Struct, frozen=True):
    """A file or folder that looked like a model and is not in the list."""

    path: str
    reason: str


class ListModels(Tagged, frozen=True):
    """Find the models in the folders of other programs and in `folders`. Ends with `ModelsListed`."""

    id: Signed
    folders: tuple[str, ...] = ()


class ModelsFound(Tagged, frozen=True):
    """More models of the list, in no order."""

    id: Signed
    models: tuple[FoundModel, ...]


class ModelsListed(Tagged, frozen=True):
    """The list is complete."""

    id: Signed
    skipped: tuple[Skipped, ...]
    seconds: Finite


class DescribeModel(Tagged, frozen=True):
    """Describe the main model of `load`. Ends with `ModelDescribed`."""

    id: Signed
    load: Load


class ModelDescribed(Tagged, frozen=True):
    """The reply to `DescribeModel`."""

    id: Signed
    model: FoundModel
    rounding: Rounding | None = None
    """The rounding measured at the last load of the model; None if there was none."""


# Its possible drafts


class JudgeDrafts(Tagged, frozen=True):
    """Judge every other model on the machine as a draft for `load.main`. Ends with `DraftsJudged`."""

    id: Signed
    load: Load
    """The load as it would be sent; its draft is ignored."""


class DraftVerdict(Struct, frozen=True):
    """The judgement of one possible draft."""

    draft: DraftChoice
    """A path, `HEAD`, `LOOKUP` or `NONE`."""
    name: str
    judgement: Judgement
    reason: str
    """The reason in words, for every judgement."""
    speed_up: Finite | None = None
    """Tokens per second, divided by those of the main model alone; None if it is unknown."""
    answers: Unsigned = 0
    """Number of answers on this machine that `speed_up` was measured over; 0 means predicted."""


class DraftsJudged(Tagged, frozen=True):
    """The reply to `JudgeDrafts`, the best draft first. `LOOKUP` and `NONE` are always in it."""

    id: Signed
    verdicts: tuple[DraftVerdict, ...]


# Whether it fits


class PlanMemory(Tagged, frozen=True):
    """Plan how much of each memory a pair would take. Nothing is loaded. Ends with `MemoryPlanned`."""

    id: Signed
    load: Load
    loaded: Load | None = None
    """The pair that is loaded now; it would be unloaded first."""


class MemoryUse(Struct, frozen=True):
    """The share of a pair in one memory. All numbers are bytes."""

    name: str
    """The name of the GPU, or "memory" for the machine's own memory."""
    free: Unsigned
    """Free bytes once the loaded pair is gone."""
    total: Unsigned
    main: Unsigned
    """Weights of the main model."""
    draft: Unsigned
    cache: Unsigned
    """The KV caches of both."""
    buffers: Unsigned
    """Buffers for computing."""
    chats: Unsigned = 0
    """Room for the caches of chats that are not in use."""
    layers: Unsigned = 0
    """Layers of the main model on a worker; 0 on the engine's machine."""
    round_trip: Finite | None = None
    """Seconds to a worker and back; None on the engine's machine, or if unknown."""

    @property
    def needed(self) -> int:
        """Bytes that the pair takes. Chats get no more than it leaves."""
        return self.main + self.draft + self.cache + self.buffers


class MemoryPlanned(Tagged, frozen=True):
    """The reply to `PlanMemory`."""

    id: Signed
    load: Load
    """A load that fits: the requested one, perhaps with a shorter context, a cache of 8 bits or fewer layers
    on the GPU. If nothing fits, the requested one."""
    context_length: Unsigned
    """Context length of `load` in tokens; never 0."""
    fits: bool
    uses: tuple[MemoryUse, ...]
    """The memory uses of `load`: the GPU first, then the machine's own memory, then the workers."""
    workers: tuple[WorkerState, ...] = ()
    """In the order of `Load.workers`."""


class SurveyWorkers(Tagged, frozen=True):
    """Start `workers` where they do not run yet, and survey them. Ends with `WorkersSurveyed`."""

    id: Signed
    workers: tuple[WorkerHost, ...]


class SurveyedWorker(Struct, frozen=True):
    """A worker and its devices."""

    name: str
    devices: tuple[str, ...] = ()
    free: Unsigned = 0
    """Free bytes of all its devices."""
    total: Unsigned = 0
    round_trip: Finite | None = None
    """Seconds to the worker and back; None if unknown."""
    fault: str = ""
    """Why it cannot be used, with the remedy; empty if it can."""


class WorkersSurveyed(Tagged, frozen=True):
    """The reply to `SurveyWorkers`, in its order."""

    id: Signed
    workers: tuple[SurveyedWorker, ...]


class Requantize(Tagged, frozen=True):
    """Write a copy of a model in another number format. `Cancel` removes it. Ends with `Requantized`."""

    id: Signed
    load: Load
    """Its main model is the model to copy."""
    format: str
    """As llama.cpp names it: "Q4_0"."""


class Requantizing(Tagged, frozen=True):
    """The progress of a copy in bytes. The total is an estimate."""

    id: Signed
    done: Unsigned
    total: Unsigned


class Requantized(Tagged, frozen=True):
    """The copy is complete, or was there already."""

    id: Signed
    path: str
    """The same as `FoundModel.path`."""
    size: Unsigned


# The saved caches of chats


class CountStates(Tagged, frozen=True):
    """Count the saved caches of chats on the engine's disk. Ends with `StatesCounted`."""

    id: Signed


class StatesCounted(Tagged, frozen=True):
    """The reply to `CountStates`."""

    id: Signed
    files: Unsigned
    size: Unsigned
    """Bytes."""


class ForgetStates(Tagged, frozen=True):
    """Remove the saved cache of `chat` from the engine's disk, or those of all chats if it is empty.

    It waits for a load or an answer that is under way. Ends with `StatesForgotten`.
    """

    id: Signed
    chat: str = ""


class StatesForgotten(Tagged, frozen=True):
    """The reply to `ForgetStates`: the files that were removed."""

    id: Signed
    files: Unsigned
    size: Unsigned
    """Bytes."""
