"""Why two texts of one prompt part: at which token, how close the choice was there, and what rounding does.

Plain and drafted decoding choose from the same scores, but for the rounding of the hardware. So a difference
has either that reason, or none that may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..clean import clean_line
from ..protocol import Generate, Inspect, Place
from .engine import EngineClient

_REACH = 4.0
"""How many times the usual rounding still explains a difference: 1 choice in 16,000 moves further."""


async def explained(
    client: EngineClient, number: int, request: Generate, plain: Sequence[int], at: int
) -> str:
    """Why another text of `request` parted from the tokens `plain` at the index `at`; in one clean line.

    `number` is the id for the question. Raises `EngineError`.
    """
    if at >= len(plain):
        return f"one text ends at token {at + 1:,}"
    asked = Inspect(number, replace(request, resume=tuple(plain)), begin=at, count=1)
    found = await client.inspect(asked)
    if not found.places:
        return f"parted at token {at + 1:,}"
    return words(found.places[0], clean_line(_text(found.places[0], plain[at]), 24), at)


def words(place: Place, chosen: str, at: int) -> str:
    """What is known of a choice of `chosen` at the index `at`, as one line."""
    token, rival = f"token {at + 1:,}", clean_line(place.rival, 24)
    close = f'"{chosen}" and "{rival}" were {place.lead:.2g} apart, rounding here is {place.rounding:.2g}'
    if can_part(place):
        return f"parted by rounding at {token}: {close}"
    return f"parted at {token}, which rounding does not explain: {close}. Please report this"


def can_part(place: Place) -> bool:
    """Whether rounding explains another choice at a place."""
    return place.tipped or abs(place.lead) <= _REACH * place.rounding > 0


def _text(place: Place, token: int) -> str:
    return next((each.text for each in place.main if each.token == token), str(token))
