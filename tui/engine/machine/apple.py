"""Reports the hardware of MLX: `python -m tui.engine.machine.apple` prints one JSON object.

Like llama.cpp in `hardware`, MLX runs in a child process. Nothing here may fail, and no model is opened.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

_SECONDS = 60
"""Seconds to wait for a library. A GPU driver that wakes up takes long."""
_PER_ROW = (1, 2)
"""Generations of Apple silicon on which MLX needs one pass for each verified token with affine weights. From
the third generation on, one pass serves up to eight (mlx 0.32, qmv_wide)."""


@dataclass(frozen=True)
class Mlx:
    """The report of MLX about itself."""

    version: str
    """Version of mlx-lm; empty if it is not installed."""
    error: str = ""
    """Reason why it cannot be used; else empty."""
    device: str = ""
    gpu: bool = False
    memory: int = 0
    """Bytes shared by processor and GPU; 0 if not shared, or unknown."""
    working_set: int = 0
    """Bytes of these that the GPU should use at most; 0 if unknown."""


def ask_library(
    name: str, command: Sequence[str], *, question: bytes = b"",
    silent: str = "does not answer", fails: str = "cannot be loaded",
) -> dict[str, Any]:  # fmt: skip
    """Return the answer of a child process that loads a library; only `error` if it gives none.

    `command` reads the `question` from standard input and prints a JSON object as its last line. `silent` and
    `fails` are the words about a library that gives no answer.
    """
    try:
        asked = subprocess.run(command, input=question, capture_output=True, timeout=_SECONDS, check=False)
        if asked.returncode == -signal.SIGILL:
            return {"error": f"{name} was built for another processor"}
        return dict(json.loads(asked.stdout.splitlines()[-1]).items())
    except (OSError, subprocess.TimeoutExpired):
        return {"error": f"{name} {silent}"}
    except (LookupError, AttributeError, ValueError):
        last = asked.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        return {"error": f"{name} {fails}: {''.join(last) or asked.returncode}"}


def installed(package: str) -> str:
    """Return the version of a Python package; empty if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def ask_mlx(command: Sequence[str] = (sys.executable, "-m", __name__)) -> Mlx:
    """Ask MLX in a child process: `command` prints the result of `_describe`."""
    version = installed("mlx") and installed("mlx-lm")
    return Mlx(version, **ask_library("MLX", command)) if version else Mlx("")


def generation(cpu: str) -> int:
    """Return the generation of Apple silicon in a processor's name; 0 for any other processor."""
    found = re.match(r"Apple M(\d+)", cpu)
    return int(found[1]) if found else 0


def mlx_advice(cpu: str, system: str, mlx: Mlx) -> Iterator[str]:
    """Yield advice on MLX, and limits to expect."""
    if generation(cpu) and not mlx.version and system.endswith("arm64"):
        yield "MLX is not installed: with it, MLX folders run too (`make clean run` installs it)."
    elif mlx.error:
        yield f"{mlx.error}. Install it again: pip install mlx-lm."
    elif mlx.version and generation(cpu) in _PER_ROW:
        yield (
            "On M1 and M2, MLX checks tokens of affine-quantized models (4 or 8 bits) one by one, so a draft "
            "seldom pays there; it is used only where it does. Models in mxfp4 gain more."
        )


def _describe() -> dict[str, object]:
    """Load MLX into this process and describe it."""
    import mlx.core as mx

    facts = mx.device_info()
    unified = mx.metal.is_available()
    return {
        "device": str(facts.get("device_name") or "unknown"),
        "gpu": mx.default_device() == mx.gpu,
        "memory": int(facts.get("memory_size") or 0) if unified else 0,
        "working_set": int(facts.get("max_recommended_working_set_size") or 0),
    }


if __name__ == "__main__":
    print(json.dumps(_describe()))
