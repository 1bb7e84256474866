"""Compares two vocabularies: are the token ids of one model valid for the other?

Tokens are compared by their text. Ids that only one model has do not count, because sizes are padded. Callers
leave out control and unused tokens, whose names often differ within a family. A few words that differ do no
harm, because the main model rejects them like any other wrong guess.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from hashlib import blake2b

OTHER = "another tokenizer: only models of one family can draft"

MOST = 1 / 1000
"""Share of the common tokens that may differ. Vocabularies of two kinds differ in nearly all."""

Tokens = Mapping[int, bytes]
"""Id -> text, as the model's file spells it."""


def fingerprint(texts: Sequence[bytes], special: Sequence[int]) -> str:
    """Return a hash of the texts in their order, and of the special ids (-1 for none)."""
    digest = blake2b(b"".join(texts), digest_size=16)
    digest.update(array("Q", map(len, texts)).tobytes())
    digest.update(repr(list(special)).encode("ascii"))
    return digest.hexdigest()


def difference(mine: Tokens, theirs: Tokens) -> str:
    """Return the reason why two vocabularies differ, with the first differing token; empty if they agree."""
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
