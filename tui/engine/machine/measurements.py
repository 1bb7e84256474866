"""Small facts that were measured once, kept on disk under all that they depend on.

A fact belongs to the files of some models, to a device and to whatever else changes it. A file that is
damaged, or that was written for something else, is as good as none; a disk that is full or read-only is no
failure.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from ... import files

_END = 64 * 1024


class Note:
    """One JSON value in a file of its own."""

    def __init__(self, folder: Path, models: Iterable[str], rest: Sequence[str]) -> None:
        """`models` are the paths of the models that it is about; `rest` is what else it depends on."""
        marks = [_fingerprint(Path(path)) for path in models]
        key = hashlib.sha256("\n".join([*marks, *rest]).encode()).hexdigest()
        self._path = folder / f"{key[:32]}.json"

    def read(self) -> object:
        """The value; None if there is none."""
        try:
            return json.loads(self._path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None

    def write(self, value: object) -> None:
        """Keep it, in place of an older one."""
        with suppress(OSError):
            files.replace(self._path, json.dumps(value))


def _fingerprint(path: Path) -> str:
    """Size and both ends of a file, as all of it takes too long to read; of a folder, those of its files."""
    if path.is_dir():
        return "\n".join(
            f"{each.name} {_fingerprint(each)}" for each in sorted(path.iterdir()) if each.is_file()
        )
    with suppress(OSError), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        digest = hashlib.sha256(str(size).encode())
        for place in (0, max(0, size - _END)):
            file.seek(place)
            digest.update(file.read(_END))
        return digest.hexdigest()
    return str(path)
