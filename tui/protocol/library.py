"""The models on the engine's machine, and those that could be fetched to it: questions and answers.

A question carries an `id` below zero, so that it never meets an answer of a model. Every event of it carries
that id; the last one says so, or is a `Failed`; `Cancel` ends it early. Questions are answered beside loads
and answers, several at once. Names, reasons of files and whatever a server says are foreign text: clean them
before showing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .chat import Load

Judgement = Literal["recommended", "possible", "no"]
"""May a model draft for another: it should, it can, it cannot."""


# What is on the machine


@dataclass(frozen=True)
class FoundModel:
    """A model as its file or folder describes it, before anything of it is loaded."""

    path: str
    """What `Load` takes: a GGUF file (the first, of several) or an MLX folder."""
    name: str
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
    chat_template: bool
    traits: tuple[str, ...] = ()
    """What a draft meets in it: "recurrent", "sliding window", "MTP heads", "mixture of experts"."""
    licence: str = ""
    demo: bool = False


@dataclass(frozen=True)
class Skipped:
    """Something that looked like a model and is not in the list."""

    path: str
    reason: str


@dataclass(frozen=True)
class ListModels:
    """Find the models in the places that other programs use, and in `folders`. Ends with `ModelsListed`."""

    id: int
    folders: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelsFound:
    """Some more of the list, in no order."""

    id: int
    models: tuple[FoundModel, ...]


@dataclass(frozen=True)
class ModelsListed:
    id: int
    skipped: tuple[Skipped, ...]
    seconds: float


# Which draft goes with it


@dataclass(frozen=True)
class JudgeDrafts:
    """What every other model on the machine is worth as a draft for `load.main`. Ends with `DraftsJudged`."""

    id: int
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

    id: int
    verdicts: tuple[DraftVerdict, ...]


# Will it fit


@dataclass(frozen=True)
class PlanMemory:
    """What loading it would take, before anything is loaded. Ends with `MemoryPlanned`."""

    id: int
    load: Load


@dataclass(frozen=True)
class MemoryPart:
    """Bytes that one thing takes on one device."""

    what: Literal[
        "main weights", "main cache", "main buffers", "draft weights", "draft cache", "draft buffers"
    ]
    device: int
    """Index into `MemoryPlanned.devices`."""
    size: int


@dataclass(frozen=True)
class DeviceMemory:
    name: str
    total: int
    """Bytes."""
    free: int
    """Bytes that are free now, counting those that the loaded models will give back."""


@dataclass(frozen=True)
class MemoryPlanned:
    id: int
    context_length: int
    """Tokens that it is counted for: what `load` resolves to."""
    devices: tuple[DeviceMemory, ...]
    parts: tuple[MemoryPart, ...]
    fits: bool
    reason: str
    """In one line, with the numbers: why it does not fit; empty if it does."""
    proposal: Load | None = None
    """The same with a context length, layers and cache that fit; None where `load` fits or nothing would."""


# More models: the Hugging Face hub


@dataclass(frozen=True)
class SearchHub:
    """Repositories that match `query`. Ends with `HubSearched`."""

    id: int
    query: str


@dataclass(frozen=True)
class Repository:
    name: str
    """OWNER/NAME."""
    downloads: int
    likes: int
    gated: bool
    """Its owner asks who downloads it."""


@dataclass(frozen=True)
class HubSearched:
    id: int
    repositories: tuple[Repository, ...]


@dataclass(frozen=True)
class ListRepository:
    """What of a repository can be fetched. Ends with `RepositoryListed`."""

    id: int
    repository: str


@dataclass(frozen=True)
class HubModel:
    """One thing to fetch: a GGUF file with all its parts, or an MLX folder."""

    name: str
    """What `Fetch` takes: the file (the first, of several); empty for the whole folder."""
    quantisation: str
    size: int
    """Bytes, of all parts."""
    files: int
    present: bool
    """It is on this machine already."""


@dataclass(frozen=True)
class RepositoryListed:
    id: int
    repository: str
    licence: str
    gated: bool
    models: tuple[HubModel, ...]


@dataclass(frozen=True)
class Fetch:
    """Download a model, going on where an earlier download ended. Ends with `Fetched`; `Cancel` pauses it.

    One download runs at a time; the others wait, and say so with `Fetching`.
    """

    id: int
    repository: str
    name: str
    """As in `HubModel`."""


@dataclass(frozen=True)
class Fetching:
    id: int
    stage: Literal["waiting", "downloading", "verifying"]
    done: int
    """Bytes."""
    total: int
    bytes_per_second: float | None = None
    """Over the last few seconds."""
    seconds_left: float | None = None


@dataclass(frozen=True)
class Fetched:
    id: int
    path: str
    """What `Load` takes."""


@dataclass(frozen=True)
class ProposePairs:
    """Known good pairs that this machine has the memory for. Ends with `PairsProposed`."""

    id: int


@dataclass(frozen=True)
class ProposedPair:
    """A main model and its draft, by repository and file (`HubModel.name`)."""

    main_repository: str
    main_name: str
    draft_repository: str
    draft_name: str
    size: int
    """Bytes to download, of both."""
    memory: int
    """Bytes that they take when loaded, with a context of 8192 tokens."""
    about: str
    """In one line, for whom it is."""


@dataclass(frozen=True)
class PairsProposed:
    """The largest that fits comfortably first; empty if none does."""

    id: int
    pairs: tuple[ProposedPair, ...]
