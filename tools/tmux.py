"""The app in tmux, with nothing but keys: for scripts that use it as a person does."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

OUTRIDER = Path(__file__).parent.parent / ".venv" / "bin" / "outrider"
SECONDS = 60


class Tmux:
    """One window of a server of its own, without anybody's configuration."""

    def __init__(self, columns: int, rows: int, home: Path, *options: str) -> None:
        """`home` is the home and the folder of the app, which is given `options`."""
        self._name = f"outrider-{os.getpid()}"
        size = ["-x", str(columns), "-y", str(rows)]
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "TMUX"))}
        self._env = clean | {"HOME": str(home), "LC_ALL": "C.UTF-8"}
        # What an app copies goes into tmux's buffer, where it can be looked at.
        clipboard = ["set", "-s", "set-clipboard", "on", ";"]
        self._run("-f", "/dev/null", "start-server", ";", *clipboard, "new-session", "-d", "-c", str(home),
                  *size, str(OUTRIDER), *options)  # fmt: skip

    def _run(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._name, *arguments]
        return subprocess.run(command, env=self._env, capture_output=True, text=True, check=False).stdout

    @property
    def shown(self) -> str:
        return self._run("capture-pane", "-p")

    @property
    def copied(self) -> str:
        """What the app put into the clipboard last, by OSC 52."""
        return self._run("show-buffer")

    @property
    def alive(self) -> bool:
        return bool(self._run("list-sessions"))

    def keys(self, *names: str) -> None:
        self._run("send-keys", *names)

    def types(self, text: str) -> None:
        self._run("send-keys", "-l", text)

    def wait(self, until: Callable[[], object], what: str) -> None:
        """Raises TimeoutError."""
        end = time.monotonic() + SECONDS
        while not until():
            if time.monotonic() > end:
                raise TimeoutError(f"not seen: {what}\n{self.shown}")
            time.sleep(0.1)

    def wait_for(self, *words: str) -> None:
        self.wait(lambda: all(word in self.shown for word in words), " and ".join(words))
