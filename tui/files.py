"""Files of this user: typed paths, and our files, which are replaced as a whole or not at all.

Nobody else may read our files or put a link in their place, with any umask. This module knows no paths.
"""

from __future__ import annotations

import os
from pathlib import Path


def typed(text: str) -> Path:
    """Return the path that a user typed. The ~ of an unknown user stays as it is."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def there(path: Path) -> bool:
    """Return whether something exists at `path`; False for an impossible name."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def make_folder(path: Path) -> None:
    """Create the folder and its missing parents, only for their owner. Raises `OSError`."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def replace(path: Path, text: str, *, mode: int = 0o600, durable: bool = False) -> None:
    """Write a file as a whole or leave it as it was; with `durable`, also through a power cut.

    Raises `OSError`.
    """
    import tempfile  # only a write needs it, and `outrider --help` waits for this module

    make_folder(path.parent)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:  # whatever ends the write: no part of a file may stay
        Path(name).unlink(missing_ok=True)
        raise
    if durable:
        _sync(path.parent)


def _sync(folder: Path) -> None:
    """Make the new name survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
