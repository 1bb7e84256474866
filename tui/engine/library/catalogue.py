"""Pairs that are known to work together, for users who have no model yet.

They are proposals: nothing is downloaded unasked. The hub knows the present files of each repository.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from ...protocol import HubPair
from ..machine.hardware import USABLE
from .short_name import short_name


def pairs_for(memory: int, at_most: Callable[[int], float | None] = lambda size: None) -> tuple[HubPair, ...]:
    """Return the pairs that fit into `memory` bytes, in the order of `ProposePairs`; the smallest pair if
    none fits.

    `at_most` gives the largest possible tokens per second of a pair with so many bytes, None for no bound.
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
    """Return the short name of REPOSITORY:QUANTIZATION, which has the form of an Ollama tag."""
    return short_name(Path(), "", "", main)
