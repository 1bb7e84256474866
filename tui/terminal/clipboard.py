"""Where a copy goes: the desktop's own tool, tmux, the terminal by OSC 52, or a file; what works here."""

from __future__ import annotations

import codecs
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ..files import make_folder

_TOOLS: Sequence[tuple[str, tuple[str, ...]]] = (
    ("WAYLAND_DISPLAY", ("wl-copy",)),
    ("DISPLAY", ("xclip", "-selection", "clipboard")),
    ("DISPLAY", ("xsel", "--clipboard", "--input")),
    ("WSL_DISTRO_NAME", ("clip.exe",)),
    ("HOME", ("pbcopy",)),
)
"""Each with the variable without which it is of no use."""
_TMUX = (("tmux", "load-buffer", "-w", "-"), ("tmux", "load-buffer", "-"))
"""With `-w` tmux hands it on to its terminal; before 3.2 it could not."""
_SECONDS = 2.0


def ways(
    environ: Mapping[str, str], which: Callable[[str], str | None] = shutil.which
) -> Iterator[list[tuple[str, ...]]]:
    """Programs that may take a copy on their standard input here: of each group one is enough."""
    if not environ.get("SSH_CONNECTION"):  # else the desktop is another machine's
        yield [tool for variable, tool in _TOOLS if environ.get(variable) and which(tool[0])]
    if environ.get("TMUX") and which("tmux"):  # whose window may be shown on another desktop by now
        yield list(_TMUX)


def takes_osc52(environ: Mapping[str, str]) -> bool:
    """Whether the terminal may take it by OSC 52. None says so; these are known not to."""
    deaf = environ.get("TERM") == "linux" or environ.get("TERM_PROGRAM") == "Apple_Terminal"
    return not (deaf or environ.get("STY") or environ.get("VTE_VERSION"))


def give(text: str, groups: Iterable[Iterable[Sequence[str]]]) -> bool:
    """Hand `text` to the first program of each group that takes it; whether any did. It may take seconds."""
    taken = [any(_given(text, command) for command in group) for group in groups]
    return any(taken)


def _given(text: str, command: Sequence[str]) -> bool:
    # clip.exe takes anything without a mark for the code page of a Windows console, pbcopy for the locale's.
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
    """Leave `text` in a file for its owner alone. Raises `OSError`."""
    make_folder(file.parent)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as target:
        target.write(text)
