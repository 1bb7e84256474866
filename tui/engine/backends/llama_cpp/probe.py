"""`python -m tui.engine.backends.llama_cpp.probe`: llama.cpp, its devices and its threads as one JSON object.

A process of its own, since a library that was built for another processor ends the process that loads it.
"""

from __future__ import annotations

import json

from . import native


def describe() -> dict[str, object]:
    """Load llama.cpp into this process and ask for its devices, threads and processor features."""
    library = native.bindings()
    native.NativeLog().install(library)
    library.llama_backend_init()
    return {
        "gpu_offload": native.knows_gpus(library),
        "devices": [gpu.name for gpu in native.gpus(library)],
        "threads": native.physical_cores(),
        "features": library.llama_print_system_info().decode("utf-8", "replace"),
    }


if __name__ == "__main__":
    print(json.dumps(describe()))
