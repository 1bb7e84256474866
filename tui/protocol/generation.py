"""Commands and events for a pair of models: to load it, to chat with it, and the values that they carry."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ..choices import AUTO, HEAD, LOOKUP, BackendName, CacheType, DraftChoice, DraftLength, Effort, Thinking
from .terms import (
    Finite,
    HeadKind,
    PromptForm,
    Reason,
    Role,
    Rounding,
    Signed,
    Stage,
    Statistics,
    Tagged,
    TextRound,
    Unsigned,
)


class Message(Struct, frozen=True):
    """One turn of a conversation."""

    role: Role
    content: str


class Sampling(Struct, frozen=True):
    """The sampling chain, in the order in which it is applied (temperature last)."""

    temperature: float = 0.8
    """0 is greedy: the most probable token, always."""
    top_k: int = 40
    """Keep the k best tokens; 0 keeps all."""
    top_p: float = 0.95
    """Keep the smallest set whose probability reaches p; 1 keeps all."""
    min_p: float = 0.05
    """Drop tokens below this share of the best one's probability; 0 drops none."""
    repeat_penalty: float = 1.0
    """The score of a token already seen is divided by this; 1 is off."""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    penalty_last_n: int = 64
    """Number of latest tokens that the penalties look at."""
    logit_bias: tuple[tuple[int | str, float | None], ...] = ()
    """(token, value) pairs: the value is added to the score of the token, and None bans it. A token is named
    by its id or by a text that is one token."""


class ModelFacts(Struct, frozen=True):
    """A model as its file or folder describes it. The texts are foreign: clean them before you show them."""

    name: str
    """A short name that no other model has: "Qwen2.5-Coder 1.5B Q4_K_M"."""
    path: str
    """The path for `Load`: a GGUF file (the first, if there are several) or an MLX folder. For the head of a
    main model it is `HEAD`."""
    architecture: str
    parameters: Unsigned
    quantization: str
    """Such as "Q4_K_M", "4 bits" or "BF16"."""
    size: Unsigned
    """Bytes: the weights of a loaded model; in the list of models, all files of it."""
    context_length: Unsigned
    """Length in tokens that the model was trained for; 0 if the file does not say."""
    vocabulary: Unsigned
    """Number of tokens in the vocabulary."""
    demo: bool = False
    """True for the built-in starter pair."""
    prompt_form: PromptForm = "template"
    head: HeadKind = ""
    """The head in its file that can draft; empty for none."""
    only_head: bool = False
    """Whether the file holds nothing but this head: it drafts for its main model, which is another file."""

    @property
    def is_head(self) -> bool:
        """Whether it is a head, in the main model's file or in one of its own."""
        return self.only_head or self.path == HEAD


class Obstacle(Struct, frozen=True):
    """A reason not to draft."""

    stage: Stage
    text: str
    """The reason in one line, without a capital and a full stop. It may be foreign."""
    everything: bool = False
    """Whether nothing drafts, the lookup included. If not, the draft model alone does not."""

    @property
    def brief(self) -> str:
        """The reason in at most 14 characters; the reasons of a policy are as short as that."""
        if self.stage == "policy":
            return self.text
        return "draft failed" if self.stage == "answer" else "draft rejected"


class WorkerHost(Struct, frozen=True):
    """Another machine that may compute some layers of the main model, as the config names it."""

    name: str
    address: str
    program: str = ""
    """Path of Outrider there; empty searches the usual places."""


class WorkerState(Struct, frozen=True):
    """A worker beside the pair that is loaded or planned."""

    name: str
    layers: Unsigned
    """Layers of the main model that it computes; 0 if it is not used."""
    round_trip: Finite | None = None
    """Seconds from a probe to its reply; None if unknown."""
    fault: str = ""
    """Why it is not used, as a sentence; empty if it is."""


# Commands: app -> engine


