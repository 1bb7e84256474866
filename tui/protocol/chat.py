"""Commands and events for a pair of models: to load it, to chat with it, and the values that they carry."""

from __future__ import annotations

from dataclasses import dataclass, field

from .terms import BackendName, CacheType, Effort, PromptForm, Reason, Role, Round, Signed, Thinking


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True)
class Sampling:
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


@dataclass(frozen=True)
class ModelInfo:
    """A loaded model as its file describes it. The texts are foreign: clean them before you show them."""

    name: str
    path: str
    architecture: str
    parameters: int
    quantisation: str
    size: int
    """Bytes of weights."""
    context_length: int
    """Length in tokens that the model was trained for."""
    vocabulary: int
    demo: bool = False
    """True for the built-in starter pair."""
    prompt_form: PromptForm = "template"


@dataclass(frozen=True)
class Rounding:
    """How the main model's scores differ when several rows are computed in one call, as measured here."""

    deviation: float
    """Difference from single rows: root mean square, in standard deviations of a row. 0.0: the same bits."""
    exact: bool = False
    """Whether exact mode is on: every round has only rows with the same bits."""
    rows: int = 1
    """Most rows of a round in exact mode."""


@dataclass(frozen=True)
class Statistics:
    """The figures of an answer. Seconds come from a monotonic clock; None means unknown."""

    prompt_tokens: int = 0
    prompt_reused: int = 0
    """Prompt tokens that were in the main model's cache already."""
    tokens: int = 0
    rounds: int = 0
    drafted: int = 0
    """Tokens proposed by the draft model and by the lookup."""
    accepted: int = 0
    looked_up: int = 0
    """Tokens of `drafted` that came from the lookup."""
    lookup_accepted: int = 0
    seconds: float = 0.0
    """Time of the answer from the round of its first token on; reading the prompt does not count."""
    draft_seconds: float = 0.0
    verify_seconds: float = 0.0
    time_to_first_token: float | None = None
    tokens_per_second: float | None = None
    plain_seconds: float | None = None
    """Estimated time of plain decoding for the same tokens. Each round counts the time of its verification,
    divided by the measured ratio of its number of rows to one row."""
    context_used: int = 0
    peak_memory: int | None = None
    """Peak memory of the engine's process so far, in bytes."""
    rounding: Rounding | None = None
    """The rounding of the main model, if it is known by now."""

    @property
    def speed_up(self) -> float | None:
        """The speed of the answer by that of plain decoding; None if it is unknown or nothing was drafted.

        A round takes at least as long as one plain step. So the speed-up is at most the number of tokens per
        round; noise above that is cut off.
        """
        if not self.drafted or not self.plain_seconds or self.seconds <= 0:
            return None
        return min(self.plain_seconds / self.seconds, self.tokens / self.rounds)


# Commands: app -> engine


@dataclass(frozen=True)
class Load:
    """Load a main model and perhaps a draft, in place of the loaded pair.

    A model is named by its path, or by words that fit one model of the library; "starter" is the built-in
    pair. The draft "auto" is the best draft that the library has for the main model, or none.
    """

    main: str
    draft: str | None = None
    context_length: int = 0
    """0 takes the model's own, at most 8192."""
    gpu_layers: Signed = -1
    """-1 puts every layer on the GPU, where there is one."""
    threads: int = 0
    """0 lets the engine choose."""
    cache_type: CacheType = "f16"
    """The number format of the main model's KV cache. A draft model's cache stays at 16 bits: with fewer the
    draft would agree less often."""
    backend: BackendName = "auto"
    folders: tuple[str, ...] = ()
    """Folders with models, besides those of other programs."""
    exact: bool = False
    """Exact mode: verify only as many rows together as have the bits of single rows."""


@dataclass(frozen=True)
class Generate:
    """Answer a conversation. `id` is chosen by the app and comes back in every event of the answer."""

    id: Signed
    messages: tuple[Message, ...]
    seed: int
    sampling: Sampling = field(default_factory=Sampling)
    draft_length: int | None = None
    """Tokens drafted in a round, 0 to 16. 0 is plain decoding; with None the engine measures and decides."""
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


@dataclass(frozen=True)
class Inspect:
    """Inspect an existing answer: the tokens `request.resume`, which answered `request`.

    Nothing is generated. The models run over its tokens and give probabilities at `count` tokens from the
    token `begin` on. If `count` is 0, no model runs, and the reply has the texts of all its tokens.
    """

    id: Signed
    request: Generate
    begin: int = 0
    count: int = 0


@dataclass(frozen=True)
class Count:
    """Count the tokens of a text in the main model's vocabulary."""

    id: Signed
    text: str


