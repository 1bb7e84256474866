"""How exact drafting can be: what is concluded from the bits of rows, and that real rows then have them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tests.support import models
from tests.support.rows import Watching, some_tokens
from tui.engine.backends import Doubling, LoadedModel, ModelError, Options
from tui.engine.backends.selection import open_backend
from tui.engine.pair import rounding
from tui.engine.pair.deviation import deviation
from tui.engine.pair.rounding import (
    STEP,
    Exactness,
    GivenUp,
    View,
    exactness,
    measure_rounding,
    measure_views,
)

ALL = dict.fromkeys(range(2, 18), 0.0)
NONE = dict.fromkeys(range(2, 18), 0.01)
THREE = {2: 0.0, 3: 0.0, 4: 0.04}


@pytest.mark.parametrize(
    ("short", "long", "found"),
    [
        (View(ALL, ALL), View(ALL, ALL), Exactness(17, None)),
        (View(THREE, THREE), View(THREE, THREE), Exactness(3, None)),
        (View(ALL, ALL), View(NONE, ALL), Exactness(17, STEP)),
        (View(THREE, THREE), View(NONE, THREE), Exactness(3, STEP)),
        (View(NONE, ALL), View(NONE, ALL), Exactness(17, 0)),
        (View(NONE, THREE), View(NONE, ALL), Exactness(3, 0)),
        (View(NONE, NONE), View(NONE, NONE), Exactness(1, None)),
        (View(ALL, ALL), View(NONE, NONE), Exactness(1, None)),
    ],
)
def test_the_most_rows_for_the_fewest_copies(short: View, long: View, found: Exactness) -> None:
    assert exactness(short, long) == found


def test_a_deviation_is_in_standard_deviations_and_leaves_banned_tokens_out() -> None:
    row = np.array([0.0, 2.0, 4.0, -np.inf], np.float32)
    moved = np.array([1.0, 3.0, 5.0, 7.0], np.float32)
    assert deviation([row], [row]) == 0.0
    assert deviation([row], [moved]) == pytest.approx(1 / np.std([0, 2, 4]))
    assert deviation([10 * row], [10 * moved]) == pytest.approx(1 / np.std([0, 2, 4]))
    assert deviation([], [row]) == 0.0


def toy(folder: Path, **options: Any) -> LoadedModel:
    path = str(models.write_model(folder / "m.gguf", models.Toy(context_length=1024)))
    return open_backend(path).load(path, Options("main", 1024, **options), lambda _: True)


@pytest.mark.parametrize("threads", [1, 2])
def test_rows_of_an_exact_model_have_the_same_bits_in_every_step_of_the_cache(
    tmp_path: Path, threads: int
) -> None:
    model = toy(tmp_path, threads=threads)
    found = exactness(*measure_views(model))
    assert found.rows > 1
    if found.doubled_from is not None:
        assert isinstance(model, Doubling)
        model.double_single_rows(found.doubled_from)
    for base in (20, STEP - 2, STEP, STEP + 60, 2 * STEP + 9):
        text = some_tokens(base + 12)
        runs = []
        for size in range(1, min(found.rows, 6) + 1):
            model.rewind(0)
            model.start(watching := Watching())
            model.extend(text[:base], picks=0)
            for at in range(base, base + 12, size):
                model.extend(rows := text[at : at + size], picks=len(rows))
            runs.append([watching.rows[place] for place in sorted(watching.rows)])
        for run in runs[1:]:
            np.testing.assert_array_equal(runs[0], run)
    model.close()


def test_a_doubled_row_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    model = toy(tmp_path, threads=1)
    assert isinstance(model, Doubling)
    capacity = model.capacity
    model.double_single_rows(0)
    model.double_single_rows(0)
    assert model.capacity == capacity - 1
    model.start(Watching())
    for token in some_tokens(model.capacity):
        model.extend([token], picks=1)
    assert model.length == model.capacity
    assert model._held == model._library.llama_memory_seq_pos_max(model._memory, 0) + 1  # type: ignore[attr-defined]
    model.close()


def test_the_size_of_the_rounding_is_measured_and_is_small(tmp_path: Path) -> None:
    model = toy(tmp_path, threads=1)
    view = measure_rounding(model)
    assert set(view.alone) == {2, 3, 4, 8, 16}
    assert 0 <= view.largest < 0.01
    assert model.length == 0
    model.close()


def test_measuring_can_be_given_up(tmp_path: Path) -> None:
    model = toy(tmp_path, threads=1)
    with pytest.raises(GivenUp):
        measure_views(model, lambda fraction: fraction < 0.6)
    assert model.length == 0
    model.close()


def test_a_short_context_cannot_be_measured() -> None:
    short = SimpleNamespace(capacity=rounding.LONG)
    with pytest.raises(ModelError, match="exact needs a context of"):
        measure_views(cast(LoadedModel, short))
