"""From the start to a chat with a pair of one's own, by keys alone, in tmux. Run as a script."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.support.models import Toy, write_model
from tools.tmux import Tmux

SIZES = ((120, 40), (80, 24))


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
