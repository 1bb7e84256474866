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
from .access import (
    ANYBODY,
    LATER,
    LONGEST_WAIT,
    REFUSED,
    HubError,
    TryLater,
    explained,
    find_token,
    seconds_to_wait,
    why_later,
)
from .hub import RemoteFile

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

Progress = Callable[[int], None]
"""Gets the number of bytes of the file that are here."""
Report = Callable[[str], None]
"""Gets the reason why nothing comes, once a second as long as that is so."""


class Unwanted(Exception):
    """The download was given up. What has come stays."""


class _Fault(Exception):
    """This try failed; another may not."""


class _TokenRefused(Exception):
    """The hub gives the file to nobody with this token; without one it may."""

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
    """Bring `file` to `target`, which lies below `root`. Does nothing if it is there, as the hub has it.

    Where the hub asks to wait, `report` is told so. Raises `HubError`, or `Unwanted` when it is not `wanted`
    any more.
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


class _Transfer:
    """One file on its way into its part."""

    def __init__(
        self, file: RemoteFile, content: BinaryIO, progress: Progress, wanted: Callable[[], bool]
    ) -> None:  # fmt: skip
        self._file = file
        self._content = content
        self._progress = progress
        self._wanted = wanted
        self._token = find_token()
        self._refusal: HubError | None = None
        """Of the token, where it was refused."""

    def fill(self, pause: Callable[[float], None], report: Report) -> None:
        """Fetch until the part is as long as the file. Raises `HubError` and `Unwanted`."""
        if self._here() > self._file.size:
            self._content.truncate(0)
        failed, waited, fault = 0, 0.0, ""
        while (before := self._here()) < self._file.size:
            _check_room(self._content, self._file.size - before)
            if failed >= TRIES:
                reason = f"{self._file.name} does not come through: {fault}"
                raise HubError(reason, "Try again: it goes on from here.")
            if failed:
                _wait(_PAUSES[failed - 1], self._wanted, pause)
            try:
                self._try(before)
            except _TokenRefused as error:
                self._token, self._refusal = ANYBODY, error.error
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
        """Bytes of the part."""
        return self._content.seek(0, os.SEEK_END)

    def _try(self, begin: int) -> None:
        """One request from `begin` on. Raises `_Fault` for what another request may mend."""
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
        except (_Fault, _TokenRefused, HubError, Unwanted):
            raise
        except Exception as error:  # the network's, in whichever words huggingface_hub's own library has
            raise _Fault(type(error).__name__) from None

    def _check(self, response: Any) -> None:
        """Raise for an answer that is no file: `_Fault` where another request may bring it."""
        status = int(response.status_code)
        if status in LATER:
            if seconds := seconds_to_wait(response):
                raise TryLater(seconds, why_later(status))
            raise _Fault(f"the hub answers with an error ({status})")
        if status == 416:  # what is here is no beginning of what is there
            self._content.truncate(0)
            raise _Fault("the hub has no more of it")
        if status in (200, 206):
            return
        if status == 403 and response.history:  # an address that the hub made, and that is good for a time
            raise _Fault("the hub's store refuses it")
        error = explained(_Refused(response), self._file.repository, self._token)
        if status in REFUSED and self._token.text:
            raise _TokenRefused(error)
        raise self._refusal or error


def _begin(response: Any, content: BinaryIO, begin: int) -> int:
    """From which byte on the hub sends, with the part cut back to it."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise _Fault("something on the way packs the bytes")
    if int(response.status_code) == 206 and begin:
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


def wait(
    later: TryLater,
    wanted: Callable[[], bool],
    pause: Callable[[float], None] = sleep,
    report: Report = lambda reason: None,
) -> None:
    """Wait for a hub that asks for it, and say so. Raises `Unwanted`."""
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
    """As the hub counts it: SHA-256 of the bytes, or git's SHA-1 of a small file."""
    digest = hashlib.sha256()
    if not file.sha256:
        digest = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as content:
        while piece := content.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
