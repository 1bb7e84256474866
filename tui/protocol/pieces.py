"""Text in pieces, each with where it came from, and what was refused standing among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .terms import Origin

Piece = tuple[str, int]
"""Text and its `Origin`."""


def said(pieces: Iterable[Piece]) -> str:
    """The text, without what was refused."""
    return "".join(text for text, origin in pieces if origin != Origin.REFUSED)


def take(held: list[Piece], length: int) -> Iterator[Piece]:
    """Take the first `length` characters out of `held`, with what was refused among them and right behind."""
    while held and (length or held[0][1] == Origin.REFUSED):
        text, origin = held.pop(0)
        if origin != Origin.REFUSED:
            if len(text) > length:
                held.insert(0, (text[length:], origin))
                text = text[:length]
            length -= len(text)
        yield text, origin


def origin_at(index: int, *, drafted: int, looked_up: int, accepted: int) -> Origin:
    """Where the token at `index` of a round's tokens came from; the numbers are those of the round."""
    if not drafted:
        return Origin.PLAIN
    if index >= accepted:
        return Origin.MAIN
    return Origin.LOOKUP if index < looked_up else Origin.DRAFT
