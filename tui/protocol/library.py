"""Questions about the models on the engine's machine and on the hub, and the replies.

A question has an `id` below zero, so that it never equals the id of an answer. Every reply has the same id.
The docstring of a question names its last reply, which may be a `Failed` instead. `Cancel` ends a question
early. Several questions run at once, beside loads and answers. Names and reasons quote files: clean them
before you show them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .chat import Load, Rounding
from .terms import PromptForm, Signed

Judgement = Literal["recommended", "possible", "no"]
"""Whether a model can draft for another: it should, it can, it cannot."""

FLUENT = 8.0
"""Tokens per second: a pair with a lower `HubPair.at_most` is slow. People read about five tokens a second,
and a core that decodes Q4_K_M reads memory 0.6 times as fast as one that only reads (measured on two EPYC
cores)."""


# The models on the machine


@dataclass(frozen=True)
class FoundModel:
    """A model as its file or folder describes it, before it is loaded."""

    path: str
    """The path for `Load`: a GGUF file (the first, if there are several) or an MLX folder."""
    name: str
    """A short name that no other model has: "Qwen2.5-Coder 1.5B Q4_K_M"."""
    source: str
    """The program or folder: "LM Studio", "Hugging Face", "Ollama", "llama.cpp", "folder", "built in"."""
    backend: Literal["llama.cpp", "mlx"]
    architecture: str
    parameters: int
    quantisation: str
    size: int
    """Bytes on disk."""
    context_length: int
    """Length in tokens that the model was trained for; 0 if the file does not say."""
    vocabulary: int
    """Number of tokens in the vocabulary."""
    tokenizer: str
    """The kind of vocabulary: "gpt2" (byte-level BPE), "llama" (SentencePiece), ..."""
    fingerprint: str
    """Equal for two models whose tokens have the same texts and the same special ids."""
    prompt_form: PromptForm
    traits: tuple[str, ...] = ()
    """Traits that matter for drafting: "recurrent", "sliding window", "MTP heads", "mixture of experts"."""
    licence: str = ""
    demo: bool = False
    tag: str = ""
    """Its name in Ollama: "smollm2:135m"."""


@dataclass(frozen=True)
class Skipped:
    """A file or folder that looked like a model and is not in the list."""

    path: str
    reason: str


@dataclass(frozen=True)
class ListModels:
    """Find the models in the folders of other programs and in `folders`. Ends with `ModelsListed`."""

    id: Signed
    folders: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelsFound:
    """More models of the list, in no order."""

    id: Signed
    models: tuple[FoundModel, ...]


@dataclass(frozen=True)
class ModelsListed:
    """The list is complete."""

    id: Signed
    skipped: tuple[Skipped, ...]
    seconds: float


@dataclass(frozen=True)
class DescribeModel:
    """Describe the main model of `load`. Ends with `ModelDescribed`."""

    id: Signed
    load: Load


@dataclass(frozen=True)
class ModelDescribed:
    """The reply to `DescribeModel`."""

    id: Signed
    model: FoundModel
    rounding: Rounding | None = None
    """The rounding measured at the last load of the model; None if there was none."""


# Its possible drafts


@dataclass(frozen=True)
class JudgeDrafts:
    """Judge every other model on the machine as a draft for `load.main`. Ends with `DraftsJudged`."""

    id: Signed
    load: Load
    """The load as it would be sent; its draft is ignored."""


@dataclass(frozen=True)
class DraftVerdict:
    """The judgement of one possible draft."""

    draft: str
    """A path; "lookup" is the lookup alone, "" is no drafting at all."""
    name: str
    judgement: Judgement
    reason: str
    """The reason in words, for every judgement."""
    speed_up: float | None = None
    """Tokens per second, divided by those of the main model alone; None if it is unknown."""
    answers: int = 0
    """Number of answers on this machine that `speed_up` was measured over; 0 means predicted."""


@dataclass(frozen=True)
class DraftsJudged:
    """The reply to `JudgeDrafts`, the best draft first. "lookup" and "" are always in it."""

    id: Signed
    verdicts: tuple[DraftVerdict, ...]


# Whether it fits


@dataclass(frozen=True)
class PlanMemory:
    """Plan how much of each memory a pair would take. Nothing is loaded. Ends with `MemoryPlanned`."""

    id: Signed
    load: Load
    loaded: Load | None = None
    """The pair that is loaded now; it would be unloaded first."""


@dataclass(frozen=True)
class MemoryUse:
    """The share of a pair in one memory. All numbers are bytes."""

    name: str
    """The name of the GPU, or "memory" for the machine's own memory."""
    free: int
    """Free bytes once the loaded pair is gone."""
    total: int
    main: int
    """Weights of the main model."""
    draft: int
    cache: int
    """The KV caches of both."""
    buffers: int
    """Buffers for computing."""

    @property
    def needed(self) -> int:
        return self.main + self.draft + self.cache + self.buffers


