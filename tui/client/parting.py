"""Why two texts of one prompt differ: at which token, how close the choice was there, and the part of
rounding.

Plain and drafted decoding choose from the same scores, except for the rounding of the hardware. So either
rounding explains a difference, or it is an error.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ..clean import clean
from ..protocol import Generate, Inspect, TokenInspection
from .engine import EngineClient

_REACH = 4.0
"""Multiples of the usual rounding that still explain a difference: 1 choice in 16,000 moves further."""

_SHOWN = 24
"""Characters of a token, at most."""


async def explained(
    client: EngineClient, number: int, request: Generate, plain: Sequence[int], at: int
) -> str:
    """Return why another text of `request` differs from the tokens `plain` at the index `at`, as one clean
    line.

    `number` is the id for the question. Raises `EngineError`.
    """
    if at >= len(plain):
        return f"one text ends at token {at + 1:,}"
    asked = Inspect(number, replace(request, resume=tuple(plain)), begin=at, count=1)
    found = await client.inspect(asked)
    if not found.places:
        return f"parted at token {at + 1:,}"
    return words(found.places[0], _text(found.places[0], plain[at]), at)


def words(place: TokenInspection, chosen: str, at: int) -> str:
    """Return the facts about a choice of the token `chosen` at the index `at`, as one clean line."""
    token, both = f"token {at + 1:,}", _told_apart(chosen, place.rival)
    close = f"{both} were {place.lead:.2g} apart, rounding here is {place.rounding:.2g}"
    if can_part(place):
        return f"parted by rounding at {token}: {close}"
    return f"parted at {token}, which rounding does not explain: {close}. Please report this"


def can_part(place: TokenInspection) -> bool:
    """Whether rounding explains another choice at this position."""
    return place.tipped or abs(place.lead) <= _REACH * place.rounding > 0


def _told_apart(chosen: str, rival: str) -> str:
    """Return the texts of two tokens in quotation marks, so that they never look the same."""
    if chosen == rival:
        return f"two tokens that read {_quoted(chosen)}"
    if _quoted(chosen) == _quoted(rival):  # they differ only in invisible characters, or late
        at = first_difference((chosen, rival))
        chosen, rival = (ascii(each[at:])[1:-1] for each in (chosen, rival))
    return f"{_quoted(chosen)} and {_quoted(rival)}"


def first_difference(texts: Sequence[Sequence[object]]) -> int | None:
    """Return the first index at which two of `texts` differ or one ends; None if all are equal."""
    for place, each in enumerate(zip(*texts, strict=False)):
        if len(set(each)) > 1:
            return place
    lengths = set(map(len, texts))
    return min(lengths) if len(lengths) > 1 else None


def _quoted(text: str) -> str:
    """Return the text in quotation marks. Spaces stay, because many tokens differ only in the space before
    them."""
    shown = clean(text[: 4 * _SHOWN]).replace("\n", "↵").replace("\t", "→")
    return f'"{shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"}"'


def _text(place: TokenInspection, token: int) -> str:
    return next((each.text for each in place.main if each.token == token), str(token))