@dataclass(frozen=True)
class Cancel:
    """Stop the answer or the library's work `id`; for id 0, give up the load in progress."""

    id: Signed


@dataclass(frozen=True)
class SetDraftLength:
    """Change the draft length of the answer `id` from its next round on. Values as in `Generate`."""

    id: Signed
    draft_length: int | None


@dataclass(frozen=True)
class Unload:
    """Free the models and their memory."""


@dataclass(frozen=True)
class Ping:
    """Sent every few seconds. An engine that hears nothing for too long ends itself."""

    silence: float = 0.0
    """Seconds that the app may be silent from now on, because it is suspended; 0 is the usual time."""


@dataclass(frozen=True)
class Quit:
    """End the engine."""


# Events: engine -> app


@dataclass(frozen=True)
class Hello:
    """The engine's first line. The app skips all output of a shell before it."""

    protocol: int
    version: str
    pid: int


@dataclass(frozen=True)
class Loading:
    """The progress of a load. `fraction` is 0 to 1, or None if it is unknown."""

    stage: str
    fraction: float | None = None


@dataclass(frozen=True)
class Loaded:
    """A pair is loaded."""

    main: ModelInfo
    draft: ModelInfo | None
    draft_refused: str
    """The reason why the requested draft is not used, in one line; empty if it is used."""
    backend: str
    device: str
    context_length: int
    plain_tokens_per_second: float | None
    seconds: float
    drafting_refused: str = ""
    """The reason why nothing may draft for the main model, in one line; empty if drafting is possible."""
    draft_length: int | None = None
    """The fixed draft length that the engine uses for this pair; None if it measures and decides."""
    rounding: Rounding | None = None
    """None if it is unknown, as for scripted models."""


@dataclass(frozen=True)
class Unloaded:
    """No model is loaded now."""


@dataclass(frozen=True)
class Prefill:
    """The progress of reading a prompt. `total` counts the tokens that were not in the main model's cache."""

    id: Signed
    done: int
    total: int


@dataclass(frozen=True)
class Rounds:
    """The rounds of an answer since the last event, in order."""

    id: Signed
    rounds: tuple[Round, ...]


@dataclass(frozen=True)
class Candidate:
    """A token that is possible at a place. Its text is foreign."""

    token: int
    text: str
    probability: float
    """The probability that the model gives it, 0 to 1: at temperature 1, before the sampling chain."""


@dataclass(frozen=True)
class Place:
    """The models' probabilities at one token of an answer."""

    probability: float
    """The probability that the main model gives the token of the answer, 0 to 1."""
    sampled: float
    """Its probability after the sampling chain if the main model chooses it again, else 0."""
    chosen: bool
    """Whether the main model chooses it again. If not, the prompt, the settings or the rounding differ."""
    main: tuple[Candidate, ...]
    """The main model's candidates, the best first."""
    draft: tuple[Candidate, ...] = ()
    """The draft model's candidates, the best first; empty without a draft model."""
    rival: str = ""
    """The second choice: the token that would be chosen without the chosen one."""
    lead: float = 0.0
    """The distance of the choice to the rival: the difference of their scores, divided by the temperature,
    noise included."""
    rounding: float = 0.0
    """The usual change of that difference by rounding on this device; 0.0 if it is unknown."""
    tipped: bool = False
    """Whether rounding can have changed the choice: in the comparison or at an edge of the sampling chain."""


@dataclass(frozen=True)
class Inspected:
    """The reply to `Inspect`."""

    id: Signed
    texts: tuple[str, ...] = ()
    """The texts of the tokens, if `count` was 0. A byte that is no character is written as <0xE2>."""
    places: tuple[Place, ...] = ()
    """Empty if the model gives no probabilities."""


@dataclass(frozen=True)
class Counted:
    """The reply to `Count`."""

    id: Signed
    tokens: int


@dataclass(frozen=True)
class Finished:
    """The last event of the answer `id`."""

    id: Signed
    reason: Reason
    statistics: Statistics


@dataclass(frozen=True)
class Failed:
    """A command ended in an error; the engine goes on. `id` is that of the command, or 0 if it has none."""

    id: Signed
    message: str
    hint: str = ""
    """The next step for a person, in one line."""


@dataclass(frozen=True)
class Notice:
    """A fault in the answer `id` that did not end it."""

    id: Signed
    message: str


@dataclass(frozen=True)
class Busy:
    """The answer `id` goes on with `threads` of `most` threads, because other programs take cores of the
    engine's machine. If both numbers are equal, the machine is free again."""

    id: Signed
    threads: int
    most: int


@dataclass(frozen=True)
class Pong:
    """The reply to `Ping`."""
