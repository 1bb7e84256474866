"""Vocabularies beside each other: may one model's token ids stand in the other's answer?

A token is compared by its text. Ids that only one of two models has do not count, because sizes are padded.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from hashlib import blake2b

OTHER = "another tokenizer: only models of one family can draft"

Tokens = Mapping[int, bytes]
"""Id -> text, as the model's file spells it."""


def fingerprint(texts: Sequence[bytes], special: Sequence[int]) -> str:
    """Equal for equal texts in equal order with equal special ids (-1 for none)."""
    digest = blake2b(b"".join(texts), digest_size=16)
    digest.update(array("Q", map(len, texts)).tobytes())
    digest.update(repr(list(special)).encode("ascii"))
    return digest.hexdigest()


def difference(mine: Tokens, theirs: Tokens) -> str:
    """The first token that two vocabularies spell differently, in words; empty if there is none."""
    if mine == theirs:
        return ""
    for token in sorted(mine.keys() & theirs.keys()):
        if mine[token] != theirs[token]:
            return f"{OTHER} (differs at id {token:,}: {_shown(mine[token])} against {_shown(theirs[token])})"
    few, many = sorted((len(mine), len(theirs)))
    return "" if 2 * few > many else f"{OTHER} (one has {few:,} tokens, the other {many:,})"


def _shown(text: bytes) -> str:
    return repr(text.decode("utf-8", "replace"))
