"""Vocabularies beside each other: may one model's token ids stand in the other's answer?

A token is compared by its text. Ids that only one of two models has do not count, because sizes are padded;
callers leave out control tokens and unused ones, which models of one family often call otherwise. A draft may
be wrong, so a few words that differ do no harm: the main model refuses them like any other wrong guess.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from hashlib import blake2b

OTHER = "another tokenizer: only models of one family can draft"

MOST = 1 / 1000
"""Of the tokens that two models share: as many may differ. Vocabularies of two kinds differ in nearly all."""

Tokens = Mapping[int, bytes]
"""Id -> text, as the model's file spells it."""


def fingerprint(texts: Sequence[bytes], special: Sequence[int]) -> str:
    """Equal for equal texts in equal order with equal special ids (-1 for none)."""
    digest = blake2b(b"".join(texts), digest_size=16)
    digest.update(array("Q", map(len, texts)).tobytes())
    digest.update(repr(list(special)).encode("ascii"))
    return digest.hexdigest()


def difference(mine: Tokens, theirs: Tokens) -> str:
    """Why two vocabularies are not one, with the first token that they spell differently; empty if they are
    one."""
    if mine == theirs:
        return ""
    shared = mine.keys() & theirs.keys()
    differing = [token for token in shared if mine[token] != theirs[token]]
    if len(differing) > MOST * len(shared):
        first = min(differing)
        return f"{OTHER} (differs at id {first:,}: {_shown(mine[first])} against {_shown(theirs[first])})"
    few, many = sorted((len(mine), len(theirs)))
    return "" if 2 * few > many else f"{OTHER} (one has {few:,} tokens, the other {many:,})"


def _shown(text: bytes) -> str:
    return repr(text.decode("utf-8", "replace"))
