"""A process that rehearses loads: `python -m tui.engine.backends.llama_cpp.rehearsal`.

It reads one JSON object, `{"models": [[path, options], ...], "shapes": [shape, ...]}`. It prints one with the
GPUs and their memory, and for each model the bytes that each shape would reserve. It is a separate process,
because the native log belongs to the whole process, a CUDA driver takes memory when it wakes up, and a bad
file may end the process.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from .. import ModelError, Options
from . import LlamaBackend
from .reserve import CacheShape


def main() -> None:
    asked = json.load(sys.stdin)
    shapes = [CacheShape(**shape) for shape in asked["shapes"]]
    backend = LlamaBackend()
    models = [_model(backend, path, Options(**options), shapes) for path, options in asked["models"]]
    print(json.dumps({"gpus": [asdict(gpu) for gpu in backend.gpus()], "models": models}))


def _model(backend: LlamaBackend, path: str, options: Options, shapes: list[CacheShape]) -> Any:
    """Return the bytes reserved for each shape, None if rejected; or why the model cannot be opened."""
    try:
        return [each and asdict(each) for each in backend.rehearse(path, options, shapes)]
    except ModelError as error:
        return str(error)


if __name__ == "__main__":
    main()
