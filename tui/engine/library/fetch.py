"""Downloads one file. The result is identical to the hub's file, or there is no result.

huggingface_hub restarts a killed download from zero and does not compare hashes, so this module fetches the
bytes itself. They collect in a part file beside the target, named after the hash, and a later try continues
it. The part becomes the file only when its size and hash are those that the hub announced.
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
from .hub import RemoteFile
from .hub_access import (
    ANYBODY,
    LATER,
    LONGEST_WAIT,
    REJECTED,
    HubError,
    TryLater,
    find_token,
    rejection,
    seconds_to_wait,
    why_later,
)

PATIENCE = 20.0
"""Seconds without a byte after which a try ends."""
TRIES = 6
"""Most tries in a row that bring no new bytes."""
ROOM = 1.05
"""Required free space on the disk, as a multiple of the bytes still to come."""
_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0)
_PIECE = 1 << 20
_SLOWEST = 512
"""Bytes per second. A slower connection counts as broken."""

Progress = Callable[[int], None]
"""Receives the number of bytes of the file that have arrived."""
Report = Callable[[str], None]
"""Receives the reason for a pause, once a second while it lasts."""


class Unwanted(Exception):
    """The download was canceled. The bytes that have arrived stay."""


class _Fault(Exception):
    """This try failed; another may succeed."""


class _TokenRejected(Exception):
    """The hub rejects this token; a try without it may succeed."""

    def __init__(self, error: HubError) -> None:
        super().__init__()
        self.error = error


def fetch(
    file: RemoteFile,
    target: Path,
    root: Path,
    progress: Progress = lambda done: None,
    wanted: Callable[[], bool] = lambda: True,
    pause: Callable[[float], None] = sleep,
    report: Report = lambda reason: None,
) -> None:
    """Download `file` to `target`, which lies below `root`. Do nothing if the hub's version is already there.

    `report` hears of each pause that the hub asks for. Raises `HubError`, and `Unwanted` when `wanted` says
    no.
    """
    make_folder(target.parent)
    if not target.parent.resolve().is_relative_to(root.resolve()):
        raise HubError(f"{target.parent} leads out of the folder for models", "Remove the link.")
    if target.is_file() and target.stat().st_size == file.size and _hash_of(target, file) == _expected(file):
        progress(file.size)
        return
    part = target.with_name(f".{_expected(file)[:24]}.part")
    with _locked(part) as content:
        _Transfer(file, content, progress, wanted).fill(pause, report)
        if _hash_of(part, file) != _expected(file):
            os.truncate(part, 0)
            part.unlink()
            raise HubError(
                f"the download differs from the hub's file and was deleted: {file.name}", "Try again."
            )
        os.fsync(content.fileno())
        part.replace(target)


@contextmanager
def _locked(part: Path) -> Iterator[BinaryIO]:
    """Open the part and lock it for this process; links are not followed."""
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


class _Transfer:
    """The download of one file into its part."""

    def __init__(
        self, file: RemoteFile, content: BinaryIO, progress: Progress, wanted: Callable[[], bool]
    ) -> None:  # fmt: skip
        self._file = file
        self._content = content
        self._progress = progress
        self._wanted = wanted
        self._token = find_token()
        self._rejection: HubError | None = None
        """The rejection of the token, if the hub rejected it."""

    def fill(self, pause: Callable[[float], None], report: Report) -> None:
        """Fetch until the part has the file's full size. Raises `HubError` and `Unwanted`."""
        if self._here() > self._file.size:
            self._content.truncate(0)
        failed, waited, fault = 0, 0.0, ""
        while (before := self._here()) < self._file.size:
            _check_room(self._content, self._file.size - before)
            if failed >= TRIES:
                reason = f"the download of {self._file.name} failed: {fault}"
                raise HubError(reason, "Try again: the download continues from here.")
            if failed:
                _wait(_PAUSES[failed - 1], self._wanted, pause)
            try:
                self._try(before)
            except _TokenRejected as error:
                self._token, self._rejection = ANYBODY, error.error
                continue
            except TryLater as later:
                if (waited := waited + later.seconds) > LONGEST_WAIT:
                    raise
                self._progress(before)
                wait(later, self._wanted, pause, report)
                continue
            except _Fault as error:
                fault = str(error)
            failed, waited = (0, 0.0) if self._here() > before else (failed + 1, waited)

    def _here(self) -> int:
        """Return the size of the part in bytes."""
        return self._content.seek(0, os.SEEK_END)

    def _try(self, begin: int) -> None:
        """Send one request for the bytes from `begin` on. Raises `_Fault` if another request may succeed."""
        from huggingface_hub import get_session
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        headers = {**build_hf_headers(token=self._token.sent), "Accept-Encoding": "identity"}
        if begin:
            headers["Range"] = f"bytes={begin}-"
        session: Any = get_session()
        try:
            with session.stream(
                "GET", self._file.url, headers=headers, timeout=PATIENCE, follow_redirects=True
            ) as response:
                self._check(response)
                begin = _begin(response, self._content, begin)
                for piece in _pieces(response, self._file.size - begin):
                    if not self._wanted():
                        raise Unwanted
                    _write(self._content, piece)
                    begin += len(piece)
                    self._progress(begin)
        except (_Fault, _TokenRejected, HubError, Unwanted):
            raise
        except Exception as error:  # errors of the network, with the types of huggingface_hub's HTTP library
            raise _Fault(type(error).__name__) from None

    def _check(self, response: Any) -> None:
        """Raise if the response is not a file: `_Fault` if another request may bring it."""
        status = int(response.status_code)
        if status in LATER:
            if seconds := seconds_to_wait(response):
                raise TryLater(seconds, why_later(status))
            raise _Fault(f"the hub answers with an error ({status})")
        if status == 416:  # the part is not a beginning of the hub's file
            self._content.truncate(0)
            raise _Fault("the hub has no bytes after the present part")
        if status in (200, 206):
            return
        if status == 403 and response.history:  # a temporary address that the hub made has expired
            raise _Fault("the hub's store rejects it")
        error = rejection(response, self._file.repository, self._token)
        if status in REJECTED and self._token.text:
            raise _TokenRejected(error)
        raise self._rejection or error


