"""The choice of a backend by the file or folder of a model. Only the library that is needed is imported."""

from __future__ import annotations

import os
import sys
from errno import ENOENT, ENOTDIR
from importlib import import_module
from pathlib import Path

from ...choices import is_scripted
from ...protocol import BackendName
from ..library.gguf import BadModelFile
from ..library.mlx_folder import is_folder, read_folder
from ..sentences import MAKE_ROOM, lacks_memory
from . import Backend, ModelError

SCRIPTED = "OUTRIDER_SCRIPTED"
"""The environment variable with the name of a module whose `ScriptedBackend` opens scripted models.

They stand in for real ones in tests and benchmarks, and are not part of the program.
"""


def open_backend(path: str, wanted: BackendName = "auto") -> Backend:
    """Return the backend for the file or folder at `path`. Only the library that is needed is imported.

    Raises `ModelError` if no backend can open it, or not the `wanted` one.
    """
    if is_scripted(path):
        return _open_scripted(path)
    place = Path(path)
    try:
        place.stat()
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", ENOENT)
        reason = "the file does not exist" if number in (ENOENT, ENOTDIR) else os.strerror(number)
        raise ModelError(f"{reason} ({path})", "Check the path.") from None
    if is_folder(place):
        if wanted == "llama.cpp":
            raise ModelError(f"this is an MLX folder, and llama.cpp opens GGUF files ({path})", "Choose one.")
        return _open_mlx(place)
    if place.is_dir():
        hint = "Choose the .gguf file inside it, or an MLX folder: config.json and *.safetensors."
        raise ModelError(f"this is a folder, not a model ({path})", hint)
    if not place.is_file():
        raise ModelError(f"this is not a file ({path})", "Check the path.")
    if wanted == "mlx":
        raise ModelError(
            f"this is a file, and MLX opens folders ({path})", "Choose a folder, or another backend."
        )
    try:
        # A native library for another processor may be missing or broken: only its own models need it.
        from .llama_cpp import LlamaBackend

        return LlamaBackend()
    except (ImportError, OSError, RuntimeError) as error:
        reason = f"the llama.cpp library cannot be loaded: {error}"
        hint = MAKE_ROOM if lacks_memory(error) else "Install llama-cpp-python again."
        raise ModelError(reason, hint) from None


def _open_scripted(path: str) -> Backend:
    """Return the backend of the models that recite a script."""
    if not (module := os.environ.get(SCRIPTED)):
        raise ModelError(f"scripted models are a part of the tests ({path})", "Choose a file or a folder.")
    backend: Backend = import_module(module).ScriptedBackend()
    return backend


def _open_mlx(folder: Path) -> Backend:
    """Return MLX for a folder that it can open. A faulty folder is reported before MLX is imported."""
    try:
        read_folder(folder)
    except BadModelFile as error:
        raise ModelError(f"{error} ({folder})", error.hint) from None
    packages = "mlx-lm" if sys.platform == "darwin" else '"mlx[cpu]" mlx-lm'
    try:
        from .mlx import MlxBackend

        return MlxBackend()
    except ModuleNotFoundError as error:
        name = str(error.name).partition(".")[0]
        ours = name in ("mlx", "mlx_lm")
        missing = "MLX is not installed" if ours else f"MLX needs {name}, which is missing"
        raise ModelError(missing, f"Install it: pip install {packages}; or choose a GGUF file.") from None
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        reason = f"MLX cannot be loaded: {error}"
        hint = MAKE_ROOM if lacks_memory(error) else f"Install it again: pip install {packages}"
        raise ModelError(reason, hint) from None
