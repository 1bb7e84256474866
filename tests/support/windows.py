"""A llama.cpp that has no room for whole sliding windows, except for those of a head, which is small."""

from __future__ import annotations

from typing import Any

import pytest

from tui.engine.backends.llama_cpp import LlamaBackend


def no_room_for_full_windows(patch: pytest.MonkeyPatch) -> None:
    library = LlamaBackend()._library
    create = library.llama_init_from_model

    def limited(native: int, params: Any) -> Any:
        of_head = params.ctx_type == library.LLAMA_CONTEXT_TYPE_MTP
        full = params.swa_full and library.llama_model_n_swa(native) and not of_head
        return 0 if full else create(native, params)

    patch.setattr(library, "llama_init_from_model", limited)
