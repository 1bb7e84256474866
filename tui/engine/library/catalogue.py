"""Pairs that are known to work together, for users who have no model yet.

They are proposals: nothing is downloaded unasked. The hub knows the present files of each repository.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...choices import HEAD
from ...protocol import HubPair
from ..machine.hardware import USABLE
from .short_name import short_name


def pairs_for(memory: int, at_most: Callable[[int], float | None] = lambda size: None) -> tuple[HubPair, ...]:
    """Return the pairs that fit into `memory` bytes, in the order of `ProposePairs`; the smallest pair if
    none fits.

    `at_most` gives the largest possible tokens per second of a pair with so many bytes, None for no bound.
    """
    data = tomllib.loads(Path(__file__).with_name("catalogue.toml").read_text("utf-8"))
    pairs = [_pair(each, at_most) for each in data["pair"]]
    fitting = [pair for pair in pairs if pair.size <= USABLE * memory] or [
        min(pairs, key=lambda pair: pair.size)
    ]
    return tuple(sorted(fitting, key=_rank))


def _pair(entry: dict[str, Any], at_most: Callable[[int], float | None]) -> HubPair:
    main, draft, size = entry["main"], entry["draft"], round(entry["gigabytes"] * 1e9)
    bound = at_most(size)
    if bound is not None:  # a mixture of experts reads only a part of its weights for a token
        bound /= entry.get("active", 1.0)
    return HubPair(_name(main), main, draft, size, bound, draft == HEAD or entry.get("head", False))


def _rank(pair: HubPair) -> tuple[bool, float]:
    return pair.slow, -(pair.at_most or 0.0) if pair.slow else -pair.size


def _name(main: str) -> str:
    """Return the short name of REPOSITORY:QUANTIZATION, which has the form of an Ollama tag."""
    return short_name(Path(), "", "", main)
