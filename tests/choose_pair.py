"""From the start to a chat with a pair of one's own, by keys alone, in tmux. Run as a script."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from models import Toy, write_model

ROOT = Path(__file__).parent.parent
OUTRIDER = ROOT / ".venv" / "bin" / "outrider"
SIZES = ((120, 40), (80, 24))
SECONDS = 60


class Tmux:
    """One window of a server of its own, without anybody's configuration."""

    def __init__(self, columns: int, rows: int, home: Path) -> None:
        self._name = f"outrider-{os.getpid()}"
        size = ["-x", str(columns), "-y", str(rows)]
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "TMUX"))}
        self._env = clean | {"HOME": str(home), "LC_ALL": "C.UTF-8"}
        self._run("-f", "/dev/null", "new-session", "-d", *size, str(OUTRIDER))

    def _run(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._name, *arguments]
        return subprocess.run(command, env=self._env, capture_output=True, text=True, check=False).stdout

    @property
    def shown(self) -> str:
        return self._run("capture-pane", "-p")

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


def main() -> int:
    for columns, rows in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            choose(Path(folder), columns, rows)
    return 0


def choose(home: Path, columns: int, rows: int) -> None:
    models = home / ".lmstudio" / "models" / "maker" / "toys"
    models.mkdir(parents=True)
    write_model(models / "main.gguf", Toy(layers=6, width=128, name="Toy main"))
    for number in (1, 2):
        write_model(models / f"draft-{number}.gguf", Toy(layers=number, width=32, name=f"Toy draft {number}"))
    tmux = Tmux(columns, rows, home)
    tmux.wait_for("ready")
    tmux.keys("C-l")
    tmux.wait_for("Toy main", "Toy draft 2", "Starter")
    tmux.types("toy main")
    tmux.wait_for("● Toy draft 1", "Toy draft 2", "F5 context")
    print(tmux.shown)
    tmux.keys("Tab", "Down", "Enter")
    tmux.wait_for("ready", "Toy main")
    tmux.types("hello")
    tmux.keys("Enter")
    tmux.wait_for("tok/s", "hello")
    print(tmux.shown)
    tmux.keys("C-q")
    tmux.wait(lambda: not tmux.alive, "the end")


if __name__ == "__main__":
    sys.exit(main())
