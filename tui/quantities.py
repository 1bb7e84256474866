"""Formats sizes, counts, ratios and models for people. Unknown numbers are a dash."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

from .choices import HEAD

if TYPE_CHECKING:
    from .protocol import DraftVerdict, FoundModel, HubPair, ModelFacts, Rounding

UNKNOWN = "–"
_SIZE = re.compile(r"(?<![\w.])(?:\d+x)?[EA]?\d+(?:\.\d+)?[BM](?!\w)")
"""A size in the name of a model: "1.5B", "135M", "8x7B"."""


def cells(share: float, width: int) -> int:
    """Return how many cells of a bar a share fills. It may come from another machine and have any value."""
    return round(width * min(1.0, max(0.0, share)))


def bar(share: float, width: int) -> str:
    """Return a bar of `width` cells, of which `share` is full. `share` is as in `cells`."""
    full = cells(share, width)
    return "█" * full + "░" * (width - full)


def named(model: ModelFacts) -> str:
    """Return a model's name, with a remark if it is a demo. Not trusted text."""
    return f"{model.name} (demo)" if model.demo and "demo" not in model.name.lower() else model.name


def shortened(name: str, room: int) -> str:
    """Return a model's name in at most `room` cells. The middle is cut first, the size and the end last."""
    if cell_len(name) <= room:
        return name
    found = _SIZE.search(name)
    end = name[found.start() :] if found else ""
    if not end or cell_len(end) > room - 2:
        end = set_cell_size(name[::-1], max(0, room // 2))[::-1].lstrip()
    begin = set_cell_size(name, max(0, room - 1 - cell_len(end))).rstrip()
    return f"{begin}…{end}" if room > 0 else ""


def prompt_form(model: ModelFacts) -> str:
    """Return how a model takes a conversation if not by its own chat template; else empty."""
    if model.prompt_form == "text":
        return "base model without a chat template: it continues your text"
    return "no chat template: ChatML is assumed" if model.prompt_form == "chatml" else ""


def rounding(measured: Rounding) -> tuple[str, str]:
    """Return the known rounding of a main model: ("exact", "up to 3 rows"), ("rounding", "0.04")."""
    if measured.exact:
        return "exact", f"up to {measured.rows} rows" if measured.rows > 1 else "no drafts"
    return "rounding", f"{measured.deviation:.2g}" if measured.deviation else "none found"


def number(value: float | None, unit: str, digits: int = 1) -> str:
    """Return "61.2 tok/s", or a dash for an unknown value."""
    return UNKNOWN if value is None else f"{value:,.{digits}f} {unit}".rstrip()


def percent(share: float, digits: int = 0) -> str:
    """Return a share of 1 as a percentage: "75 %"."""
    return f"{share * 100:.{digits}f} %"


def delay(seconds: float | None) -> str:
    """Return the seconds of a round trip: "0.4 ms", "12 ms"."""
    if seconds is None:
        return UNKNOWN
    return number(seconds * 1000, "ms", 1 if seconds < 0.01 else 0)


def size(count: int) -> str:
    """Return bytes as "8.2 MB" or "4.7 GB", in powers of ten like file managers and the hub."""
    return _scaled(count, ((1e9, " GB"), (1e6, " MB"), (1e3, " kB"), (1, " B")))


def _scaled(count: int, units: Sequence[tuple[float, str]]) -> str:
    """Return a number in the first unit that it reaches, with one decimal place below a hundred of them."""
    for power, unit in units:
        if count >= power:
            return f"{count / power:.{0 if power == 1 or count >= 100 * power else 1}f}{unit}"
    return UNKNOWN


def slowness(pair: HubPair) -> str:
    """Return how slow a pair is on the engine's machine; empty if it is not slow."""
    return f"slow here: at most {number(pair.at_most, 'tok/s')}" if pair.slow else ""


def with_head(pair: HubPair) -> str:
    """Return where the head of a pair is; empty if its draft is a model."""
    if pair.draft == HEAD:
        return "with its own head"
    return "with its head in a second file" if pair.head else ""


def parameters(model: FoundModel) -> str:
    """Return the number of parameters: from the name, "1.5B", or from the tensors, "7.0M", "684M".

    Both are true, but they differ: the maker may count a table once that the file holds twice, or not at all.
    """
    if found := _SIZE.search(model.name):
        return found[0]
    return _scaled(model.parameters, ((1e9, "B"), (1e6, "M"), (1e3, "k"), (1, "")))


def context(tokens: int) -> str:
    """Return tokens as "2k" or "128k"; "1,000,000" if it is no multiple of 1,024."""
    if not tokens:
        return UNKNOWN
    return f"{tokens // 1024}k" if tokens % 1024 == 0 else f"{tokens:,}"


def moment(written: str, now: datetime) -> str:
    """Return a time as seen from `now`: "14:02", "yesterday", "Monday", "12 Nov", "2025-11-12".

    `written` is ISO 8601 in UTC. `now` is local time without a zone.
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
    """Return a duration in spoken form: "8 s", "1 min 32 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def speed_up(verdict: DraftVerdict) -> str:
    """Return the speed-up, always marked as measured or predicted."""
    if verdict.speed_up is None or not verdict.draft:
        return UNKNOWN
    ratio = f"{verdict.speed_up:.1f}×"
    if not verdict.answers:
        return f"predicted {ratio}"
    return f"measured {ratio} over {verdict.answers} answer{'s' * (verdict.answers > 1)}"
