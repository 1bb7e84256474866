"""Tells which architectures the installed libraries support.

It reads the libraries' files and runs nothing of them, so that a list of models does not wait for llama.cpp
or MLX. If a library is not found, every architecture counts as supported, and loading reports the fault.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.util import find_spec
from mmap import ACCESS_READ, mmap
from pathlib import Path

from ..machine.apple import installed

_LIBRARIES = ("libllama.so", "libllama.dylib")


def versions() -> str:
    """Return a text that changes with the libraries' versions, because these may support other models."""
    return " ".join(map(installed, ("llama-cpp-python", "mlx-lm")))


def llama_cpp_knows(architecture: str) -> bool:
    """Return whether llama.cpp has this architecture: its library holds each name with a zero byte."""
    folder = os.environ.get("LLAMA_CPP_LIB_PATH") or _folder("llama_cpp") / "lib"
    return _holds(Path(folder), architecture)


def mlx_knows(model_type: str) -> bool:
    """Return whether mlx-lm has a module of that name, or an entry for it in its table."""
    folder = _folder("mlx_lm")
    if not (folder / "models").is_dir():
        return True
    return (folder / "models" / f"{model_type}.py").is_file() or f'"{model_type}":' in _text(
        folder / "utils.py"
    )


@lru_cache(1024)
def _holds(folder: Path, name: str) -> bool:
    try:
        path = next(folder / each for each in _LIBRARIES if (folder / each).is_file())
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            return content.find(name.encode() + b"\0") >= 0
    except (OSError, ValueError, StopIteration):
        return True


@lru_cache(1)
def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.is_file() else ""


@lru_cache(2)
def _folder(package: str) -> Path:
    """Return the folder of a package without importing it; "/nowhere" if it is not installed."""
    spec = find_spec(package)
    return Path(*(spec.submodule_search_locations or ["/nowhere"])[:1]) if spec else Path("/nowhere")
