"""Stores small measured facts on disk, under everything that they depend on.

A fact depends on the files of some models, on a device, and on other given texts. A damaged file, or one for
other conditions, counts as missing. A full or read-only disk is not an error.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from ... import files

_END = 64 * 1024
_FIRST = re.compile(r"(.*)-00001-of-(\d{5})\.gguf", re.DOTALL)
"""The name of the first part of a model in several files."""


class StoredFact:
    """One JSON value in its own file."""

    def __init__(self, folder: Path, models: Iterable[str], rest: Sequence[str]) -> None:
        """`models` are the models' paths; `rest` are other texts on which the value depends."""
        marks = [fingerprint(Path(path)) for path in models]
        key = hashlib.sha256("\n".join([*marks, *rest]).encode("utf-8", "surrogateescape")).hexdigest()
        self._path = folder / f"{key[:32]}.json"

    def read(self) -> object:
        """Return the value; None if there is none."""
        try:
            return json.loads(self._path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None

    def write(self, value: object) -> None:
        """Store the value in place of the old one."""
        with suppress(OSError):
            files.replace(self._path, json.dumps(value))


def fingerprint(path: Path) -> str:
    """Return a hash of size and both ends of a file, which is quick; for a folder, of its files."""
    if path.is_dir():
        return "\n".join(
            f"{each.name} {fingerprint(each)}" for each in sorted(path.iterdir()) if each.is_file()
        )
    with suppress(OSError), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        digest = hashlib.sha256(str(size).encode())
        for place in (0, max(0, size - _END)):
            file.seek(place)
            digest.update(file.read(_END))
        return digest.hexdigest()
    return str(path)


def files_of(path: Path) -> list[Path]:
    """Return the files of a model: those of a folder, all parts if `path` is named like the first, or one."""
    if path.is_dir():
        return sorted(each for each in path.iterdir() if each.is_file())
    if not (match := _FIRST.fullmatch(path.name)):
        return [path]
    stem, count = match.groups()
    parts = (path.with_name(f"{stem}-{number:05d}-of-{count}.gguf") for number in range(1, int(count) + 1))
    return [part for part in parts if part.is_file()]
