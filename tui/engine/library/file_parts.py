"""The files of a model that comes in several. It reads none of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .gguf import UnusableModelFile

_MAX_PARTS = 999
_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)


def files_of(path: Path) -> list[Path]:
    """Return the files of a model: its parts, if `path` is named like the first one, or those of a folder."""
    if path.is_dir():
        return sorted(each for each in path.iterdir() if each.is_file())
    match = _PART.fullmatch(path.name)
    count = int(match[3]) if match and match[2] == "00001" else 1
    if not 1 < count <= _MAX_PARTS:
        return [path]
    return [path, *(part for part in other_parts(path, count) if part.is_file())]


def other_parts(path: Path, count: int) -> Iterator[Path]:
    """Yield the other files of the model whose first one of `count` is at `path`.

    Raises `UnusableModelFile` if `path` is not named like the first one.
    """
    if count <= 1:
        return
    match = _PART.fullmatch(path.name)
    if match is None or match[2] != "00001" or int(match[3]) != count or count > _MAX_PARTS:
        raise UnusableModelFile(
            f"this model comes in {count} files: choose the first, named ...-00001-of-..."
        )
    for number in range(2, count + 1):
        yield path.with_name(f"{match[1]}-{number:05d}-of-{count:05d}.gguf")
