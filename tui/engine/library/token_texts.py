"""A vocabulary as the file of a model spells it, and its fingerprint. `eligibility` compares two of them."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from hashlib import blake2b

Tokens = Mapping[int, bytes]
"""Id -> text, as the model's file spells it."""


def fingerprint(texts: Sequence[bytes], special: Sequence[int]) -> str:
    """Return a hash of the texts in their order, and of the special ids (-1 for none)."""
    digest = blake2b(b"".join(texts), digest_size=16)
    digest.update(array("Q", map(len, texts)).tobytes())
    digest.update(repr(list(special)).encode("ascii"))
    return digest.hexdigest()
