"""The backends: the libraries that run models, each behind the same small protocols.

A backend opens a model file and returns a model for speculation, with the vocabulary that turns its tokens
into text. Arrays, native handles and library types stay inside the backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from ...choices import HEAD
from ...errors import OutriderError
from ...protocol import CacheType, Load, ModelFacts, Obstacle, PromptForm
from ..library.forms import form_of
from ..speculation.loop import Pick
from ..speculation.sampling import Constraint, Sampler


class ModelError(OutriderError):
    """A model cannot be opened or run."""


class GivenUp(OutriderError):
    """The load, or the answer, is no longer wanted."""


LONGEST_DEFAULT_CONTEXT = 8192
"""Largest context length in tokens if nobody sets one."""

Role = Literal["main", "draft"]

Rewinds = Literal["anywhere", "round"]
"""The lengths to which a cache can be cut back without computing it again: "anywhere", or "round", which is
back to the length after the last rewind. The tokens of a round can be rejected in both kinds. Further back
the second kind needs a checkpoint."""


@dataclass(frozen=True)
class Spread:
    """The layers of a main model on several machines. The output layer is always here."""

    devices: tuple[int, ...]
    """The workers' devices, by the library's pointers in this process."""
    layers: tuple[int, ...]
    """Layers of each device."""
    here: int
    """Layers on this machine, the output layer included."""
    name: str
    """The workers, their layers and round trips: "gpu2 (12 layers, 0.4 ms)"."""
    last_here: bool = False
    """Whether the last layers must be here, because a head is among them or reads them."""


class Ring(Protocol):
    """The machines that share an MLX model, as one of them sees them."""

    name: str
    """The other machines, to show: "gpu2 (12 layers, 0.4 ms)"."""

    @property
    def own(self) -> range:
        """The layers of this machine."""
        ...

    @property
    def lines(self) -> object:
        """The lines of this machine, in the form of the backend."""
        ...

    def begin(self, options: Options) -> None:
        """Let the other machines read their weights."""
        ...

    def ready(self, wanted: Callable[[], bool]) -> None:
        """Wait until all machines have their weights. Raises `GivenUp` and `ModelError`."""
        ...

    def give_up(self) -> None:
        """Tell the other machines that this one does not load its layers."""
        ...


@dataclass(frozen=True)
class Options:
    """The options for opening a model."""

    role: Role
    context_length: int
    """Wanted size of the KV cache in tokens; 0 takes the model's own, at most 8192."""
    gpu_layers: int = -1
    threads: int = 0
    cache_type: CacheType = "f16"
    head: bool = False
    """Open a main model together with the head in its file, if there is one; see `Backend.load_head`."""
    exact: bool = False
    """Whether exact mode is wanted: no token may run again in another call."""
    spread: Spread | None = None
    """The workers that share a GGUF main model; None if it stays on this machine."""
    ring: Ring | None = None
    """The machines that share an MLX main model; None if it stays on this machine."""

    @classmethod
    def of(cls, load: Load, role: Role) -> Options:
        """Return the options of `load` for this role. A draft goes to the GPU as a whole, or not at all."""
        layers = load.gpu_layers if role == "main" or not load.gpu_layers else -1
        head = role == "main" and load.draft == HEAD
        return cls(
            role, load.context_length, layers, load.threads, load.cache_type, head=head, exact=load.exact
        )

    def tokens(self, trained: int) -> int:
        """Return the context length of a model trained for `trained` tokens (0 if its file does not say)."""
        return self.context_length or min(trained or LONGEST_DEFAULT_CONTEXT, LONGEST_DEFAULT_CONTEXT)


Progress = Callable[[float], bool]
"""Receives the read share of a file, from 0 to 1, and then 1 to 2 while the model is prepared. Returns False
to give up."""
Wanted = Callable[[float], bool]
"""Receives the number of tokens that a call has computed since it asked last, perhaps a part of one. Returns
whether the result of the call is still wanted."""


class Vocabulary(Protocol):
    """Turns tokens into text and back."""

    size: int
    """Number of scores in a row; every token is below it."""
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
        """Return the tokens of `text`. Control tokens are recognized; no BOS is added.

        A vocabulary that is `Interruptible` asks while it encodes a long text, and may raise `GivenUp`.
        """
        ...

    def encode_start(self) -> list[int]:
        """Return the tokens at the beginning of every prompt: [BOS] or none."""
        ...

    def piece(self, token: int) -> bytes:
        """Return the bytes of a token, or the name of a control token. Raises IndexError for no token."""
        ...


class LoadedModel(Protocol):
    """A `speculation.Model` with its vocabulary and its facts."""

    @property
    def vocabulary(self) -> Vocabulary: ...

    facts: ModelFacts
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

    @property
    def constraint(self) -> Callable[[str], Constraint]:
        """Makes a grammar of `grammars` a constraint for one answer. Raises `ModelError`."""
        ...

    def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]: ...

    def rewind(self, length: int) -> None:
        """Cut the cache back to its first `length` tokens.

        The next call runs those again that the cache could not keep.
        """
        ...

    def reach(self, length: int) -> int:
        """Return how many tokens the cache still holds after `rewind(length)`; the rest would run again."""
        ...

    def checkpoint(self, length: int) -> None:
        """Copy the cache as soon as it holds `length` tokens, so that `rewind` can come back there.

        A model whose cache can be cut anywhere copies nothing. A later wish replaces an earlier one, and 0
        withdraws it.
        """
        ...

    def close(self) -> None: ...


