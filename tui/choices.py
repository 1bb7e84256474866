"""The values that a person may choose from, and the bounds of each number, with its meaning.

The settings file, the settings screen, the command line and the engine all read them here, so that a number
that one of them takes is taken by all. This module is small: the command line needs it before anything else.
"""

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

CacheType = Literal["f16", "q8_0"]
"""The number format of a KV cache: 16 bits, or 8 bits and a scale for every 32 numbers."""

BackendName = Literal["auto", "llama.cpp", "mlx"]
"""The library that runs a model; "auto" chooses it by the file or folder."""

Thinking = Literal["auto", "on", "off"]
"""Whether a model should think before it answers; "auto" leaves this to its chat template."""

Effort = Literal["auto", "minimal", "low", "medium", "high", "max"]
"""How much a model should think, if its chat template knows that."""

AUTO: Final = "auto"
"""As a draft: the best draft model that the library has for the main model, or else the lookup. As a draft
length: the engine measures and decides."""
LOOKUP: Final = "lookup"
"""As a draft: no draft model; the lookup alone proposes tokens."""
NONE: Final = "none"
"""As a draft: nothing proposes tokens. That is plain decoding."""
HEAD: Final = "head"
"""As a draft: the head of the main model, in its own file (MTP), or else the best that fits in another
file."""

COPY_FORMAT: Final = "Q4_0"
"""The number format of a copy of a draft: most processors compute it faster than any other."""

HEADS: Final = {"mtp": "MTP head", "eagle3": "EAGLE-3 head", "assistant": "assistant"}
"""The names of the kinds of heads (`HeadKind`)."""

OWN_HEAD: Final = "Its own head is in this file and drafts for it: no further file is needed"
"""The remark about a file on the hub whose tensors include a head."""

DraftChoice = str
"""The draft of a pair: `AUTO`, `LOOKUP`, `NONE`, `HEAD`, or a draft model by its path or name.

config.toml, the command line, `Load`, verdicts and the file of the last pair spell it alike.
"""


def is_scripted(model: str) -> bool:
    """Whether `model` names no file but a stand-in that recites a script: see `engine.backends.selection`."""
    return model.startswith("scripted:")


OLD_DRAFTS: Final = {"": LOOKUP, "ngram": LOOKUP}
"""Spellings of earlier versions, which files and command lines still have."""


def names_model(draft: DraftChoice) -> bool:
    """Whether `draft` is the path or the name of a draft model."""
    return draft not in (AUTO, LOOKUP, NONE, HEAD)


def drafts_with_model(draft: DraftChoice) -> bool:
    """Whether a model drafts: the one that `draft` names, or the head of the main model."""
    return draft == HEAD or names_model(draft)


def read_draft(text: str) -> DraftChoice:
    """Return the draft that a file or a command line names, perhaps as an earlier version spelled it."""
    return OLD_DRAFTS.get(text, text)


class Limit(NamedTuple):
    """The bounds of one number, both allowed, and its meaning in a few words."""

    low: float
    high: float
    about: str


def meant(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" for the one of `known` that is most like a mistyped word; else empty."""
    from difflib import get_close_matches  # only mistyped words need it, and `--help` waits for this module

    near = get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


LONGEST_DRAFT = 16
"""Most tokens drafted in a round: `LONGEST` of `speculation.chances`, which imports nothing of ours."""

DraftLength = int | Literal["auto"]
"""Tokens drafted in a round: 0 to `LONGEST_DRAFT`, or `AUTO`; 0 is plain decoding.

config.toml, the command line, the chat and the protocol spell it alike.
"""

SHARE_OF_FREE: Final = -1
"""As a number of bytes in a `Load`: a share of the memory that is free."""

MOST_TOKENS = 1 << 24
"""More tokens than any context holds."""

MOST_BIAS = 10_000
"""A `logit_bias` may move a score by so much, up or down."""

SAMPLING = {
    "temperature": Limit(0, 5, "0 always takes the most probable token"),
    "top_k": Limit(0, 1_000_000, "keep the k best tokens; 0 keeps all"),
    "top_p": Limit(0, 1, "keep the smallest set whose probability reaches p; 1 keeps all"),
    "min_p": Limit(0, 1, "drop tokens below this share of the best one's probability"),
    "repeat_penalty": Limit(0.01, 100, "divides the scores of tokens already seen; 1 is off"),
    "presence_penalty": Limit(-100, 100, "lowers the scores of tokens already seen; 0 is off"),
    "frequency_penalty": Limit(-100, 100, "lowers a score each time its token was seen; 0 is off"),
    "penalty_last_n": Limit(0, MOST_TOKENS, "how many of the latest tokens the penalties look at"),
}
"""The numbers of `Sampling`, by their names."""

SEED = Limit(0, (1 << 32) - 1, "the same seed gives the same text")