@dataclass(frozen=True)
class MemoryPlanned:
    """The reply to `PlanMemory`."""

    id: Signed
    load: Load
    """A load that fits: the requested one, perhaps with a shorter context, a cache of 8 bits or fewer layers
    on the GPU. If nothing fits, the requested one."""
    context_length: int
    """Context length of `load` in tokens; never 0."""
    fits: bool
    uses: tuple[MemoryUse, ...]
    """The memory uses of `load`, the GPU first."""


# The models on the hub


@dataclass(frozen=True)
class SearchHub:
    """Search the Hugging Face hub for models that run here. Ends with `HubFound`."""

    id: Signed
    words: str
    """The words to search for; empty for the most downloaded models."""


@dataclass(frozen=True)
class HubRepository:
    """A repository of models on the hub."""

    name: str
    """OWNER/MODEL."""
    downloads: int
    likes: int
    gated: bool
    """Whether its owners ask for consent before a download."""
    format: str
    """"GGUF" or "MLX"."""


@dataclass(frozen=True)
class HubFound:
    """The reply to `SearchHub`, the most downloaded first."""

    id: Signed
    repositories: tuple[HubRepository, ...]


@dataclass(frozen=True)
class ListHub:
    """List the models of a repository that can be downloaded. Ends with `HubListed`."""

    id: Signed
    repository: str


@dataclass(frozen=True)
class HubFile:
    """A model to download: a GGUF file, one in several parts, or an MLX folder."""

    name: str
    """The name of the file, or of its first part; empty for a folder."""
    size: int
    parts: int
    backend: Literal["llama.cpp", "mlx"]
    quantisation: str


@dataclass(frozen=True)
class HubListed:
    """The reply to `ListHub`, the smallest first."""

    id: Signed
    repository: str
    files: tuple[HubFile, ...]
    licence: str
    memory: int
    """Most bytes that the weights of a model can take on this machine."""
    note: str = ""
    """A remark about files that nothing here opens; empty for none."""


@dataclass(frozen=True)
class Download:
    """Download a model, or resume. `Cancel` pauses it and keeps the first part. Ends with `Downloaded`."""

    id: Signed
    repository: str
    file: str
    """`HubFile.name`, or a part of it that only one file has: "Q4_K_M"."""


@dataclass(frozen=True)
class Downloading:
    """The progress of a download in bytes; also sent before the files of the repository are known."""

    id: Signed
    file: str
    done: int
    total: int
    reason: str = ""
    """The reason for a pause: "the hub asks to wait 40 s: too many requests". Empty while bytes arrive."""


@dataclass(frozen=True)
class Downloaded:
    """The download is complete."""

    id: Signed
    path: str
    """The same as `FoundModel.path`."""
    size: int


@dataclass(frozen=True)
class ProposePairs:
    """Propose known good pairs of the hub that fit this machine. Pairs that are fast enough come first, the
    largest of them first; then slow pairs, the fastest of them first. Ends with `PairsProposed`."""

    id: Signed


@dataclass(frozen=True)
class HubPair:
    """A known good pair on the hub."""

    name: str
    """The short name of its main model: "Qwen2.5 7B Q4_K_M"."""
    main: str
    """REPOSITORY:FILE, as in `outrider pull`."""
    draft: str
    """The draft, in the same form."""
    size: int
    """Bytes of both together, approximately."""
    at_most: float | None = None
    """Most tokens per second, without drafts, that the speed of the machine's memory allows; None if a GPU
    has room for the pair or the speed is unknown."""

    @property
    def slow(self) -> bool:
        return self.at_most is not None and self.at_most < FLUENT


@dataclass(frozen=True)
class PairsProposed:
    """The reply to `ProposePairs`."""

    id: Signed
    pairs: tuple[HubPair, ...]
