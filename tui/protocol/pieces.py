"""Text in pieces, each with its origin. Rejected text stands between them where it was rejected."""

from __future__ import annotations

from collections.abc import Iterable

from .terms import Origin

Piece = tuple[str, int]
"""A text and its `Origin`."""


def said(pieces: Iterable[Piece]) -> str:
    """Return the text without the rejected pieces."""
    return "".join(text for text, origin in pieces if origin != Origin.REJECTED)


def take(held: list[Piece], length: int) -> list[Piece]:
    """Take the first `length` characters out of `held`, with rejected text among and right behind them."""
    taken: list[Piece] = []
    for place, (text, origin) in enumerate(held):
        if origin != Origin.REJECTED:
            if len(text) > length:
                if length:
                    taken.append((text[:length], origin))
                    held[place] = text[length:], origin
                del held[:place]
                return taken
            if not length:
                break
            length -= len(text)
        taken.append((text, origin))
    del held[: len(taken)]
    return taken


def origin_at(
    index: int, *, drafted: int, looked_up: int, accepted: int, by: Origin = Origin.DRAFT
) -> Origin:
    """Return the origin of the token at `index` of a round's tokens. The other numbers are the round's.

    `by` is the origin of tokens that the lookup did not propose: `DRAFT` or `HEAD`.
    """
    if not drafted:
        return Origin.PLAIN
    if index >= accepted:
        return Origin.MAIN
    return Origin.LOOKUP if index < looked_up else by
