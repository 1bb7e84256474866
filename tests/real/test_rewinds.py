"""A real model whose rewind is broken may not draft, however little the fault is; with a sound one it may.

Other models are asked the same by their paths: OUTRIDER_MODELS=A.gguf:B.gguf make test-real ARGS="-k rewinds"
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.broken import BREAKS, Break, broken, trusting
from tests.real.fetch import GEMMA, SMOLLM2, Real, fetch
from tests.support.windows import no_room_for_full_windows
from tui.engine.backends import Options, llama_cpp
from tui.engine.backends.llama_cpp import model as models
from tui.engine.backends.llama_cpp.model import LlamaModel
from tui.engine.backends.llama_cpp.rollback import Cells
from tui.engine.backends.selection import open_backend
from tui.engine.eligibility import NOT_RESTORED
from tui.engine.pair import cache_check as asked
from tui.engine.pair.cache_check import trial, trial_of_checkpoints
from tui.engine.pair.deviation import Watched, deviation, known_tokens

OTHERS = [Path(path) for path in os.environ.get("OUTRIDER_MODELS", "").split(os.pathsep) if path]
CONTEXT = 2048
BATCH = 256
"""Tokens of a call where a window is to drop cells: few, so that it does so early. llama.cpp has room for a
window and a call, in steps of 256."""


def load(model: Real | Path) -> LlamaModel:
    if isinstance(model, Real):
        fetch(model)
    path = str(model.main if isinstance(model, Real) else model)
    loaded = open_backend(path).load(path, Options("main", CONTEXT, gpu_layers=0, threads=2), lambda _: True)
    assert isinstance(loaded, LlamaModel)
    return loaded


@pytest.fixture(scope="module", params=[SMOLLM2, GEMMA, *OTHERS], ids=lambda model: model.name)
def main(request: pytest.FixtureRequest) -> Iterator[LlamaModel]:
    model = load(request.param)
    yield model
    model.close()


def test_a_sound_rewind_is_not_rejected(main: LlamaModel) -> None:
    assert trial(main) is None


@pytest.mark.parametrize("within", [False, True], ids=["each cut", "cuts within a call"])
@pytest.mark.parametrize("by", BREAKS, ids=lambda by: by.__name__)
def test_a_broken_rewind_is_rejected(main: LlamaModel, by: Break, within: bool) -> None:
    with broken(by, within=within):
        assert trial(main) == NOT_RESTORED


@pytest.mark.parametrize("model", [GEMMA, *OTHERS], ids=lambda model: model.name)
def test_what_a_window_has_dropped_is_not_taken_as_kept(
    model: Real | Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (llama_cpp, models):
        monkeypatch.setattr(module, "BATCH", BATCH)
    monkeypatch.setattr(asked, "_SECONDS", 600.0)  # a busy machine would not read behind the window
    with monkeypatch.context() as patch:
        no_room_for_full_windows(patch)
        loaded = load(model)
    try:
        if not loaded.drops_from:
            pytest.skip("a model without a window")
        assert loaded.drops_from + BATCH < CONTEXT
        assert trial(loaded) is None
        assert_goes_back_to_a_checkpoint(loaded)
        monkeypatch.setattr(Cells, "cut", trusting)
        assert trial(loaded) == NOT_RESTORED
    finally:
        loaded.close()


def assert_goes_back_to_a_checkpoint(main: LlamaModel) -> None:
    """Far behind the window, and to the same bits."""
    assert trial_of_checkpoints(main)
    text = known_tokens(main, CONTEXT)
    prompt, end = CONTEXT // 2, CONTEXT - 100
    watched = Watched(main)
    main.checkpoint(prompt)
    watched.begin(text[:prompt])
    answer = [watched.run([token])[0] for token in text[prompt : prompt + 8]]
    main.extend(text[prompt + 8 : end], picks=0)
    assert main.reach(prompt + 1) == prompt, "the window has dropped what stands there"
    main.rewind(prompt)
    assert deviation(answer, [watched.run([token])[0] for token in text[prompt : prompt + 8]]) == 0
