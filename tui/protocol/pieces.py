"""Text in pieces, each with its origin. Rejected text stands between them where it was rejected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .terms import Origin

Piece = tuple[str, int]
"""A text and its `Origin`."""


def said(pieces: Iterable[Piece]) -> str:
    """Return the text without the rejected pieces."""
    return "".join(text for text, origin in pieces if origin != Origin.REFUSED)


def take(held: list[Piece], length: int) -> Iterator[Piece]:
    """Take the first `length` characters out of `held`, with rejected text among and right behind them."""
    while held and (length or held[0][1] == Origin.REFUSED):
        text, origin = held.pop(0)
        if origin != Origin.REFUSED:
            if len(text) > length:
                held.insert(0, (text[length:], origin))
                text = text[:length]
            length -= len(text)
        yield text, origin


def origin_at(index: int, *, drafted: int, looked_up: int, accepted: int) -> Origin:
    """Return the origin of the token at `index` of a round's tokens. The other numbers are the round's."""
    if not drafted:
        return Origin.PLAIN
    if index >= accepted:
        return Origin.MAIN
    return Origin.LOOKUP if index < looked_up else Origin.DRAFT
