"""Fetches one file, bit-exact or not at all.

huggingface_hub starts a download anew after a kill and does not compare hashes, so the bytes are fetched
here: what has come lies beside the target under a name made of its hash, a later try goes on from there, and
it only becomes the file when size and hash are what the hub said of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any, BinaryIO

from ...files import make_folder
from .hub import HubError, RemoteFile, explained

PATIENCE = 20.0
"""Seconds without a byte after which a try is given up."""
TRIES = 6
"""Tries in a row that bring nothing new."""
ROOM = 1.05
"""Free space that is asked for, beside what is to come."""
_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0)
_PIECE = 1 << 20
_SLOWEST = 512
"""Bytes a second below which a connection is as good as none."""
_LATER = frozenset((408, 429, 500, 502, 503, 504))
"""What the hub answers when the same question may be answered later."""

Progress = Callable[[int], None]
"""Gets the number of bytes of the file that are here."""


class Unwanted(Exception):
    """The download was given up. What has come stays."""


class _Fault(Exception):
    """This try failed; another may not."""


def fetch(
    file: RemoteFile,
    target: Path,
    root: Path,
    progress: Progress = lambda done: None,
    wanted: Callable[[], bool] = lambda: True,
    pause: Callable[[float], None] = sleep,
) -> None:
    """Bring `file` to `target`, which lies below `root`. Does nothing if it is there, as the hub has it.

    Raises `HubError`, or `Unwanted` when it is not `wanted` any more.
    """
    make_folder(target.parent)
    if not target.parent.resolve().is_relative_to(root.resolve()):
        raise HubError(f"{target.parent} leads out of the folder for models", "Remove the link.")
    if target.is_file() and target.stat().st_size == file.size and _hash_of(target, file) == _expected(file):
        progress(file.size)
        return
    part = target.with_name(f".{_expected(file)[:24]}.part")
    with _locked(part) as content:
        _fill(file, content, progress, wanted, pause)
        if _hash_of(part, file) != _expected(file):
            os.truncate(part, 0)
            part.unlink()
            raise HubError(
                f"what came of {file.name} is not what the hub has: it was thrown away", "Try again."
            )
        os.fsync(content.fileno())
        part.replace(target)


@contextmanager
def _locked(part: Path) -> Iterator[BinaryIO]:
    """The part, for this process alone; never through a link."""
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise HubError(f"{part.parent} cannot be written: {error.strerror}", "Make it writable.") from None
    with os.fdopen(descriptor, "r+b", buffering=0) as content:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise HubError("another Outrider is fetching this file", "Wait for it.") from None
        yield content


def _fill(
    file: RemoteFile,
    content: BinaryIO,
    progress: Progress,
    wanted: Callable[[], bool],
    pause: Callable[[float], None],
) -> None:
    """Fetch until the part is as long as the file. Raises `HubError` and `Unwanted`."""
    if content.seek(0, os.SEEK_END) > file.size:
        content.truncate(0)
    failed, fault = 0, ""
    while (before := content.seek(0, os.SEEK_END)) < file.size:
        _check_room(content, file.size - before)
        if failed >= TRIES:
            raise HubError(f"{file.name} does not come through: {fault}", "Try again: it goes on from here.")
        if failed:
            _wait(_PAUSES[failed - 1], wanted, pause)
        try:
            _try(file, content, before, progress, wanted)
        except _Fault as error:
            fault = str(error)
        failed = failed + 1 if content.seek(0, os.SEEK_END) <= before else 0


def _try(
    file: RemoteFile, content: BinaryIO, begin: int, progress: Progress, wanted: Callable[[], bool]
) -> None:
    """One request from `begin` on. Raises `_Fault` for what another request may mend."""
    from huggingface_hub import get_session
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if begin:
        headers["Range"] = f"bytes={begin}-"
    session: Any = get_session()
    try:
        with session.stream(
            "GET", file.url, headers=headers, timeout=PATIENCE, follow_redirects=True
        ) as response:
            begin = _begin(file, response, content, begin)
            for piece in _pieces(response, file.size - begin):
                if not wanted():
                    raise Unwanted
                _write(content, piece)
                begin += len(piece)
                progress(begin)
    except (_Fault, HubError, Unwanted):
        raise
    except Exception as error:  # the network's, in whichever words huggingface_hub's own library has
        raise _Fault(type(error).__name__) from None


def _begin(file: RemoteFile, response: Any, content: BinaryIO, begin: int) -> int:
    """From which byte on the hub sends, with the part cut back to it."""
    status = int(response.status_code)
    if status in _LATER:
        raise _Fault(f"the hub answers with an error ({status})")
    if status not in (200, 206):
        if status == 416:  # what is here is no beginning of what is there
            content.truncate(0)
            raise _Fault("the hub has no more of it")
        raise explained(_Refused(response), file.repository)
    if response.headers.get("content-encoding", "identity") != "identity":
        raise _Fault("something on the way packs the bytes")
    if status == 206 and begin:
        said = str(response.headers.get("content-range", ""))
        if not said.startswith(f"bytes {begin}-"):
            content.truncate(0)
            raise _Fault("the hub sends another part than was asked for")
        return begin
    content.truncate(0)
    content.seek(0)
    return 0


class _Refused(Exception):
    """Carries a response to `explained`."""

    def __init__(self, response: Any) -> None:
        super().__init__()
        self.response = response


def _pieces(response: Any, most: int) -> Iterator[bytes]:
    """The body as it comes, in time. Raises `_Fault` for more than `most` bytes, and for a trickle."""
    began, got = monotonic(), 0
    for piece in response.iter_raw():  # pieces of a size would be lost where the body breaks off
        got += len(piece)
        if got > most:
            raise _Fault("the hub sends more than it said")
        yield piece
        if monotonic() - began > PATIENCE and got < _SLOWEST * (monotonic() - began):
            raise _Fault("the hub hardly sends anything")


def _check_room(content: BinaryIO, missing: int) -> None:
    free = shutil.disk_usage(content.fileno()).free
    if free < ROOM * missing:
        raise HubError(
            f"the disk has no room: {missing / 1e9:.1f} GB are to come, {free / 1e9:.1f} GB are free",
            "Make room: it goes on from here.",
        )


def _write(content: BinaryIO, piece: bytes) -> None:
    try:
        while piece:
            piece = piece[content.write(piece) :]
    except OSError as error:
        reason = f"what comes cannot be written: {error.strerror}"
        raise HubError(reason, "Make room: it goes on from here.") from None


def _wait(seconds: float, wanted: Callable[[], bool], pause: Callable[[float], None]) -> None:
    while seconds > 0:
        if not wanted():
            raise Unwanted
        pause(min(seconds, 0.25))
        seconds -= 0.25


def _expected(file: RemoteFile) -> str:
    return file.sha256 or file.sha1


def _hash_of(path: Path, file: RemoteFile) -> str:
    """As the hub counts it: SHA-256 of the bytes, or git's SHA-1 of a small file."""
    digest = hashlib.sha256()
    if not file.sha256:
        digest = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as content:
        while piece := content.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
