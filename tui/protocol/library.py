"""The models on the engine's machine: questions and answers.

A question carries an `id` below zero, so that it never meets an answer of a model. Every event of it carries
that id; the last one says so, or is a `Failed`; `Cancel` ends it early. Questions are answered beside loads
and answers, several at once. Names and reasons quote files: clean them before showing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .chat import Load, Rounding
from .terms import PromptForm, Signed

Judgement = Literal["recommended", "possible", "no"]
"""May a model draft for another: it should, it can, it cannot."""

FLUENT = 8.0
"""Of `HubPair.at_most`: below it a pair is slow. People read about five tokens a second, and a core that
decodes Q4_K_M reads 0.6 times as fast as one that only reads (measured on two EPYC cores)."""


# What is on the machine


@dataclass(frozen=True)
class FoundModel:
    """A model as its file or folder describes it, before anything of it is loaded."""

    path: str
    """What `Load` takes: a GGUF file (the first, of several) or an MLX folder."""
    name: str
    """Short, and no other model's: "Qwen2.5-Coder 1.5B Q4_K_M"."""
    source: str
    """Where it was found: "LM Studio", "Hugging Face", "Ollama", "llama.cpp", "folder", "built in"."""
    backend: Literal["llama.cpp", "mlx"]
    architecture: str
    parameters: int
    quantisation: str
    size: int
    """Bytes on disk."""
    context_length: int
    """Tokens that it was trained on; 0 if it does not say."""
    vocabulary: int
    """Number of tokens."""
    tokenizer: str
    """Kind of vocabulary: "gpt2" (byte-level BPE), "llama" (SentencePiece), ..."""
    fingerprint: str
    """Equal for two models whose tokens have the same texts and the same special ids."""
    prompt_form: PromptForm
    traits: tuple[str, ...] = ()
    """What a draft meets in it: "recurrent", "sliding window", "MTP heads", "mixture of experts"."""
    licence: str = ""
    demo: bool = False
    tag: str = ""
    """What Ollama calls it: "smollm2:135m"."""


@dataclass(frozen=True)
class Skipped:
    """Something that looked like a model and is not in the list."""

    path: str
    reason: str


@dataclass(frozen=True)
class ListModels:
    """Find the models in the places that other programs use, and in `folders`. Ends with `ModelsListed`."""

    id: Signed
    folders: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelsFound:
    """Some more of the list, in no order."""

    id: Signed
    models: tuple[FoundModel, ...]


@dataclass(frozen=True)
class ModelsListed:
    id: Signed
    skipped: tuple[Skipped, ...]
    seconds: float


@dataclass(frozen=True)
class DescribeModel:
    """What the main model of `load` says of itself. Ends with `ModelDescribed`."""

    id: Signed
    load: Load


@dataclass(frozen=True)
class ModelDescribed:
    id: Signed
    model: FoundModel
    rounding: Rounding | None = None
    """As it was measured when the model was loaded last; None if it never was."""


# Which draft goes with it


@dataclass(frozen=True)
class JudgeDrafts:
    """What every other model on the machine is worth as a draft for `load.main`. Ends with `DraftsJudged`."""

    id: Signed
    load: Load
    """As it would be sent; its draft is not looked at."""


@dataclass(frozen=True)
class DraftVerdict:
    draft: str
    """A path; "lookup" is the n-gram lookup alone, "" is no drafting at all."""
    name: str
    judgement: Judgement
    reason: str
    """In words, for every judgement."""
    speed_up: float | None = None
    """Tokens per second beside the main model alone; None is not known."""
    answers: int = 0
    """How many answers on this machine `speed_up` was measured over; 0: it is predicted."""


@dataclass(frozen=True)
class DraftsJudged:
    """Best first. Never empty: "lookup" and "" are always in it."""

    id: Signed
    verdicts: tuple[DraftVerdict, ...]


# Whether it fits


@dataclass(frozen=True)
class PlanMemory:
    """What a pair would take of each memory. Nothing is loaded. Ends with `MemoryPlanned`."""

    id: Signed
    load: Load
    loaded: Load | None = None
    """What is loaded now and would make room for it."""


