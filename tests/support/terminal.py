"""A terminal for tests: runs a program in a pty, answers its queries, feeds it keys, checks its output."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence

import pyte

from tests.support.paths import ROOT
from tui.engine.backends.selection import SCRIPTED

QUERIES = {
    b"\x1b[?2026$p": b"\x1b[?2026;2$y",
    b"\x1b[?2048$p": b"\x1b[?2048;0$y",
    b"\x1b[6n": b"\x1b[1;1R",
    b"\x1b[c": b"\x1b[?62;22c",
}
"""What a program asks, and what a modern terminal answers."""

# Makes the pty the session's own terminal, so that a new size reaches the program. Not pty.fork: a fork of a
# process with threads is a warning.
_LEAD = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


_FOREIGN = dict.fromkeys(("NO_COLOR", "TMUX", "SSH_CONNECTION", "COLUMNS", "LINES"))
"""Variables of the surroundings that a program must not see. A worker of pytest has COLUMNS=80, which would
count more than the size of the terminal."""


class Terminal:
    """A program in a pty of its own. Use as a context manager: it ends the program, and only that one."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        rows: int = 30,
        columns: int = 100,
        env: Mapping[str, str | None] | None = None,
    ) -> None:
        """`env` is laid over the environment; None takes a variable away."""
        full = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONPATH": str(ROOT)}
        full[SCRIPTED] = f"{__package__}.scripted"
        for name, value in {**_FOREIGN, **(env or {})}.items():
            if value is None:
                full.pop(name, None)
            else:
                full[name] = value
        self.output = bytearray()
        self.status: int | None = None
        """The exit status, or minus the signal, once the program has ended."""
        self._answered = 0
        self._size = columns, rows
        self._screens: dict[int, _Screen] = {}
        self._fd, theirs = pty.openpty()
        self.resize(rows, columns)
        lead = [sys.executable, "-I", "-S", "-c", _LEAD]
        self._process = subprocess.Popen(
            [*lead, *command], stdin=theirs, stdout=theirs, stderr=theirs, env=full, start_new_session=True
        )
        os.close(theirs)
        self.pid = self._process.pid

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.status is None:
            self._process.kill()
            self._reap()
        os.close(self._fd)

    def send(self, keys: bytes) -> None:
        """Type `keys`, and read meanwhile: else the program may wait for us, and we for it."""
        os.set_blocking(self._fd, False)
        while keys and self.status is None:
            try:
                keys = keys[os.write(self._fd, keys) :]
            except BlockingIOError:
                self._read(0.05)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait(self, until: Callable[[], object] | bytes, seconds: float = 60) -> None:
        """Read until `until` is true, or those bytes have been written. Raises TimeoutError."""
        done = (lambda: until in self.output) if isinstance(until, bytes) else until
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                raise TimeoutError(
                    f"not seen: {until!r}; last: {bytes(self.output[-400:])!r}\n{self.screen()}"
                )
            if not self._read(0.05) and self.status is not None and not done():
                raise TimeoutError(
                    f"ended with {self.status}, not seen: {until!r}; {bytes(self.output[-2000:])!r}"
                )

    def exit(self, seconds: float = 60) -> int:
        """Read until the program has ended; its exit status."""
        self.wait(lambda: self.status is not None, seconds)
        assert self.status is not None
        return self.status

    def screen(self, begin: int = 0) -> str:
        """The lines that it shows of all that was written since the byte `begin`."""
        shown = self._screens.setdefault(begin, _Screen(self._size, begin))
        return shown.after(self.output)

    def drain(self) -> None:
        """Read all that has been written by now."""
        while self._read(0):
            pass

    def pump(self, seconds: float) -> None:
        """Read for that long, or until the program ends."""
        end = time.monotonic() + seconds
        while self.status is None and (left := end - time.monotonic()) > 0:
            self._read(min(left, 0.05))

    def _read(self, seconds: float) -> bool:
        if self.status is not None or not select.select([self._fd], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:
            data = b""
        if not data:
            self._reap()
            return False
        self.output += data
        self._answer()
        return True

    def _answer(self) -> None:
        start = max(0, self._answered - max(map(len, QUERIES)))
        for query, answer in QUERIES.items():
            at = self.output.find(query, start)
            while at >= 0:
                if at + len(query) > self._answered:
                    self.send(answer)
                at = self.output.find(query, at + 1)
        self._answered = len(self.output)

    def hang_up(self) -> None:
        """Close the terminal under the program."""
        os.close(self._fd)
        self._fd = os.open(os.devnull, os.O_RDWR)

    def _reap(self) -> None:
        if self.status is None:
            self.status = self._process.wait()


class _Screen:
    """The output as a terminal shows it. It is fed each byte once, however often it is looked at."""

    def __init__(self, size: tuple[int, int], begin: int) -> None:
        self._screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self._screen)
        self._fed = begin

    def after(self, output: bytearray) -> str:
        self._stream.feed(bytes(output[self._fed :]))
        self._fed = len(output)
        # Not pyte's own `display`, which fails where half of a wide character was written over.
        rows, columns, cells = self._screen.lines, self._screen.columns, self._screen.buffer
        return "\n".join("".join(cells[y][x].data for x in range(columns)) for y in range(rows))


def python(code: str, *arguments: str, **options: object) -> Terminal:
    """A terminal in which this Python runs `code`."""
    return Terminal([sys.executable, "-c", code, *arguments], **options)  # type: ignore[arg-type]


# All that Textual 8.2.8 writes on its own account, and what a first frame and a reset need. Nothing here
# takes text except the clipboard, of which only base64 may come, and only after a key.
_ALLOWED = re.compile(
    r"\x1b\[[0-9;]*m"
    r"|\x1b\[\d*(?:;\d*)?H"
    r"|\x1b\[[0-3]?[JK]"
    r"|\x1b\[\?(?:7|25|1000|1003|1004|1006|1015|1016|1049|2004|2026|2048)[hl]"
    r"|\x1b\[\?(?:2026|2048)\$p"
    r"|\x1b\[(?:[>=]\d+|<)u"
    r"|\x1b\]22;[a-z-]+\x07"
)
CLIPBOARD = re.compile(r"\x1b\]52;c;([A-Za-z0-9+/=]*)\x07")
_FORBIDDEN = re.compile(
    "[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e0fff]"
)


def violations(output: bytes, clipboard: bool = False) -> list[str]:
    """What a strict terminal finds in `output` that is not text and not Textual's own, with its context.

    `clipboard` allows writes of the clipboard. Bytes that are not UTF-8 are violations too.
    """
    try:
        text = output.decode("utf-8")
    except UnicodeDecodeError as error:
        return [f"not UTF-8 at {error.start}: {output[error.start - 20 : error.start + 20]!r}"]
    if clipboard:
        text = CLIPBOARD.sub("", text)
    text = _ALLOWED.sub("", text)
    return [repr(text[max(0, hit.start() - 30) : hit.start() + 40]) for hit in _FORBIDDEN.finditer(text)]
