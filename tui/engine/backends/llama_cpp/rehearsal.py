"""A process that rehearses loads: `python -m tui.engine.backends.llama_cpp.rehearsal`.

Reads one JSON object, `{"models": [[path, options], ...], "shapes": [shape, ...]}`, and prints one: the GPUs
with their memory, and for each model what each shape would reserve. A process of its own, because the native
log belongs to the whole process, a CUDA driver takes memory where it wakes up, and a bad file may end it all.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from .. import ModelError, Options
from . import LlamaBackend
from .reserve import Shape


def main() -> None:
    asked = json.load(sys.stdin)
    shapes = [Shape(**shape) for shape in asked["shapes"]]
    backend = LlamaBackend()
    models = [_model(backend, path, Options(**options), shapes) for path, options in asked["models"]]
    print(json.dumps({"gpus": [asdict(gpu) for gpu in backend.gpus()], "models": models}))


def _model(backend: LlamaBackend, path: str, options: Options, shapes: list[Shape]) -> Any:
    """What each shape reserves, None for one that is refused; or why the model cannot be opened."""
    try:
        return [each and asdict(each) for each in backend.rehearse(path, options, shapes)]
    except ModelError as error:
        return str(error)


if __name__ == "__main__":
    main()