@dataclass(frozen=True)
class MemoryUse:
    """What a pair takes of one memory. All in bytes."""

    name: str
    """The GPU's, or "memory" for the machine's own."""
    free: int
    """Once what is loaded now is gone."""
    total: int
    main: int
    """Weights of the main model."""
    draft: int
    cache: int
    """The KV caches of both."""
    buffers: int
    """What computing needs beside them."""

    @property
    def needed(self) -> int:
        return self.main + self.draft + self.cache + self.buffers


@dataclass(frozen=True)
class MemoryPlanned:
    id: Signed
    load: Load
    """What fits: as it was asked for, but perhaps with a shorter context, a cache of 8 bits or fewer layers
    on the GPU; as it was asked for where nothing does."""
    context_length: int
    """Tokens that `load` comes to: never 0."""
    fits: bool
    uses: tuple[MemoryUse, ...]
    """Of `load`: the GPU first."""


# What the hub has


@dataclass(frozen=True)
class SearchHub:
    """Models on the Hugging Face hub that run here. Ends with `HubFound`."""

    id: Signed
    words: str
    """Empty for those that are fetched most."""


@dataclass(frozen=True)
class HubRepository:
    name: str
    """OWNER/MODEL."""
    downloads: int
    likes: int
    gated: bool
    """Whether its makers ask for consent before anything can be fetched."""
    format: str
    """"GGUF" or "MLX"."""


@dataclass(frozen=True)
class HubFound:
    """The most fetched first."""

    id: Signed
    repositories: tuple[HubRepository, ...]


@dataclass(frozen=True)
class ListHub:
    """What of a repository can be fetched. Ends with `HubListed`."""

    id: Signed
    repository: str


@dataclass(frozen=True)
class HubFile:
    """A model to fetch: a GGUF file, one in several parts, or a folder for MLX."""

    name: str
    """Of the file, the first of several; empty for the folder."""
    size: int
    parts: int
    backend: Literal["llama.cpp", "mlx"]
    quantisation: str


@dataclass(frozen=True)
class HubListed:
    """The smallest first."""

    id: Signed
    repository: str
    files: tuple[HubFile, ...]
    licence: str
    memory: int
    """Bytes that the weights of a model may take here at most."""
    note: str = ""
    """What there is to know of files that nothing here opens."""


@dataclass(frozen=True)
class Download:
    """Fetch a model, or go on with it. `Cancel` pauses it: what has come stays. Ends with `Downloaded`."""

    id: Signed
    repository: str
    file: str
    """As `HubFile.name`, or what of it makes clear which is meant: "Q4_K_M"."""


@dataclass(frozen=True)
class Downloading:
    """How far a download is, before the repository's files are known too."""

    id: Signed
    file: str
    done: int
    total: int
    reason: str = ""
    """Why nothing comes now: "the hub asks to wait 40 s: too many requests". Empty while bytes come."""


@dataclass(frozen=True)
class Downloaded:
    id: Signed
    path: str
    """As `FoundModel.path`."""
    size: int


@dataclass(frozen=True)
class ProposePairs:
    """Known good pairs on the hub that fit this machine: first those that are not slow here, the largest
    first, then the others, the fastest first. Ends with `PairsProposed`."""

    id: Signed


@dataclass(frozen=True)
class HubPair:
    name: str
    """The short name of its main model: "Qwen2.5 7B Q4_K_M"."""
    main: str
    """REPOSITORY:FILE, as `outrider pull` takes it."""
    draft: str
    size: int
    """Bytes of both, about."""
    at_most: float | None = None
    """Tokens a second, without drafts, that the speed of the machine's memory allows; None where a GPU has
    room for the pair, or where nobody knows."""

    @property
    def slow(self) -> bool:
        return self.at_most is not None and self.at_most < FLUENT


@dataclass(frozen=True)
class PairsProposed:
    id: Signed
    pairs: tuple[HubPair, ...]
