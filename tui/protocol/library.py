"""Questions about the models on the engine's machine and on the hub, and the replies.

A question has an `id` below zero, so that it never equals the id of an answer. Every reply has the same id.
The docstring of a question names its last reply, which may be a `Failed` instead. `Cancel` ends a question
early. Several questions run at once, beside loads and answers. Names and reasons quote files: clean them
before you show them.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ..choices import HEAD, DraftChoice
from .generation import Load, ModelFacts, WorkerHost, WorkerState
from .terms import Finite, HeadKind, Rounding, Signed, Tagged, Unsigned

Judgement = Literal["recommended", "possible", "no"]
"""Whether a model can draft for another: it should, it can, it cannot."""

FLUENT = 8.0
"""Tokens per second: a pair with a lower `HubPair.at_most` is slow. People read about five tokens a second,
and a core that decodes Q4_K_M reads memory 0.6 times as fast as one that only reads (measured on two EPYC
cores)."""


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


# The models on the hub


class SearchHub(Tagged, frozen=True):
    """Search the Hugging Face hub for models that run here. Ends with `HubFound`."""

    id: Signed
    words: str
    """The words to search for; empty for the most downloaded models."""


class HubRepository(Struct, frozen=True):
    """A repository of models on the hub."""

    name: str
    """OWNER/MODEL."""
    downloads: Unsigned
    likes: Unsigned
    gated: bool
    """Whether its owners ask for consent before a download."""
    format: str
    """"GGUF" or "MLX"."""


class HubFound(Tagged, frozen=True):
    """The reply to `SearchHub`, the most downloaded first."""

    id: Signed
    repositories: tuple[HubRepository, ...]


class ListHub(Tagged, frozen=True):
    """List the models of a repository that can be downloaded. Ends with `HubListed`."""

    id: Signed
    repository: str


class HubFile(Struct, frozen=True):
    """A model to download: a GGUF file, one in several parts, or an MLX folder."""

    name: str
    """The name of the file, or of its first part; empty for a folder."""
    size: Unsigned
    parts: Unsigned
    backend: Literal["llama.cpp", "mlx"]
    quantization: str
    head: HeadKind = ""
    """The head that it seems to be, by its name: it would draft for a model beside it. Empty for a model."""


class HubListed(Tagged, frozen=True):
    """The reply to `ListHub`: the models, the smallest first, and then the heads beside them."""

    id: Signed
    repository: str
    files: tuple[HubFile, ...]
    license: str
    memory: Unsigned
    """Most bytes that the weights of a model can take on this machine."""
    note: str = ""
    """A remark about files that nothing here opens; empty for none."""


class Download(Tagged, frozen=True):
    """Download a model, or resume. `Cancel` pauses it and keeps the first part. Ends with `Downloaded`."""

    id: Signed
    repository: str
    file: str
    """`HubFile.name`, or a part of it that only one file has: "Q4_K_M"."""


class Downloading(Tagged, frozen=True):
    """The progress of a download in bytes; also sent before the files of the repository are known."""

    id: Signed
    file: str
    done: Unsigned
    total: Unsigned
    reason: str = ""
    """The reason for a pause: "the hub asks to wait 40 s: too many requests". Empty while bytes arrive."""


class Downloaded(Tagged, frozen=True):
    """The download is complete."""

    id: Signed
    path: str
    """The same as `FoundModel.path`."""
    size: Unsigned
    head: str = ""
    """The name of a head beside it that seems to draft for it; empty if there is none."""


class ProposePairs(Tagged, frozen=True):
    """Propose known good pairs of the hub that fit this machine. Pairs that are fast enough come first, the
    largest of them first; then slow pairs, the fastest of them first. Ends with `PairsProposed`."""

    id: Signed


class HubPair(Struct, frozen=True):
    """A known good pair on the hub."""

    name: str
    """The short name of its main model: "Qwen2.5 7B Q4_K_M"."""
    main: str
    """REPOSITORY:FILE, as in `outrider pull`."""
    draft: str
    """The draft, in the same form; `HEAD` if it is a head in the file of the main model."""
    size: Unsigned
    """Bytes of both together, approximately."""
    at_most: Finite | None = None
    """Most tokens per second, without drafts, that the speed of the machine's memory allows; None if a GPU
    has room for the pair or the speed is unknown."""
    head: bool = False
    """Whether the draft is a head: in the file of the main model, or in a file of its own."""

    @property
    def slow(self) -> bool:
        return self.at_most is not None and self.at_most < FLUENT

    @property
    def downloads(self) -> tuple[str, ...]:
        """The models to download, as REPOSITORY:FILE: the main model, and then the draft if it has a file."""
        return (self.main,) if self.draft == HEAD else (self.main, self.draft)


class PairsProposed(Tagged, frozen=True):
    """The reply to `ProposePairs`."""

    id: Signed
    pairs: tuple[HubPair, ...]
