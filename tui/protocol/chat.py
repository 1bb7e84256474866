"""Loading a pair of models and talking with it: the commands, the events and what they carry."""

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
    """Divides the score of tokens already seen; 1 is off."""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    penalty_last_n: int = 64
    """How many of the latest tokens the penalties look at."""
    logit_bias: tuple[tuple[int | str, float | None], ...] = ()
    """Added to the score of a token, named by its id or by a text that is one token; None bans it."""


@dataclass(frozen=True)
class ModelInfo:
    """A loaded model as its file describes it. Foreign text: clean before showing."""

    name: str
    path: str
    architecture: str
    parameters: int
    quantisation: str
    size: int
    """Bytes of weights."""
    context_length: int
    """Tokens that it was trained on."""
    vocabulary: int
    demo: bool = False
    """True for the built-in starter pair."""
    prompt_form: PromptForm = "template"


@dataclass(frozen=True)
class Rounding:
    """What several rows in one call do to the scores of the main model, as it was measured here."""

    deviation: float
    """From single rows: root mean square, in standard deviations of a row. 0.0 means the same bits."""
    exact: bool = False
    """Whether every round is kept to rows with the same bits."""
    rows: int = 1
    """Most rows of such a round, in exact mode."""


@dataclass(frozen=True)
class Statistics:
    """What an answer cost. Seconds are of a monotonic clock; None is not known."""

    prompt_tokens: int = 0
    prompt_reused: int = 0
    """Prompt tokens already in the main model's cache from the turn before."""
    tokens: int = 0
    rounds: int = 0
    drafted: int = 0
    """Proposed tokens, of the draft model and of the n-gram lookup."""
    accepted: int = 0
    looked_up: int = 0
    """How many of `drafted` came from the lookup."""
    lookup_accepted: int = 0
    seconds: float = 0.0
    """From the first token's round on: prompt processing is not in it."""
    draft_seconds: float = 0.0
    verify_seconds: float = 0.0
    time_to_first_token: float | None = None
    tokens_per_second: float | None = None
    plain_seconds: float | None = None
    """What plain decoding would have taken for the same tokens, each round in its own moment: the time of its
    verification by the measured ratio of so many rows to one."""
    context_used: int = 0
    peak_memory: int | None = None
    """Most bytes that the engine's process has held so far."""
    rounding: Rounding | None = None
    """As far as it is known by now."""

    @property
    def speed_up(self) -> float | None:
        """How many times as fast as plain decoding it was; None if nothing was drafted or that is not known.

        A round takes at least as long as one plain step. So it is at most the tokens per round, and noise
        that would lift it above is cut off.
        """
        if not self.drafted or not self.plain_seconds or self.seconds <= 0:
            return None
        return min(self.plain_seconds / self.seconds, self.tokens / self.rounds)


# Commands: app -> engine


@dataclass(frozen=True)
class Load:
    """Load a main model and perhaps a draft; replaces what is loaded.

    A model goes by its path or by a name that one model of the library answers to; "starter" names the
    built-in pair. The draft "auto" is the best that the library has for the main model, or none.
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
    """Of the main model's KV cache. A draft model's stays at 16 bits: it would agree less often."""
    backend: BackendName = "auto"
    folders: tuple[str, ...] = ()
    """Where models lie, besides the places of other programs."""
    exact: bool = False
    """Draft only as far as rows that are verified together have the bits of single ones."""


@dataclass(frozen=True)
class Generate:
    """Answer a conversation. `id` is chosen by the app and comes back in every event of the answer."""

    id: Signed
    messages: tuple[Message, ...]
    seed: int
    sampling: Sampling = field(default_factory=Sampling)
    draft_length: int | None = None
    """Tokens drafted in a round, 0 to 16; 0 is plain decoding; None measures and decides."""
    lookup: bool = True
    """Also propose what followed the same tokens earlier in the conversation."""
    fresh: bool = False
    """Forget both caches first: for measurements."""
    max_tokens: int = 0
    """0 answers until the model stops or the context is full."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer; in a thought before it they end nothing."""
    thinking: Thinking = "auto"
    effort: Effort = "auto"
    raw: bool = False
    """Feed the last message's text as it is, without the chat template."""
    ignore_eos: bool = False
    grammar: str = ""
    """A GBNF grammar that the answer follows; empty for none."""
    json_schema: str = ""
    """In place of a grammar: the schema of the JSON text that the answer is."""
    resume: tuple[int, ...] = ()
    """Tokens of an answer that was broken off. It goes on behind them, with the same seed as if it never was.

    `max_tokens` and all that is counted are of what comes now.
    """


