"""Recorded answers of a model (`record_answers.py`) as batches to train a head on.

This module reads and pads; it holds no model.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from .batches import Batch, Row, batch


def recorded(path: Path) -> list[Row]:
    """The chats of a file. Only the tokens of answers count."""
    rows = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            chat = json.loads(line)
            before, tokens = chat["answer"], chat["tokens"]
            rows.append(Row(tokens, [0.0] * before + [1.0] * (len(tokens) - before)))
    return rows


def in_batches(rows: list[Row], tokens: int, seed: int) -> list[Batch]:
    """The rows in batches of at most so many tokens, in any order. Rows of like length share a batch."""
    gathered = list(_gathered(sorted(rows, key=lambda row: len(row.tokens)), tokens))
    random.Random(seed).shuffle(gathered)
    return [batch(each) for each in gathered]


def _gathered(rows: list[Row], tokens: int) -> Iterator[list[Row]]:
    together: list[Row] = []
    for row in rows:
        if together and (len(together) + 1) * len(row.tokens) > tokens:
            yield together
            together = []
        together.append(row)
    if together:
        yield together
