"""Pairs that are known to go together, for someone who has no model yet. They are proposed, never fetched
unasked; what the repositories hold by now, the hub says.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from ...protocol import HubPair
from .short_name import short_name

USABLE = 0.75
"""Of the memory: the rest is for caches, and for everything else that runs."""


def pairs_for(memory: int, at_most: Callable[[int], float | None] = lambda size: None) -> tuple[HubPair, ...]:
    """The pairs that fit into so many bytes, as `ProposePairs` has them; the smallest of all if none does.

    `at_most` gives the tokens a second that a pair of so many bytes cannot exceed, None for no bound.
    """
    data = tomllib.loads(Path(__file__).with_name("catalogue.toml").read_text("utf-8"))
    pairs = [
        HubPair(_name(each["main"]), each["main"], each["draft"], round(each["gigabytes"] * 1e9))
        for each in data["pair"]
    ]
    fitting = [pair for pair in pairs if pair.size <= USABLE * memory]
    bounded = [replace(pair, at_most=at_most(pair.size)) for pair in fitting or pairs[:1]]
    return tuple(sorted(bounded, key=lambda pair: (pair.slow, pair.size if pair.slow else -pair.size)))


def _name(main: str) -> str:
    """REPOSITORY:QUANTIZATION as a name: it reads as a tag of Ollama does."""
    return short_name(Path(), "", "", main)