class Asker:
    """Asks for a model whether the result of its present call is still wanted."""

    def __init__(self) -> None:
        self.wanted: Wanted = lambda tokens: True
        self._told = 0.0
        """Tokens of the present call that `wanted` knows of."""

    def begin(self) -> None:
        """Begin a call. Raises `GivenUp`."""
        self._told = 0.0
        self.ask(0.0)

    def ask(self, tokens: float) -> None:
        """Tell that the call has computed so many more tokens. Raises `GivenUp`."""
        self._told += tokens
        if not self.wanted(tokens):
            raise GivenUp("the work was given up")

    def end(self, tokens: int) -> None:
        """End a call of `tokens` tokens, whose result exists and is kept."""
        self.wanted(max(0.0, tokens - self._told))


@runtime_checkable
class Interruptible(Protocol):
    """A model that asks before a call, and during one that takes long, whether its result is still wanted.

    If not, it raises `GivenUp`. The cache then holds the tokens that it held before the call, or some more of
    those that the call was to run. A vocabulary may ask too, while it encodes a long text.
    """

    asker: Asker


@contextmanager
def asking(models: Iterable[object], wanted: Wanted) -> Iterator[None]:
    """Let the models, or vocabularies, ask `wanted` during their calls, as far as they can ask."""
    askers = [each.asker for each in models if isinstance(each, Interruptible)]
    before = [each.wanted for each in askers]
    for each in askers:
        each.wanted = wanted
    try:
        yield
    finally:
        for each, wanted in zip(askers, before, strict=True):
            each.wanted = wanted


@runtime_checkable
class Doubling(Protocol):
    """A model that can run a single row beside a copy of it: kernels for several rows then compute it."""

    def double_single_rows(self, length: int) -> None:
        """Run single rows beside a copy from `length` cached tokens on. The capacity may shrink by one."""
        ...


@runtime_checkable
class RestoresEarly(Protocol):
    """A model that puts a checkpoint back in the same way at any time, also where a cut would do.

    So a check of its checkpoints need not read until a window is full.
    """

    def put_back(self, length: int) -> None:
        """Restore the checkpoint at `length` tokens; there must be one."""
        ...


@runtime_checkable
class ReadsAlong(Protocol):
    """A draft that reads a prompt together with its main model: a head."""

    def read_along(self, least: int) -> None:
        """Read the tokens that the main model has read, if at least `least` wait."""
        ...


@runtime_checkable
class LimitsDrafts(Protocol):
    """A main model whose cache can take back only so many tokens of a round."""

    longest_draft: int


@dataclass(frozen=True)
class CacheState:
    """The content of a model's cache, outside the model. Another process can put it back."""

    tokens: Sequence[int]
    """The tokens in it, in order."""
    cells: bytes | bytearray | memoryview
    """The cache itself, in the form of its library."""
    copies: tuple[tuple[int, bytes | bytearray | memoryview], ...] = ()
    """The checkpoints: the number of tokens of each, and the copy in the form of its library."""
    cut_from: int = 0
    """The shortest length to which the cache can be cut without a checkpoint, once it is put back."""


@runtime_checkable
class Portable(Protocol):
    """A model whose cache can be taken out as bytes, and put back into a model of the same file."""

    def take_state(self, most: int) -> CacheState | None:
        """Return the present content of the cache, which stays as it is.

        None for an empty cache, and if the library fails. Raises `MemoryError` for more than `most` bytes.
        """
        ...

    def put_state(self, state: CacheState) -> bool:
        """Replace the content of the cache. Returns False if that is impossible; the cache is then empty."""
        ...


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the number of tokens with which both texts begin."""
    most = min(len(one), len(other))
    if [*one[:most]] == [*other[:most]]:
        return most
    return next(at for at in range(most) if one[at] != other[at])


def check_call(model: LoadedModel, tokens: Sequence[int], picks: int, most: int) -> None:
    """Check that `model.extend(tokens, picks)` is possible, with at most `most` picks in one call.

    Raises `ModelError` for an unknown token and for a full cache, `ValueError` for an invalid number of
    picks.
    """
    if not 0 <= picks <= min(len(tokens), most):
        raise ValueError(f"{picks} picks in {len(tokens)} tokens")
    if tokens and not (min(tokens) >= 0 and max(tokens) < model.vocabulary.size):
        raise ModelError(f"a token is not among the {model.vocabulary.size} of {model.facts.name}")
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

    def load(self, path: str, options: Options, progress: Progress) -> LoadedModel:
        """Open a model. Raises `ModelError`, and `GivenUp` if `progress` returns False."""
        ...

    def load_head(
        self, main: LoadedModel, options: Options, path: str = "", progress: Progress = lambda share: True
    ) -> LoadedModel | Obstacle:
        """Return the head of `main`, which was opened with `options.head`, as a draft model for it.

        With `path`, it is the head in that file. `progress` is that of `load`. If there is none that can run,
        return the reason. Close it before `main`. Raises `ModelError`.
        """
        ...

    def mismatch(self, main: LoadedModel, draft: LoadedModel) -> Obstacle | None:
        """Return the reason why `draft` cannot draft for `main`; None if it can."""
        ...


def prompt_form(vocabulary: Vocabulary) -> PromptForm:
    """Return the form in which a model with this vocabulary takes a conversation."""
    return form_of(vocabulary.chat_template, lambda mark: len(vocabulary.encode(mark)) == 1)
