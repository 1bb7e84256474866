"""A GGUF in another of llama.cpp's formats: a draft of a model itself, or its weights in 16 bits.

    python -m tools.bench.quantize SOURCE.gguf TARGET.gguf F16

Nothing becomes better by it: a Q4_K_M written as F16 keeps the values of the Q4_K_M and costs what F16
costs. Rows whose length is no multiple of 256 take llama.cpp's next larger format.
"""

from __future__ import annotations

import argparse
import ctypes
import os
from pathlib import Path

import llama_cpp


def quantize_file(source: Path, target: Path, kind: str) -> None:
    """Write `source`, quantized or not, in llama.cpp's format `kind`, for example Q4_K_M or F16.

    Raises `ValueError` if it cannot.
    """
    params = llama_cpp.llama_model_quantize_default_params()
    params.allow_requantize = True
    try:
        params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    except AttributeError:
        raise ValueError(f"llama.cpp has no format {kind}") from None
    if llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params)):
        raise ValueError(f"llama.cpp cannot write {target} in {kind}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a GGUF in another format.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("kind", help="as llama.cpp names it, for example F16 or Q2_K")
    options = parser.parse_args()
    try:
        quantize_file(options.source, options.target, options.kind)
    except ValueError as error:
        parser.exit(1, f"quantize: {error}\n")


if __name__ == "__main__":
    main()
