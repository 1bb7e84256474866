"""A saved window has the cells for a later cut, in their old places: the next rows have the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.models import Toy, write_model
from tests.support.rows import Watching, some_tokens
from tests.support.windows import no_room_for_full_windows
from tui.engine.backends import CacheState, Options
from tui.engine.backends.llama_cpp import LlamaBackend
from tui.engine.backends.llama_cpp.model import LlamaModel
from tui.engine.backends.llama_cpp.window_places import placed, reaching_back
from tui.engine.backends.selection import open_backend
from tui.engine.speculation.sampling import Logits

TEXT = some_tokens(400)
SAVED = 265
"""Tokens: two threads divide 512 cells in the middle, which lies in the window of the next tokens."""
WINDOW = 32
OPENING = 32
"""Tokens of an opened answer, which a later prompt may leave out."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    toy = Toy("gemma3", heads=2, context_length=1024)
    return write_model(tmp_path_factory.mktemp("m") / "window.gguf", toy)


@pytest.fixture(params=["cell by cell", "number by number", "8 bits"])
def models(
    path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[LlamaModel]]:
    """Two models of the same file, with each form of values that a state can have."""
    if request.param == "number by number":
        made = LlamaBackend._params

        def without_flash_attention(self: LlamaBackend, *arguments: object, **named: object) -> object:
            params = made(self, *arguments, **named)  # type: ignore[arg-type]
            params.flash_attn_type = self._library.LLAMA_FLASH_ATTN_TYPE_DISABLED
            return params

        monkeypatch.setattr(LlamaBackend, "_params", without_flash_attention)
    opened = [load(path, "q8_0" if request.param == "8 bits" else "f16") for _ in range(2)]
    yield opened
    for each in opened:
        each.close()


def load(path: Path, cache_type: str = "f16") -> LlamaModel:
    options = Options("main", 1024, threads=2, cache_type=cache_type)  # type: ignore[arg-type]
    model = open_backend(str(path)).load(str(path), options, lambda share: True)
    assert isinstance(model, LlamaModel)
    return model


def next_rows(model: LlamaModel, count: int = 10) -> list[Logits]:
    """The rows of some single tokens, and those of a round."""
    model.start(watching := Watching())
    at = model.length
    for token in TEXT[at : at + count]:
        model.extend([token], picks=1)
    model.extend(TEXT[at + count : at + count + 9], picks=9)
    return list(watching.rows.values())


def taken(model: LlamaModel) -> CacheState:
    state = model.take_state(1 << 30)
    assert state is not None
    return state


def test_the_next_rows_have_the_same_bits_after_each_of_two_wakes(models: list[LlamaModel]) -> None:
    unbroken, woken = models
    unbroken.extend(TEXT[:SAVED], picks=0)
    for _ in range(2):
        assert woken.put_state(taken(woken if woken.length else unbroken))
        np.testing.assert_array_equal(next_rows(woken), next_rows(unbroken))


def test_blank_cells_are_never_taken_for_real_ones(models: list[LlamaModel]) -> None:
    """The tokens that open an answer can be taken out. A longer cut would need the cells that are zeros."""
    saved, woken = models
    saved.extend(TEXT[:SAVED], picks=0)
    state = taken(saved)
    assert state.cut_from == SAVED - OPENING
    assert woken.put_state(state)
    cuts = [SAVED, SAVED - 1, SAVED - OPENING, SAVED - OPENING - 1]
    assert [woken.reach(length) for length in cuts] == [*cuts[:3], 0]
    woken.extend(TEXT[SAVED : SAVED + 5], picks=0)
    assert woken.reach(SAVED - 1) == SAVED - 1
    woken.rewind(0)
    woken.extend(TEXT[:100], picks=0)
    assert woken.reach(40) == 40, "a cache that was read has all its cells"


def test_after_a_wake_a_cut_to_the_prompt_before_the_last_gives_the_same_bits(
    models: list[LlamaModel],
) -> None:
    """Also after a second wake, which has the cells of the first one only."""
    unbroken, woken = models
    for begin, end in ((0, 60), (60, 150), (150, 200)):
        unbroken.checkpoint(end)
        unbroken.extend(TEXT[begin:end], picks=0)
    unbroken.extend(TEXT[200:SAVED], picks=0)
    state = taken(unbroken)
    assert state.cut_from == 150 - OPENING
    assert woken.put_state(state)
    assert woken.put_state(taken(woken))
    expected = []
    for length in (SAVED - 30, 200, 150 - OPENING):
        for model in models:
            assert model.reach(length) == length
            model.rewind(length)
        assert woken.reach(150 - OPENING - 1) == 0
        expected.append(next_rows(unbroken))
        np.testing.assert_array_equal(next_rows(woken), expected[-1])
    assert np.ptp(expected[0]) > 1


def test_without_room_for_more_only_the_cells_of_the_window_are_saved(models: list[LlamaModel]) -> None:
    saved, woken = models
    saved.extend(TEXT[:SAVED], picks=0)
    few = len(taken(saved).cells)
    state = saved.take_state(few)
    assert state is not None
    assert len(state.cells) < few
    assert state.cut_from == SAVED - 1
    assert woken.put_state(state)
    assert [woken.reach(SAVED - back) for back in range(4)] == [SAVED, SAVED - 1, 0, 0]


def test_cells_that_no_cut_needs_are_not_saved(models: list[LlamaModel]) -> None:
    model, _ = models
    model.extend(TEXT[:SAVED], picks=0)
    found = placed(taken(model).cells, SAVED)
    assert found is not None
    assert found.blank == SAVED - OPENING - WINDOW + 1
    model.rewind(WINDOW - 2)
    state = taken(model)
    assert placed(state.cells, WINDOW - 2) == (state.cells, 0), "nothing is missing from a short one"


def test_a_state_of_another_form_is_not_taken(models: list[LlamaModel]) -> None:
    """Of another sequence count, with a cell elsewhere, with another number of layers, longer, shorter."""
    model, other = models
    model.extend(TEXT[:SAVED], picks=0)
    state = taken(model)
    cells = bytes(state.cells)
    first = np.int32(SAVED - OPENING - WINDOW + 1).tobytes()
    window = cells.rindex(first, 0, cells.rindex(np.int32(SAVED - 1).tobytes()))
    changed = [cells[:8] + b"\2" + cells[9:], cells + b"\0", cells[:-1], cells[:40], b""]
    changed += [
        cells[:window] + b"\7" + cells[window + 1 :],
        cells[: window + 4] + b"\2" + cells[window + 5 :],
    ]
    for bad in changed:
        assert placed(bad, SAVED) is None
        assert not other.put_state(CacheState(state.tokens, bad))
        assert other.length == 0
        assert reaching_back(memoryview(bad), memoryview(cells), SAVED, 100) is None
        assert reaching_back(memoryview(cells), memoryview(bad), SAVED, 100) is None
    assert placed(cells, SAVED + 1) is None
    assert placed(cells, 3) is None


def test_the_state_of_a_window_that_drops_cells_is_not_spread(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a cache has no room for all cells, and takes those of a full one as well."""
    full = load(path)
    full.extend(TEXT[:SAVED], picks=0)
    no_room_for_full_windows(monkeypatch)
    small = load(path)
    assert small.drops_from
    assert small.put_state(taken(full))
    found = next_rows(small)
    assert len(found) == 19
    assert all(np.isfinite(row).all() for row in found)
    for each in (full, small):
        each.close()
