"""llama-server as a rival: started with a pair of models, asked over HTTP for one answer at a time."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tui.choices import HEAD

_START = 120.0
"""Seconds in which a server must be ready."""


@contextmanager
def serving(
    program: str, main: Path, draft: Path | None, length: int | None, *options: object
) -> Iterator[int]:
    """The port of a server that is ready. A `length` of None is the server's own default; no draft is plain.

    A draft with the name "head" is the head in the file of the main model.

    Ends this program with the server's last words if it does not start.
    """
    port = _free_port()
    command: list[object] = [program, "-m", main, "-np", 1, "--port", port, "--no-warmup", *options]
    if draft:
        own = str(draft) == HEAD
        command += ["--spec-type", "draft-mtp"] if own else ["-md", draft, "--spec-type", "draft-simple"]
        command += [] if length is None else ["--spec-draft-n-max", length]
    with tempfile.TemporaryFile() as log, subprocess.Popen(
        list(map(str, command)), stdout=log, stderr=log
    ) as server:  # fmt: skip
        try:
            if not _ready(server, port):
                log.seek(0)
                raise SystemExit(log.read().decode("utf-8", "replace")[-2000:])
            yield port
        finally:
            server.terminate()


def answer(
    port: int, messages: Sequence[dict[str, str]], temperature: float, seed: int, tokens: int
) -> dict[str, Any]:
    """The `timings` of one answer, of at most so many tokens, that begins with an empty cache.

    The sampling chain is Outrider's default one.
    """
    body = {
        "messages": list(messages), "max_tokens": tokens, "temperature": temperature, "seed": seed,
        "samplers": ["top_k", "top_p", "min_p", "temperature"],
        "top_k": 40, "top_p": 0.95, "min_p": 0.05, "cache_prompt": False,
    }  # fmt: skip
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=3600) as told:
        timings: dict[str, Any] = json.load(told)["timings"]
    return timings


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _ready(server: subprocess.Popen[bytes], port: int) -> bool:
    until = time.monotonic() + _START
    while server.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return True
        except OSError:
            time.sleep(0.1)
    return False
