"""MLX models whose calls of several rows round differently from single rows, as on Metal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mlx_lm")

import mlx.core as mx

from tests.support import mlx_models
from tui.engine.backends import Options
from tui.engine.backends.mlx import MlxBackend
from tui.engine.backends.mlx.model import MlxModel
from tui.engine.eligibility import far_rounding
from tui.engine.pair.exactness import Judged, judge
from tui.engine.pair.stages import Stages
from tui.protocol import Load

MEASURED = {
    "SmolLM2 135M, F16": (0.0041, 0.025),
    "SmolLM2 135M, BF16": (0.053, 0.20),
    "Gemma 3 270M, F16": (0.090, 0.53),
    "Gemma 3 270M, BF16": (0.018, 0.086),
}
"""Between 16 and 32 bits, in standard deviations of a row: the root mean square, and the largest difference.
One kernel of Metal for one row and another for several can differ that much."""


@pytest.fixture(autouse=True)
def nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.engine.pair.exactness.find_costs", lambda: tmp_path / "costs")


def opened(folder: Path) -> MlxModel:
    return MlxBackend().load(str(folder), Options("main", 256), lambda _: True)


def judged(model: MlxModel) -> Judged:
    command = Load(model.facts.path, backend="mlx")
    return judge(command, MlxBackend(), model, Stages(lambda *_: True))


def disturb(model: MlxModel, rms: float, largest: float) -> None:
    """Add to the rows of calls of several tokens, by place: noise of this size, with one far score."""
    network, size = model._network, model.vocabulary.size

    def noisy(tokens: Any, cache: Any) -> Any:
        start = next(leaf.offset for leaf in cache)
        scores = network(tokens, cache=cache)
        if tokens.shape[1] == 1:
            return scores
        rows = []
        for place in range(tokens.shape[1]):
            noise = np.random.default_rng(start + place).normal(0, rms, size)
            noise[place] = largest
            rows.append(noise)
        return scores + mx.array(np.array(rows, np.float32)) * mx.std(scores, axis=-1, keepdims=True)

    model._network = noisy


@pytest.mark.parametrize("name", MEASURED)
def test_the_rounding_of_16_bits_lets_a_draft_work_and_is_told(tmp_path: Path, name: str) -> None:
    """The largest difference, over a whole vocabulary, would reject sound models."""
    rms, largest = MEASURED[name]
    model = opened(mlx_models.write_folder(tmp_path / "m"))
    disturb(model, rms, largest)
    found = judged(model)
    assert found.obstacle is None
    assert found.rounding and found.rounding.deviation == pytest.approx(rms, rel=0.5, abs=0.02)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_single_rows_in_32_bits_and_several_in_16_agree_well_enough(tmp_path: Path, dtype: Any) -> None:
    long = mlx_models.write_folder(tmp_path / "long")
    short = mlx_models.converted(mlx_models.write_folder(tmp_path / "short"), dtype)
    one, several = opened(long), opened(short)
    networks = one._network, several._network
    one._network = lambda tokens, cache: networks[tokens.shape[1] > 1](tokens, cache=cache)
    found = judged(one)
    assert found.obstacle is None
    assert found.rounding and 0 < found.rounding.deviation < 0.1


def test_rows_that_no_rounding_explains_let_nothing_draft(tmp_path: Path) -> None:
    model = opened(mlx_models.write_folder(tmp_path / "m"))
    disturb(model, 0.5, 2.0)
    found = judged(model)
    assert found.rounding and found.rounding.deviation > 0.3
    assert found.obstacle == far_rounding(found.rounding.deviation)
