"""An engine that notes in a file when it said what: tee_engine.py FILE. It stands between app and engine."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO


def forward(source: IO[bytes], target: IO[bytes]) -> None:
    for line in source:
        target.write(line)
        target.flush()
    target.close()


def main(path: str) -> None:
    command = [sys.executable, "-m", "tui", "engine"]
    with (
        Path(path).open("ab", buffering=0) as notes,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as engine,
    ):
        assert engine.stdin
        assert engine.stdout
        threading.Thread(target=forward, args=(sys.stdin.buffer, engine.stdin), daemon=True).start()
        for line in engine.stdout:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
            notes.write(b"%f " % time.time() + line)


if __name__ == "__main__":
    main(sys.argv[1])
