"""Models in several GGUF files, as llama.cpp names them: NAME-00001-of-00003.gguf and so on.

It opens no file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

MOST = 999
"""Most files of a model. A name that claims more is taken for damaged."""
_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)


class SplitPart(NamedTuple):
    """One file of a model in several files."""

    stem: str
    number: int
    total: int

    @property
    def names(self) -> list[str]:
        """The names of all files, the first one first; at most `MOST`."""
        numbers = range(1, max(1, min(self.total, MOST)) + 1)
        return [f"{self.stem}-{number:05d}-of-{self.total:05d}.gguf" for number in numbers]


def part_of(name: str) -> SplitPart | None:
    """Return the part that a file with this name is; None if the name is not that of a part."""
    found = _NAME.fullmatch(name)
    return SplitPart(found[1], int(found[2]), int(found[3])) if found else None


def files_of(path: Path) -> list[Path]:
    """Return the files of a model: its parts, if `path` is named like the first one, or those of a folder.

    Raises `OSError` if the folder cannot be read.
    """
    if path.is_dir():
        return sorted(each for each in path.iterdir() if each.is_file())
    part = part_of(path.name)
    if part is None or part.number != 1 or not 1 < part.total <= MOST:
        return [path]
    return [path, *(each for name in part.names[1:] if (each := path.with_name(name)).is_file())]
