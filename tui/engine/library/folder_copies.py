"""Copies of an MLX folder on several machines: the same files under perhaps another path.

A digest covers the settings, the index, and of each file of weights its name, its size and its header, which
names every tensor with its place. It does not read the weights themselves, which would take minutes. Each
machine of a ring checks its folder like any other one before it opens it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from .find import ModelFile, ModelFolder, find
from .gguf import BadModelFile
from .mlx_folder import Folder, is_folder, is_read, is_weights, read_folder

_MOST_HEADER = 64 << 20
"""Bytes of a header that are read, at most."""


def digest_of(folder: Folder) -> str:
    """Return the digest of the files in a folder. Raises `OSError`."""
    found = hashlib.sha256()
    for path in sorted(each for each in folder.path.iterdir() if is_read(each.name)):
        found.update(f"\n{path.name} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            if is_weights(path.name):
                length = int.from_bytes(file.read(8), "little")
                found.update(file.read(min(length, _MOST_HEADER)))
            else:
                found.update(file.read())
    return found.hexdigest()


def copy_here(name: str, path: str, digest: str, places: Iterable[ModelFolder]) -> tuple[str, str]:
    """Return the folder on this machine with this digest, and why there is none; one of both is empty.

    `path` is tried first, and then every model in `places`. `name` is shown.
    """
    other = ""
    for each in _candidates(Path(path), places):
        try:
            folder = read_folder(each)
            if digest_of(folder) == digest:
                return str(each), ""
        except (BadModelFile, OSError):
            continue
        if each == Path(path) or folder.name == name:
            other = f"its {name} has other files ({each})"
    return "", other or f"it has no copy of {name}"


def _candidates(path: Path, places: Iterable[ModelFolder]) -> Iterator[Path]:
    if is_folder(path):
        yield path
    for each in find(list(places)):
        if isinstance(each, ModelFile) and each.path != path and is_folder(each.path):
            yield each.path
