"""Questions about the models on the Hugging Face hub, and the replies; the rules of `library.py` hold too."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ..choices import HEAD
from .terms import Finite, HeadKind, Signed, Tagged, Unsigned

FLUENT = 8.0
"""Tokens per second: a pair with a lower `HubPair.at_most` is slow. People read about five tokens a second,
and a core that decodes Q4_K_M reads memory 0.6 times as fast as one that only reads (measured on two EPYC
cores)."""


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


class LookInside(Tagged, frozen=True):
    """Read the header of a GGUF file on the hub: has it a head? Ends with `HubInside`."""

    id: Signed
    repository: str
    file: str
    """`HubFile.name`."""


class HubInside(Tagged, frozen=True):
    """The reply to `LookInside`."""

    id: Signed
    head: bool
    """Whether the model's own file has an MTP head that can draft for it, by its tensors."""


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
    inside: bool = False
    """Whether its own file has a head that drafts for it."""


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