@dataclass(frozen=True)
class Inspect:
    """Look again at an answer that is there, `request.resume`, which `request` was for.

    Nothing is chosen anew: the models run over its tokens and say what they think at `count` places from
    the token `begin` on. With a `count` of 0 they do not run, and the texts of all its tokens are told.
    """

    id: Signed
    request: Generate
    begin: int = 0
    count: int = 0


@dataclass(frozen=True)
class Count:
    """How many tokens of the main model a text is."""

    id: Signed
    text: str


@dataclass(frozen=True)
class Cancel:
    """Stop the answer or the library's work `id`; for id 0, give up the load in progress."""

    id: Signed


@dataclass(frozen=True)
class SetDraftLength:
    """From the next round on, draft so many tokens in the answer `id`; as `Generate.draft_length`."""

    id: Signed
    draft_length: int | None


@dataclass(frozen=True)
class Unload:
    pass


@dataclass(frozen=True)
class Ping:
    """Sent every few seconds; an engine that hears nothing for too long ends itself."""

    silence: float = 0.0
    """Seconds that the app may be silent from now on, because it is suspended; 0 is the usual time."""


@dataclass(frozen=True)
class Quit:
    pass


# Events: engine -> app


@dataclass(frozen=True)
class Hello:
    """The first line; whatever a shell printed before it is skipped."""

    protocol: int
    version: str
    pid: int


@dataclass(frozen=True)
class Loading:
    """Progress of a load. `fraction` is 0 to 1, or None where it cannot be known."""

    stage: str
    fraction: float | None = None


@dataclass(frozen=True)
class Loaded:
    main: ModelInfo
    draft: ModelInfo | None
    draft_refused: str
    """Why the draft that was asked for is not used, in one line; empty if nothing was refused."""
    backend: str
    device: str
    context_length: int
    plain_tokens_per_second: float | None
    seconds: float
    drafting_refused: str = ""
    """Why nothing may draft for the main model, in one line; empty if it may."""
    draft_length: int | None = None
    """What the engine drafts in every round where it may decide; None where it measures and decides."""
    rounding: Rounding | None = None
    """None where it is not known: of scripted models."""


@dataclass(frozen=True)
class Unloaded:
    pass


@dataclass(frozen=True)
class Prefill:
    """Prompt tokens that the main model has processed, of those that were not in its cache already."""

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
    """A token that could stand at a place. Foreign text."""

    token: int
    text: str
    probability: float
    """The model's own, 0 to 1: at temperature 1, before the sampling chain."""


@dataclass(frozen=True)
class Place:
    """What the models think at one place of an answer."""

    probability: float
    """What the main model itself gives the token that stands there, 0 to 1."""
    sampled: float
    """The same after the sampling chain, where it chooses that token again; else 0."""
    chosen: bool
    """Whether it does: where not, the prompt, the settings or the last bits of a number are not the same."""
    main: tuple[Candidate, ...]
    """The main model's best, best first."""
    draft: tuple[Candidate, ...] = ()
    """The draft model's; empty without one."""
    rival: str = ""
    """The token that would be chosen if the chosen one were not there."""
    lead: float = 0.0
    """By how much the choice led it: the difference of what is compared, at temperature and with the
    noise."""
    rounding: float = 0.0
    """How far rounding usually moves that difference on this device; 0.0 where it is not known."""
    tipped: bool = False
    """Whether rounding can have chosen otherwise here: in the comparison, or at an edge of the sampling
    chain."""


@dataclass(frozen=True)
class Inspected:
    """The answer to `Inspect`."""

    id: Signed
    texts: tuple[str, ...] = ()
    """Of the tokens, where no place was asked for. Bytes that are no characters stand as <0xE2>."""
    places: tuple[Place, ...] = ()
    """Empty where a model tells no probabilities."""


@dataclass(frozen=True)
class Counted:
    """The answer to `Count`."""

    id: Signed
    tokens: int


@dataclass(frozen=True)
class Finished:
    id: Signed
    reason: Reason
    statistics: Statistics


@dataclass(frozen=True)
class Failed:
    """A command that ended in an error; the engine goes on. `id` is the answer's, or 0 for anything else."""

    id: Signed
    message: str
    hint: str = ""
    """What a person can do about it, in one line."""


@dataclass(frozen=True)
class Notice:
    """Something that went wrong in the answer `id` without ending it."""

    id: Signed
    message: str


@dataclass(frozen=True)
class Busy:
    """Other programs take cores on the engine's machine, so that the answer `id` goes on with fewer threads;
    with `threads` at `most`, that they no longer do."""

    id: Signed
    threads: int
    most: int


@dataclass(frozen=True)
class Pong:
    pass