def _begin(response: Any, content: BinaryIO, begin: int) -> int:
    """Return the first byte that the hub sends, and cut the part back to it."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise _Fault("a program on the way compresses the bytes")
    if int(response.status_code) == 206 and begin:
        said = str(response.headers.get("content-range", ""))
        if not said.startswith(f"bytes {begin}-"):
            content.truncate(0)
            raise _Fault("the hub sends another part than was asked for")
        return begin
    content.truncate(0)
    content.seek(0)
    return 0


def _pieces(response: Any, most: int) -> Iterator[bytes]:
    """Yield the body as it arrives. Raises `_Fault` for more than `most` bytes, or if it is too slow."""
    began, got = monotonic(), 0
    for piece in response.iter_raw():  # pieces of a fixed size would be lost if the body breaks off
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
            f"the disk has no room: the rest takes {missing / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
            "Free some space and try again: the download continues from here.",
        )


def _write(content: BinaryIO, piece: bytes) -> None:
    try:
        while piece:
            piece = piece[content.write(piece) :]
    except OSError as error:
        reason = f"the download cannot be written: {error.strerror}"
        raise HubError(reason, "Free some space and try again: the download continues from here.") from None


def wait(
    later: TryLater,
    wanted: Callable[[], bool],
    pause: Callable[[float], None] = sleep,
    report: Report = lambda reason: None,
) -> None:
    """Wait as long as the hub asks for, and report it. Raises `Unwanted`."""
    left = later.seconds
    while left > 0:
        report(str(TryLater(left, later.reason)))
        _wait(min(left, 1.0), wanted, pause)
        left -= 1.0
    report("")


def _wait(seconds: float, wanted: Callable[[], bool], pause: Callable[[float], None]) -> None:
    while seconds > 0:
        if not wanted():
            raise Unwanted
        pause(min(seconds, 0.25))
        seconds -= 0.25


def _expected(file: RemoteFile) -> str:
    return file.sha256 or file.sha1


def _hash_of(path: Path, file: RemoteFile) -> str:
    """Return the hub's kind of hash: SHA-256 of the bytes, or git's SHA-1 of a small file."""
    digest = hashlib.sha256()
    if not file.sha256:
        digest = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as content:
        while piece := content.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
