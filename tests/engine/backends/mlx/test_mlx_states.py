"""A cache that was taken out and put back gives the bits of one that stayed, in every number format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.support.rows import Watching, some_tokens
from tui.engine.backends import Options
from tui.engine.speculation.sampling import Logits

pytest.importorskip("mlx_lm")

import mlx.core as mx

from tests.support import mlx_models
from tui.engine.backends import mlx as backend
from tui.engine.backends.mlx import MlxBackend
from tui.engine.backends.mlx.model import MlxModel
from tui.protocol import CacheType


class Kind(NamedTuple):
    architecture: str
    number: str = "float32"
    cache_type: CacheType = "f16"
    share: int = 4
    """Small for windows that keep everything."""


KINDS = {
    "attention": Kind("llama", "bfloat16"),
    "8 bits": Kind("llama", "float16", "q8_0"),
    "window": Kind("gemma3_text"),
    "window, half": Kind("gemma3_text", "float16"),
    "window, brain": Kind("gemma3_text", "bfloat16"),
    "window that keeps everything": Kind("gemma3_text", share=0),
    "window that keeps everything, brain": Kind("gemma3_text", "bfloat16", share=0),
    "hybrid": Kind("lfm2", "bfloat16"),
    "latent": Kind("deepseek_v3"),
}
TEXT = some_tokens(300)
LENGTH = 200
"""Tokens, more than a window and its spare entries hold."""


@pytest.fixture(params=KINDS)
def models(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[MlxModel]]:
    """Two models of the same folder."""
    kind = KINDS[request.param]
    if kind.share == 0:
        monkeypatch.setattr(backend, "WINDOWS_SHARE", 1e-9)
    longer = {"max_position_embeddings": 512}
    path = mlx_models.write_folder(tmp_path / "main", kind.architecture, settings=longer)
    mlx_models.converted(path, getattr(mx, kind.number))
    options = Options("main", 512, cache_type=kind.cache_type)
    opened = [MlxBackend().load(str(path), options, lambda share: True) for _ in range(2)]
    if kind.share == 0:
        assert [each.drops_from for each in opened] == [0, 0]
    yield opened
    for each in opened:
        each.close()


def next_rows(model: MlxModel) -> list[Logits]:
    """The rows of some single tokens, and those of a round of which a part is rejected."""
    model.start(watching := Watching())
    at = model.length
    for token in TEXT[at : at + 6]:
        model.extend([token], picks=1)
    model.extend(TEXT[at + 6 : at + 12], picks=6)
    model.rewind(at + 8)
    model.extend(TEXT[at + 8 : at + 11], picks=3)
    return [watching.rows[length] for length in sorted(watching.rows)]


def test_the_next_rows_have_the_same_bits_after_each_of_two_wakes(models: list[MlxModel]) -> None:
    unbroken, woken = models
    unbroken.extend(TEXT[:LENGTH], picks=0)
    for _ in range(2):
        state = (woken if woken.length else unbroken).take_state(1 << 30)
        assert state is not None
        assert woken.put_state(state)
        np.testing.assert_array_equal(next_rows(woken), next_rows(unbroken))


def test_more_bytes_than_there_is_room_for_are_not_copied(models: list[MlxModel]) -> None:
    model, _ = models
    assert model.take_state(1 << 30) is None, "it is empty"
    model.extend(TEXT[:LENGTH], picks=0)
    with pytest.raises(MemoryError):
        model.take_state(100)
