"""Files of this user: paths as people type them, and files of ours that are replaced at once or not at all.

What we write nobody else may read or put a link in the place of, whatever the umask is. Where files are is
not known here.
"""

from __future__ import annotations

import os
from pathlib import Path


def typed(text: str) -> Path:
    """A path as a person types it. The ~ of a user whom nobody knows stays as it is."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def there(path: Path) -> bool:
    """Whether something lies there. A name that no file can have is of none."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def make_folder(path: Path) -> None:
    """The folder and those above it that are missing; only their owner enters them. Raises `OSError`."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def replace(path: Path, text: str, *, mode: int = 0o600, durable: bool = False) -> None:
    """Write a file so that it is there whole, or as it was; `durable`: also after a power cut.

    Raises `OSError`.
    """
    import tempfile

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
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if durable:
        _sync(path.parent)


def _sync(folder: Path) -> None:
    """Make the new name outlast a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
