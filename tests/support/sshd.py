"""A real sshd on a loopback port with throw-away keys, and an ssh that knows it as "gpu"."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tui.engine.backends.selection import SCRIPTED

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
SSH = shutil.which("ssh")
with_ssh = pytest.mark.skipif(
    not (SSHD and SSH and os.geteuid() == 0), reason="needs openssh-server, openssh-client and root"
)
OUTRIDER = Path(sys.executable).with_name("outrider")


SOON = 15.0
"""Seconds in which an engine ends with its link, on a busy machine too. It ends of silence after 20."""


class Server:
    """One machine to log in to, which is this one with another home."""

    def __init__(self, folder: Path, more: str = "") -> None:
        """`more` are further lines of sshd's configuration."""
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        self.mark = f"OUTRIDER_TEST={folder.name}-{os.getpid()}"
        """Stands in the environment of every process that was started by a login."""
        for name in ("host", "client", "stranger"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(command, check=True)
        (folder / "authorized").write_text((folder / "client.pub").read_text())
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (folder / "sshd.conf").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nPidFile none\n"
            f"AuthorizedKeysFile {folder / 'authorized'}\nStrictModes no\nUsePAM no\n"
            f"PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n{more}"
        )
        key = (folder / "host.pub").read_text()
        (folder / "known").write_text(f"[127.0.0.1]:{self.port} {key}")
        self.configure()
        self.program = folder / "outrider"
        self.program.write_text(
            f"#!/bin/sh\nexport {self.mark} HOME={self.home} XDG_CACHE_HOME={self.home}/cache "
            f"XDG_STATE_HOME={self.home}/state XDG_DATA_HOME={self.home}/data "
            f"XDG_CONFIG_HOME={self.home}/config PYTHONPATH={ROOT} COLORTERM=truecolor "
            f"{SCRIPTED}={__package__}.scripted\n"
            f'exec {OUTRIDER} "$@"\n'
        )
        self.program.chmod(0o755)
        bin_ = folder / "bin"
        bin_.mkdir()
        (bin_ / "ssh").write_text(f'#!/bin/sh\nexec {SSH} -F {folder / "ssh.conf"} "$@"\n')
        (bin_ / "ssh").chmod(0o755)
        self.path = f"{bin_}:{os.environ['PATH']}"
        self._process = self._start()

    def configure(self, known: str = "known", key: str = "client", port: int = 0) -> None:
        """What ssh believes and shows, and where it goes if not to the server itself."""
        folder = self.folder
        (folder / "ssh.conf").write_text(
            f"Host gpu gpu2 gpu3\n"
            f" HostName 127.0.0.1\n Port {port or self.port}\n IdentityFile {folder / key}\n"
            f" IdentitiesOnly yes\n IdentityAgent none\n UserKnownHostsFile {folder / known}\n"
            " GlobalKnownHostsFile /dev/null\n StrictHostKeyChecking yes\n"
            f" HostKeyAlias [127.0.0.1]:{self.port}\n"
        )

    def _start(self) -> subprocess.Popen[bytes]:
        Path("/run/sshd").mkdir(exist_ok=True)
        command = [str(SSHD), "-D", "-e", "-f", str(self.folder / "sshd.conf")]
        with (self.folder / "sshd.log").open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return process
            time.sleep(0.02)
        raise TimeoutError((self.folder / "sshd.log").read_text())

    def processes(self) -> list[int]:
        """Those that logins have started and that still run."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (place / "environ").read_bytes().split(b"\0"):
                    found.append(int(place.name))
            except OSError:
                continue
        return found

    def sessions(self) -> list[int]:
        """The sshd processes of logins that are open."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                words = (place / "cmdline").read_bytes()
                parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if words.startswith(b"sshd: ") and parent == self._process.pid:
                found.append(int(place.name))
        return found

    def holds_back(self) -> list[bool]:
        """For the connection of each login: whether a short reply waits until the last one has arrived."""
        return [
            not each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for pid in self.sessions()
            for each in _sockets_of(pid)
            if each.getsockname()[:2] == ("127.0.0.1", self.port)
        ]

    def ends(self, seconds: float = SOON, among: Iterable[int] | None = None) -> bool:
        """Whether nothing of a login, or none of the processes `among`, is left after so many seconds."""
        end = time.monotonic() + seconds

        def left() -> set[int]:
            found = set(self.processes())
            return found if among is None else found & set(among)

        while left() and time.monotonic() < end:
            time.sleep(0.05)
        return not left()

    def cut(self) -> None:
        """Kills the sshd process of every login: the link breaks."""
        _kill(self.sessions())

    def close(self) -> None:
        _kill(self.sessions() + self.processes())
        self._process.terminate()
        self._process.wait(60)


def _sockets_of(pid: int) -> Iterator[socket.socket]:
    """Second names for the TCP sockets of another process. Needs root and Linux 5.6."""
    process = os.pidfd_open(pid)
    try:
        for place in Path(f"/proc/{pid}/fd").iterdir():
            found = ctypes.CDLL(None).syscall(_PIDFD_GETFD, process, int(place.name), 0)
            if found < 0:
                continue
            if not stat.S_ISSOCK(os.fstat(found).st_mode):
                os.close(found)
                continue
            with socket.socket(fileno=found) as each:
                if each.family == socket.AF_INET:
                    yield each
    finally:
        os.close(process)


_PIDFD_GETFD = 438
"""The number of the system call, on every processor."""


def _kill(numbers: list[int]) -> None:
    """One that has ended since it was listed is no error."""
    for number in numbers:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