class Load(Tagged, frozen=True):
    """Load a main model and perhaps a draft, in place of the loaded pair.

    A model is named by its path, or by words that fit one model of the library; "starter" is the built-in
    pair.
    """

    main: str
    draft: DraftChoice = LOOKUP
    context_length: Unsigned = 0
    """0 takes the model's own, at most 8192."""
    gpu_layers: Signed = -1
    """-1 puts every layer on the GPU, where there is one."""
    threads: Unsigned = 0
    """0 lets the engine choose."""
    cache_type: CacheType = "f16"
    """The number format of the main model's KV cache. A draft model's cache stays at 16 bits: with fewer the
    draft would agree less often."""
    backend: BackendName = "auto"
    folders: tuple[str, ...] = ()
    """Folders with models, besides those of other programs."""
    exact: bool = False
    """Exact mode: verify only as many rows together as have the bits of single rows."""
    disk_cache: Signed = -1
    """Most bytes on the engine's disk for the caches of chats. 0 saves none and removes all; -1 saves none
    and leaves those alone that are there."""
    memory_cache: Signed = 0
    """Most bytes in the engine's memory for the caches of chats; -1 is a share of the free memory."""
    workers: tuple[WorkerHost, ...] = ()
    """The machines that share the layers of the main model with the engine's machine."""


class Generate(Tagged, frozen=True):
    """Answer a conversation. `id` is chosen by the app and comes back in every event of the answer."""

    id: Signed
    messages: tuple[Message, ...]
    seed: int
    sampling: Sampling = Sampling()
    draft_length: DraftLength = AUTO
    lookup: bool = True
    """Whether the lookup proposes tokens too."""
    fresh: bool = False
    """Whether to empty both caches first, for measurements."""
    max_tokens: int = 0
    """0 answers until the model stops or the context is full."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer. Inside a thought they do not end it."""
    thinking: Thinking = "auto"
    effort: Effort = "auto"
    raw: bool = False
    """Feed the last message's text as it is, without the chat template."""
    ignore_eos: bool = False
    grammar: str = ""
    """A GBNF grammar that the answer follows; empty for none."""
    json_schema: str = ""
    """A JSON schema that the answer follows, in place of a grammar; empty for none."""
    resume: tuple[int, ...] = ()
    """The tokens of an unfinished answer. The answer continues behind them, as if it had never stopped.

    `max_tokens` and all counts cover only the new tokens.
    """
    chat: str = ""
    """An opaque name of the chat, under which its cache may be saved on disk; empty saves nothing."""


class Inspect(Tagged, frozen=True):
    """Inspect an existing answer: the tokens `request.resume`, which answered `request`.

    Nothing is generated. The models run over its tokens and give probabilities at `count` tokens from the
    token `begin` on. If `count` is 0, no model runs, and the reply has the texts of all its tokens.
    """

    id: Signed
    request: Generate
    begin: int = 0
    count: int = 0


class Count(Tagged, frozen=True):
    """Count the tokens of a text in the main model's vocabulary."""

    id: Signed
    text: str


class Cancel(Tagged, frozen=True):
    """Stop the answer or the library's work `id`; for id 0, give up the load in progress."""

    id: Signed


class SetDraftLength(Tagged, frozen=True):
    """Change the draft length of the answer `id` from its next round on. Values as in `Generate`."""

    id: Signed
    draft_length: DraftLength


class Unload(Tagged, frozen=True):
    """Free the models and their memory."""


class Ping(Tagged, frozen=True):
    """Sent every few seconds. An engine that hears nothing for too long ends itself."""

    silence: Finite = 0.0
    """Seconds that the app may be silent from now on, because it is suspended; 0 is the usual time."""


class Quit(Tagged, frozen=True):
    """End the engine."""


# Events: engine -> app


class Hello(Tagged, frozen=True):
    """The engine's first line. The app skips all output of a shell before it."""

    protocol: Unsigned
    version: str
    pid: Unsigned


class Loading(Tagged, frozen=True):
    """The progress of a load. `fraction` is 0 to 1, or None if it is unknown."""

    stage: str
    fraction: Finite | None = None


