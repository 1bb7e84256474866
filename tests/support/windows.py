"""A llama.cpp that has no room for whole sliding windows."""

from __future__ import annotations

import pytest

from tui.engine.backends.llama_cpp import LlamaBackend


def no_room_for_full_windows(patch: pytest.MonkeyPatch) -> None:
    library = LlamaBackend()._library
    create = library.llama_init_from_model
    patch.setattr(
        library,
        "llama_init_from_model",
        lambda native, params: (
            0 if params.swa_full and library.llama_model_n_swa(native) else create(native, params)
        ),
    )
