"""Sizes, counts, ratios and models as people read them. A number that is not known is a dash."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

if TYPE_CHECKING:
    from .protocol import DraftVerdict, FoundModel, HubPair, ModelInfo, Rounding

UNKNOWN = "–"
_SIZE = re.compile(r"(?<![\w.])(?:\d+x)?[EA]?\d+(?:\.\d+)?[BM](?!\w)")
"""As it stands in the name of a model: "1.5B", "135M", "8x7B"."""


def cells(share: float, width: int) -> int:
    """How many cells of a bar a share fills, whatever the share is: it may come from another machine."""
    return round(width * min(1.0, max(0.0, share)))


def named(model: FoundModel | ModelInfo) -> str:
    """A model's name, and that it is a demo where it is one. Foreign text."""
    return f"{model.name} (demo)" if model.demo and "demo" not in model.name.lower() else model.name


def shortened(name: str, room: int) -> str:
    """A model's name in at most `room` cells: its middle gives way, its size and what follows last of all."""
    if cell_len(name) <= room:
        return name
    found = _SIZE.search(name)
    end = name[found.start() :] if found else ""
    if not end or cell_len(end) > room - 2:
        end = set_cell_size(name[::-1], max(0, room // 2))[::-1].lstrip()
    begin = set_cell_size(name, max(0, room - 1 - cell_len(end))).rstrip()
    return f"{begin}…{end}" if room > 0 else ""


def prompt_form(model: FoundModel | ModelInfo) -> str:
    """How a model takes what is said to it, where that is not its own chat template; empty where it is."""
    if model.prompt_form == "text":
        return "base model without a chat template: it continues your text"
    return "no chat template: ChatML is assumed" if model.prompt_form == "chatml" else ""


def rounding(measured: Rounding) -> tuple[str, str]:
    """What is known of the rounding of a main model: ("exact", "up to 3 rows"), ("rounding", "0.04")."""
    if measured.exact:
        return "exact", f"up to {measured.rows} rows" if measured.rows > 1 else "no drafts"
    return "rounding", f"{measured.deviation:.2g}" if measured.deviation else "none found"


def number(value: float | None, unit: str, digits: int = 1) -> str:
    """ "61.2 tok/s", or a dash for what is not known."""
    return UNKNOWN if value is None else f"{value:,.{digits}f} {unit}".rstrip()


def percent(share: float) -> str:
    """A share of 1 in words: "75 %"."""
    return f"{share * 100:.0f} %"


def size(count: int) -> str:
    """Bytes: "8.2 MB", "4.7 GB", in powers of ten as file managers and the hub count them."""
    for power, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= power:
            return f"{count / power:.{0 if count >= 100 * power else 1}f} {unit}"
    return f"{count} B" if count else UNKNOWN


def slowness(pair: HubPair) -> str:
    """That a pair is slow on the engine's machine, and how slow; empty if it is not."""
    return f"slow here: at most {number(pair.at_most, 'tok/s')}" if pair.slow else ""


def parameters(model: FoundModel) -> str:
    """As its name says them, "1.5B", or as its tensors hold them: "7.0M", "684M".

    Both are true, and differ: a file may hold a table twice that its maker counts once, or not at all.
    """
    if found := _SIZE.search(model.name):
        return found[0]
    count = model.parameters
    for power, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= power:
            return f"{count / power:.{0 if count >= 100 * power else 1}f}{unit}"
    return str(count) if count else UNKNOWN


def context(tokens: int) -> str:
    """Tokens: "2k", "128k"; "1,000,000" where it is no multiple of 1,024."""
    if not tokens:
        return UNKNOWN
    return f"{tokens // 1024}k" if tokens % 1024 == 0 else f"{tokens:,}"


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