class Loaded(Tagged, frozen=True):
    """A pair is loaded."""

    main: ModelFacts
    draft: ModelFacts | None
    obstacle: Obstacle | None
    """Why the wanted draft is not used, or why nothing may draft for the main model; None if all is well."""
    backend: str
    device: str
    context_length: Unsigned
    plain_tokens_per_second: Finite | None
    seconds: Finite
    draft_length: Unsigned | Literal["auto"] = AUTO
    """The fixed draft length that the engine uses for this pair, or `AUTO`."""
    rounding: Rounding | None = None
    """None if it is unknown, as for scripted models."""
    workers: tuple[WorkerState, ...] = ()
    """In the order of `Load.workers`."""


class Unloaded(Tagged, frozen=True):
    """No model is loaded now."""


class Prefill(Tagged, frozen=True):
    """The progress of reading a prompt. `total` counts the tokens that were not in the main model's cache."""

    id: Signed
    done: Unsigned
    total: Unsigned


class Rounds(Tagged, frozen=True):
    """The rounds of an answer since the last event, in order."""

    id: Signed
    rounds: tuple[TextRound, ...]


class TokenCandidate(Struct, frozen=True):
    """A token that is possible at a place. Its text is foreign."""

    token: Unsigned
    text: str
    probability: Finite
    """The probability that the model gives it, 0 to 1: at temperature 1, before the sampling chain."""


class TokenInspection(Struct, frozen=True):
    """The models' probabilities at one token of an answer."""

    probability: Finite
    """The probability that the main model gives the token of the answer, 0 to 1."""
    sampled: Finite
    """Its probability after the sampling chain if the main model chooses it again, else 0."""
    chosen: bool
    """Whether the main model chooses it again. If not, the prompt, the settings or the rounding differ."""
    main: tuple[TokenCandidate, ...]
    """The main model's candidates, the best first."""
    draft: tuple[TokenCandidate, ...] = ()
    """The draft model's candidates, the best first; empty without a draft model."""
    rival: str = ""
    """The second choice: the token that would be chosen without the chosen one."""
    lead: Finite = 0.0
    """The distance of the choice to the rival: the difference of their scores, divided by the temperature,
    noise included."""
    rounding: Finite = 0.0
    """The usual change of that difference by rounding on this device; 0.0 if it is unknown."""
    tipped: bool = False
    """Whether rounding can have changed the choice: in the comparison or at an edge of the sampling chain."""


class Inspected(Tagged, frozen=True):
    """The reply to `Inspect`."""

    id: Signed
    texts: tuple[str, ...] = ()
    """The texts of the tokens, if `count` was 0. A byte that is no character is written as <0xE2>."""
    places: tuple[TokenInspection, ...] = ()
    """Empty if the model gives no probabilities."""


class Counted(Tagged, frozen=True):
    """The reply to `Count`."""

    id: Signed
    tokens: Unsigned


class Finished(Tagged, frozen=True):
    """The last event of the answer `id`."""

    id: Signed
    reason: Reason
    statistics: Statistics


class Failed(Tagged, frozen=True):
    """A command ended in an error; the engine goes on. `id` is that of the command, or 0 if it has none."""

    id: Signed
    message: str
    hint: str = ""
    """The next step for a person, in one line."""


class Notice(Tagged, frozen=True):
    """A fault in the answer `id` that did not end it."""

    id: Signed
    message: str


class Busy(Tagged, frozen=True):
    """The answer `id` goes on with `threads` of `most` threads, because other programs take cores of the
    engine's machine. If both numbers are equal, the machine is free again."""

    id: Signed
    threads: Unsigned
    most: Unsigned


class NotDrafting(Tagged, frozen=True):
    """The reason why nothing was drafted so far in the answer `id`, sent when it changes.

    None if something was drafted by now, or if the person wants no drafts.
    """

    id: Signed
    obstacle: Obstacle | None


class Pong(Tagged, frozen=True):
    """The reply to `Ping`."""
