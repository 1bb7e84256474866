"""Another machine: the commands that reach it through ssh, and the meaning of ssh's messages.

No shell string contains text that a person typed. An address is checked letter by letter and stands behind
`--`, so that it can never be an option. The program's path is checked too. The rest of the command never
changes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import OutriderError

_ADDRESS = re.compile(
    r"(?:[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}@)?"
    r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}|\[?[0-9A-Fa-f:]{2,45}(?:%[A-Za-z0-9]{1,15})?\]?)"
)
_PROGRAM = re.compile(r"(?:~/)?[A-Za-z0-9_./+-]{1,255}")
_OPTIONS = (
    *("-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"),
    *("-o", "ClearAllForwardings=yes", "-o", "ForwardAgent=no"),
    *("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"),
)
"""No terminal, no question, no listening port; and a dead link is known within 15 seconds."""
_PACKED, _PLAIN = ("-o", "Compression=yes"), ("-o", "Compression=no")
"""JSON packs well. Weights do not, and the packing would slow them down."""
_PROMPT = ("-o", "IPQoS=af21")
"""The priority of a shell with a person, in place of that of a copied file: rounds wait for these packets."""
LOOPBACK = "127.0.0.1"
"""The only address at which a process of ours takes connections."""
_ENTRY = re.compile(r"\s*host(?:\s*=\s*|\s+)(.*)", re.IGNORECASE)
_MOST = 1 << 20
"""Characters of ssh's config that are read, at most."""
_SEARCH = "PATH=$PATH:$HOME/.local/bin:$HOME/outrider/.venv/bin:$HOME/Outrider/.venv/bin; exec outrider"

HERE = (sys.executable, "-m", "tui", "engine")
"""The command that runs an engine on this machine."""


class HostError(OutriderError):
    """A host that cannot be used. The text gives the reason in one line."""


@dataclass(frozen=True)
class Host:
    """A machine with an engine."""

    name: str
    """The name that a person gave it."""
    address: str
    """The address for ssh: a name of ~/.ssh/config, a machine, or user@machine."""
    program: str = ""
    """The path of Outrider there; empty searches the usual places."""

    def __post_init__(self) -> None:
        if not is_address(self.address):
            raise HostError(
                f"{self.address[:60]!r} is not a host: it must be like gpu, or me@gpu.example.org"
            )
        if self.program and not _PROGRAM.fullmatch(self.program):
            raise HostError(f"{self.program[:60]!r} is not a program's path: letters, digits and ~/._+- only")

    def command(self, word: str, ssh: Sequence[str] = ("ssh",), shared: str = "") -> tuple[str, ...]:
        """Return the command that runs `outrider WORD` there, with its pipes here.

        Tunnels may share its connection by a Unix socket at the path `shared`.
        """
        if not re.fullmatch("[a-z]+(?: --[a-z]+)?", word):
            raise HostError(f"{word!r} is not a command for another machine")
        # Every login shell understands `sh -c` and single quotes.
        search = f"exec {self.program}" if self.program else _SEARCH
        how = ("-M", "-S", shared, *_PLAIN, *_PROMPT) if shared else _PACKED
        return (*ssh, *_OPTIONS, *how, "--", self.address, f"sh -c '{search} {word}'")

    def tunnel(self, port: int, ssh: Sequence[str] = ("ssh",), shared: str = "") -> tuple[str, ...]:
        """Return the command that joins its own pipes to `port` on the loopback address there.

        No port opens on this machine for it. With `shared`, the path given to `command`, it uses the
        connection of that command. In a connection with nothing but a tunnel, sshd would hold a small reply
        back until the last one is acknowledged (Nagle's algorithm), up to a round trip and 40 ms.
        """
        how = ("-S", shared) if shared else ()
        return (*ssh, *_OPTIONS, *_PLAIN, *how, "-W", f"{LOOPBACK}:{int(port)}", "--", self.address)


def is_address(words: str) -> bool:
    """Whether ssh would read these words as a machine, and as nothing else."""
    return _ADDRESS.fullmatch(words) is not None


def find_host(words: str, known: Sequence[tuple[str, str, str]]) -> Host:
    """Return the host that `words` name: one of the config, as (name, address, program), or else an address.

    Raises `HostError`.
    """
    for name, address, program in known:
        if name == words:
            return Host(name, address, program)
    return Host(words, words)


def engine_on(words: str, known: Sequence[tuple[str, str, str]]) -> tuple[tuple[str, ...], Host | None]:
    """Return the command that runs an engine on the host that `words` name, and that host; empty is this
    machine.

    Raises `HostError`.
    """
    if not words:
        return HERE, None
    host = find_host(words, known)
    return host.command("engine"), host


def known_to_ssh(config: Path) -> tuple[str, ...]:
    """Return the names in ssh's own config, without patterns and unreadable parts."""
    try:
        with config.open(encoding="utf-8", errors="replace") as file:
            entries = map(_ENTRY.fullmatch, file.read(_MOST).splitlines())
    except OSError:
        return ()
    names = [name for entry in entries if entry for name in entry[1].split()]
    return tuple(dict.fromkeys(name for name in names if is_address(name)))


_SAID = (
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "{name} shows another key than it used to",
     "Find out why; if it is right, `ssh-keygen -R` forgets the old one."),
    ("Host key verification failed", "ssh does not know {name} yet",
     "Run `ssh {address}` once in a shell and look at its key."),
    ("Permission denied", "{name} lets nobody in without asking",
     "Give it your key: `ssh-copy-id {address}`, or start ssh-agent; then try again."),
    ("Could not resolve hostname", "There is no host {name}", "Check its name."),
    ("Connection refused", "{name} takes no ssh connections",
     "Start sshd there, or check the port in ~/.ssh/config."),
    ("No route to host", "{name} cannot be reached", "Check the network."),
    ("Network is unreachable", "{name} cannot be reached", "Check the network."),
    ("timed out", "{name} does not answer", "Check the network, and whether it is on."),
)  # fmt: skip
_NOT_FOUND, _SSH_FAILED = 127, 255


def said(host: Host, status: int | None, words: str) -> tuple[str, str, bool] | None:
    """Return the reason why a link ended: one line, the remedy, and whether the link may come back by itself.

    `status` is ssh's exit status, `words` its stderr. None if ssh is not the reason.
    """
    if status in (_NOT_FOUND, 126):
        hint = "Install it there, or name its program under [hosts] in config.toml."
        return f"There is no Outrider on {host.name}", hint, False
    if status != _SSH_FAILED:
        return None
    for sign, line, hint in _SAID:
        if sign in words:
            names = {"name": host.name, "address": host.address}
            return line.format(**names), hint.format(**names), sign in ("timed out", "No route to host")
    return f"The link to {host.name} is broken", "It is tried again; the answer so far stays.", True
