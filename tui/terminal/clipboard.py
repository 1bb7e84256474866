"""Copies text to the clipboard: by a program of the desktop, by tmux, by the terminal (OSC 52), or into a
file.
"""

from __future__ import annotations

import codecs
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ..files import make_folder
from ..paths import find_copied

_TOOLS: Sequence[tuple[str, tuple[str, ...]]] = (
    ("WAYLAND_DISPLAY", ("wl-copy",)),
    ("DISPLAY", ("xclip", "-selection", "clipboard")),
    ("DISPLAY", ("xsel", "--clipboard", "--input")),
    ("WSL_DISTRO_NAME", ("clip.exe",)),
    ("HOME", ("pbcopy",)),
)
"""Programs, each with the environment variable that it needs."""
_TMUX = (("tmux", "load-buffer", "-w", "-"), ("tmux", "load-buffer", "-"))
"""With `-w`, tmux passes the copy on to its terminal. Versions before 3.2 cannot."""
_SECONDS = 2.0


def ways(
    environ: Mapping[str, str], which: Callable[[str], str | None] = shutil.which
) -> Iterator[list[tuple[str, ...]]]:
    """Yield groups of programs that take a copy on standard input. One program of each group is enough."""
    if not environ.get("SSH_CONNECTION"):  # over ssh, the desktop belongs to another machine
        yield [tool for variable, tool in _TOOLS if environ.get(variable) and which(tool[0])]
    if environ.get("TMUX") and which("tmux"):  # the tmux window may by now be shown on another desktop
        yield list(_TMUX)


def takes_osc52(environ: Mapping[str, str]) -> bool:
    """Return whether the terminal may accept OSC 52. No terminal announces it; some are known to lack it."""
    deaf = environ.get("TERM") == "linux" or environ.get("TERM_PROGRAM") == "Apple_Terminal"
    return not (deaf or environ.get("STY") or environ.get("VTE_VERSION"))


def give(text: str, groups: Iterable[Iterable[Sequence[str]]]) -> bool:
    """Give `text` to the first willing program of each group. Return whether any took it. May
    take seconds."""
    taken = [any(_given(text, command) for command in group) for group in groups]
    return any(taken)


def _given(text: str, command: Sequence[str]) -> bool:
    # clip.exe reads text without a byte-order mark in the console's code page, pbcopy in the locale's
    # encoding.
    data = (
        text.encode("utf-16-le", "replace") if command[0] == "clip.exe" else text.encode("utf-8", "replace")
    )
    mark = codecs.BOM_UTF16_LE if command[0] == "clip.exe" else b""
    environ = os.environ | ({"LC_ALL": "en_US.UTF-8"} if command[0] == "pbcopy" else {})
    try:
        done = subprocess.run(
            command, input=mark + data, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            timeout=_SECONDS, check=False, start_new_session=True,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def write(text: str, file: Path) -> None:
    """Write `text` to a file that only its owner may read. Raises `OSError`."""
    make_folder(file.parent)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as target:
        target.write(text)


def copy(text: str, environ: Mapping[str, str], osc52: Callable[[str], None]) -> str:
    """Copy `text` by whatever works here, `osc52` among them; where it is, in words. It may take seconds."""
    if not give(text, ways(environ)):
        if not takes_osc52(environ):
            return _left_in_file(text)
        osc52(text)
    return f"Copied: {len(text):,} characters."


def _left_in_file(text: str) -> str:
    """The place of a copy that no clipboard takes, in words."""
    try:
        write(text, find_copied())
    except OSError as error:
        return f"It is not copied: {error}"
    return f"There is no clipboard here: it is in {find_copied()}"
