"""Sizes, counts, ratios and models as people read them. A number that is not known is a dash."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .protocol import DraftVerdict, FoundModel, HubPair, ModelInfo

UNKNOWN = "–"


def named(model: FoundModel | ModelInfo) -> str:
    """A model's name, and that it is a demo where it is one. Foreign text."""
    return f"{model.name} (demo)" if model.demo and "demo" not in model.name.lower() else model.name


def number(value: float | None, unit: str, digits: int = 1) -> str:
    """ "61.2 tok/s", or a dash for what is not known."""
    return UNKNOWN if value is None else f"{value:,.{digits}f} {unit}".rstrip()


def size(count: int) -> str:
    """Bytes: "8.2 MB", "4.7 GB", in powers of ten as file managers and the hub count them."""
    for power, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= power:
            return f"{count / power:.{0 if count >= 100 * power else 1}f} {unit}"
    return f"{count} B" if count else UNKNOWN


def slowness(pair: HubPair) -> str:
    """That a pair is slow on the engine's machine, and how slow; empty if it is not."""
    return f"slow here: at most {number(pair.at_most, 'tok/s')}" if pair.slow else ""


def parameters(count: int) -> str:
    """Of a model: "7.0 M", "684 M", "8.0 B"."""
    for power, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= power:
            return f"{count / power:.{0 if count >= 100 * power else 1}f} {unit}"
    return str(count) if count else UNKNOWN


def context(tokens: int) -> str:
    """Tokens: "2,048", "128k"."""
    if not tokens:
        return UNKNOWN
    return f"{tokens // 1024}k" if tokens >= 10_000 and tokens % 1024 == 0 else f"{tokens:,}"


def moment(written: str, now: datetime) -> str:
    """When something was, seen from `now`: "14:02", "yesterday", "Monday", "12 Nov", "2025-11-12".

    `written` is ISO 8601 in UTC; `now` is local, and without a zone.
    """
    try:
        when = datetime.fromisoformat(written).astimezone().replace(tzinfo=None)
    except ValueError:
        return UNKNOWN
    days = (now.date() - when.date()).days
    if days == 0:
        return f"{when:%H:%M}"
    if days == 1:
        return "yesterday"
    if 1 < days < 7:
        return f"{when:%A}"
    return f"{when.day} {when:%b}" if when.year == now.year else f"{when:%Y-%m-%d}"


def duration(seconds: float) -> str:
    """As one says it: "8 s", "1 min 32 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def speed_up(verdict: DraftVerdict) -> str:
    """Whether it was measured or is predicted is always said."""
    if verdict.speed_up is None or not verdict.draft:
        return UNKNOWN
    ratio = f"{verdict.speed_up:.1f}×"
    if not verdict.answers:
        return f"predicted {ratio}"
    return f"measured {ratio} over {verdict.answers} answer{'s' * (verdict.answers > 1)}"
