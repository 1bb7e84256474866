"""Why does a model not draft? Every reason as a value: its stage, its text, and the models that it concerns.

- headers: the files do not fit together. `library/pairing.py` finds this before anything is loaded.
- load: a loaded draft or a loaded main model is not fit for drafting. `pair.py`, `exactness.py`,
  `cache_check.py` and the backends find this.
- answer: the draft model fails in an answer, which goes on without it. `answer.py` finds this.
- policy: drafting is possible, and the draft length policy waits. `speculation/policy.py` decides this.

This module compares vocabularies and gives the texts. It opens no file and runs no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..protocol import Obstacle, Stage
from .library.head_files import Shape, misfit
from .library.header import Header
from .library.heads import runs_one_head
from .library.mlx_folder import Folder
from .library.mlx_heads import misfit as other_folder
from .library.token_texts import Tokens

MOST = 1 / 1000
"""Largest share of the shared tokens that may differ. Vocabularies of two kinds differ in nearly all."""

# Headers

NOT_SMALLER: Final = Obstacle("headers", "it is no smaller than the main model")


def other_backend(draft: str, main: str) -> Obstacle:
    return Obstacle("headers", f"it runs with {draft}, the main model with {main}")


def no_room(both: int, memory: int) -> Obstacle:
    """`both` models and the machine's `memory` in bytes."""
    return Obstacle(
        "headers", f"it does not fit beside the main model: {both / 1e9:.1f} GB of {memory / 1e9:.1f} GB"
    )


def bad_file(error: Exception) -> Obstacle:
    return Obstacle("headers", str(error))


# Headers and load


def vocabularies(mine: Tokens, theirs: Tokens, stage: Stage) -> Obstacle | None:
    """Return why two vocabularies differ, with the first token that they spell differently.

    A token is compared by its text. Ids that only one of two models has do not count, because sizes are
    padded. Callers leave out control tokens and unused ones, whose names often differ between models of one
    family. A draft may be wrong, so a few different words do no harm: the main model rejects them like any
    other wrong guess.
    """
    if mine == theirs:
        return None
    shared = mine.keys() & theirs.keys()
    differing = [token for token in shared if mine[token] != theirs[token]]
    few, many = sorted((len(mine), len(theirs)))
    if len(differing) > MOST * len(shared):
        first = min(differing)
        detail = f"differs at id {first:,}: {_shown(mine[first])} against {_shown(theirs[first])}"
    elif 2 * few <= many:
        detail = f"one has {few:,} tokens, the other {many:,}"
    else:
        return None
    return Obstacle(stage, f"another tokenizer: only models of one family can draft ({detail})")


def unfit_head(main: Header, head: Header, stage: Stage) -> Obstacle | None:
    """Return why a head in a file of its own cannot draft for `main`; None if it can."""
    if not head.facts.only_head:
        return NO_HEAD
    reason = misfit(_shape(main), _shape(head), head.reader)
    return Obstacle(stage, reason) if reason else None


def unfit_folder(main: Folder, head: Folder, stage: Stage) -> Obstacle | None:
    """Return why the head in a folder of its own cannot draft for `main`; None if it can."""
    reason = other_folder(main, head)
    return Obstacle(stage, reason) if reason else None


def _shape(header: Header) -> Shape:
    layers, facts = header.block_count - header.heads, header.facts
    return Shape(facts.architecture, layers, header.width, facts.vocabulary, header.cells)


def _shown(text: bytes) -> str:
    return repr(text.decode("utf-8", "replace"))


# Load: the draft model

OTHER_LIBRARY: Final = Obstacle("load", "the two models run in different libraries")


def uncut_draft(kind: str) -> Obstacle:
    """A draft model with a `kind` of cache that cannot be cut back."""
    return Obstacle("load", f"the draft model's cache cannot be cut back ({kind})")


def broken_draft(error: Exception) -> Obstacle:
    """A draft model that cannot be loaded, or that cannot choose even one token."""
    return Obstacle("load", str(error))


# Load: the head of the main model

NO_HEAD: Final = Obstacle(
    "load", "the main model holds no head (MTP) that can be used, and no file here has one for it"
)
NO_HEAD_ON_RING: Final = Obstacle("load", "a head does not draft for an MLX model on several machines")
NO_HEADS_HERE: Final = Obstacle("load", "this llama.cpp has no heads; install llama-cpp-python again")


def no_head(main: Header) -> Obstacle:
    """A main model without a head in its file, or with heads that llama.cpp does not run."""
    if main.heads < 2 or not runs_one_head(main.facts.architecture):
        return NO_HEAD
    heads = f"the main model holds {main.heads} heads (MTP)"
    return Obstacle("load", f"{heads}, and llama.cpp runs only a single one of {main.facts.architecture}")


# Load: the main model

NOT_RESTORED: Final = Obstacle(
    "load",
    "after rejected tokens its cache is not what it was before, so drafting would change the text",
    everything=True,
)
NO_TWO_ROWS: Final = Obstacle(
    "load",
    "exact is on, and on this machine no two rows of this model have the bits of single ones; "
    "/exact off drafts, or choose another quantization",
    everything=True,
)
UNCUT: Final = Obstacle(
    "load",
    "exact is on, and this model's cache cannot be cut back anywhere; /exact off drafts",
    everything=True,
)


def short_context(capacity: int) -> Obstacle:
    return Obstacle("load", f"its context of {capacity} tokens is too short for a draft", everything=True)


def far_rounding(deviation: float) -> Obstacle:
    """`deviation` is a root mean square, in standard deviations of a row."""
    return Obstacle(
        "load",
        f"its scores for several tokens at once are {deviation:.2f} standard deviations from those for one "
        "at a time, so drafting would change the text; try another quantization or a newer llama.cpp",
        everything=True,
    )


def broken_trial(error: Exception) -> Obstacle:
    """A main model that fails while its cache and its rounding are checked."""
    return Obstacle("load", str(error), everything=True)


# Answer


def short_draft(capacity: int) -> Obstacle:
    return Obstacle("answer", f"its context holds only {capacity} tokens")


def failed_draft(error: Exception) -> Obstacle:
    return Obstacle("answer", str(error))


# Policy

POLICY: Final[Mapping[str, Obstacle]] = {
    "first token": Obstacle("policy", "not started"),
    "does not pay": Obstacle("policy", "does not pay"),
    "too far behind": Obstacle("policy", "too far behind"),
    "reading": Obstacle("policy", "still reading"),
    "trying": Obstacle("policy", "measuring"),
    "": Obstacle("policy", "too unsure"),
}
"""By `policy.WhyNot`. At "" the draft model is at work, but none of its tokens was worth verifying."""
NOTHING_COPIED: Final = Obstacle("policy", "nothing copied")
"""Only the lookup proposes, and it found no text that was worth verifying."""
