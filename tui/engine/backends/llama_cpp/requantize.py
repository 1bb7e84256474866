"""`python -m tui.engine.backends.llama_cpp.requantize SOURCE TARGET FORMAT`: writes a GGUF in another format.

A process of its own, since the native call uses all cores and cannot be interrupted; a kill always stops it.
Nothing becomes better by it: a Q4_K_M in F16 has the values of the Q4_K_M at the cost of F16.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from pathlib import Path

from ....choices import COPY_FORMAT
from . import native


def requantize(source: Path, target: Path, kind: str) -> None:
    """Write `source`, quantized or not, to `target` in llama.cpp's format `kind`, for example Q4_0 or F16.

    Rows whose length does not fit the format's blocks take llama.cpp's next larger format. Q4_0 fits all
    rows. It takes all weights, and the token table too, which is a quarter of a small model. Raises
    `ValueError` if it is impossible.
    """
    library = native.bindings()
    native.NativeLog().install(library)
    params = library.llama_model_quantize_default_params()
    params.allow_requantize = True
    params.pure = kind == COPY_FORMAT
    try:
        params.ftype = getattr(library, f"LLAMA_FTYPE_MOSTLY_{kind}")
    except AttributeError:
        raise ValueError(f"llama.cpp has no format {kind}") from None
    if library.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params)):
        raise ValueError(f"llama.cpp cannot write {target} in {kind}")


def main() -> None:
    """Write one copy. Ends with its standard input too, so that it cannot outlive its parent."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    source, target, kind = sys.argv[1:]
    try:
        requantize(Path(source), Path(target), kind)
    except ValueError as error:
        sys.exit(str(error))


def _end_with_input() -> None:
    while os.read(0, 1024):  # not by sys.stdin, whose lock would disturb the end of the process
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
