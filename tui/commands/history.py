"""`outrider history`: lists or searches earlier chats without the screen. It changes nothing."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

from ..clean import clean_line
from ..paths import find_places
from ..quantities import moment
from ..store.store import Listed, Store
from .models import show, table

if TYPE_CHECKING:
    import argparse

_TITLE = 60


def run(arguments: argparse.Namespace) -> int:
    """Print the list and return the exit code."""
    path = find_places().chats
    found: list[Listed] = []
    try:
        if path.exists():
            with closing(Store.open(path)) as store:
                found = store.listed(" ".join(arguments.words))
    except (sqlite3.Error, OSError) as error:
        print(f"outrider: the chats cannot be read: {error}", file=sys.stderr)
        return 1
    show(arguments.json, [asdict(each) for each in found], listed_text(found, datetime.now()))
    return 0


def listed_text(chats: Sequence[Listed], now: datetime) -> Iterator[str]:
    """Yield a line for each chat: pinned ones first, then latest first."""
    if not chats:
        yield "no chat has these words, or there is none yet"
        return
    rows = [("chat", "messages", "when", "title")]
    for each in chats:
        mark = "● " if each.pinned else ""
        title = mark + clean_line(each.title, _TITLE)
        rows.append((clean_line(each.key), f"{each.messages:,}", moment(each.written, now), title))
    yield from table(rows, "<><<")
    yield ""
    yield "outrider --continue CHAT goes on with one; without CHAT, with the latest."
