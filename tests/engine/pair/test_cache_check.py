"""The trial of a main model: whatever a rewind leaves behind or takes away is found, and no rounding is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tests.support import models
from tests.support.windows import no_room_for_full_windows
from tui.engine.backends import LoadedModel, Options
from tui.engine.backends.llama_cpp.rollback import Cells
from tui.engine.backends.selection import open_backend
from tui.engine.eligibility import NOT_RESTORED, short_context
from tui.engine.pair.cache_check import trial
from tui.engine.speculation.loop import Pick
from tui.engine.speculation.sampling import Logits, Sampler
from tui.protocol import Obstacle

WIDTH = 64


class Table:
    """A model whose scores hang on all that is in its cache in truth, and on how many rows a call has."""

    capacity = 512
    drops_from, chunk, rewinds = 0, 512, "anywhere"
    hangs = 1.0
    """How much the scores hang on all of the cache, beside the token that they stand behind."""
    vocabulary = SimpleNamespace(encode_start=lambda: [1], encode=lambda text: [*range(2, 40)])

    def __init__(
        self, spoil: Callable[[list[int], int, int], list[int]] | None = None, **noise: float
    ) -> None:
        """`spoil` gets the cache before a cut, its length behind it, and the number of the cut: what is left.

        `rounding` moves the scores of a call by its number of rows, `unsteady` those of every call.
        """
        self.tokens: list[int] = []
        self._cache: list[int] = []
        self._spoil = spoil or (lambda cache, length, cut: cache[:length])
        self._rounding, self._unsteady = noise.get("rounding", 0.0), noise.get("unsteady", 0.0)
        self._cuts = 0
        self._chance = np.random.default_rng(0)

    @property
    def length(self) -> int:
        return len(self.tokens)

    def start(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def rewind(self, length: int) -> None:
        if 0 < length < self.length:
            self._cuts += 1
            self._cache = self._spoil(self._cache, length, self._cuts)
        elif not length:
            self._cache = []
        del self.tokens[length:]

    def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]:
        assert 0 <= picks <= len(tokens)
        behind = len(self._cache) + len(tokens)
        self._cache += tokens
        self.tokens += tokens
        return [
            self._sampler.pick(
                self._row(self._cache[: behind - back], picks), self.tokens, self.length - back
            )
            for back in reversed(range(picks))
        ]

    def _row(self, cached: list[int], rows: int) -> Logits:
        scores = self.hangs * np.random.default_rng(hash(tuple(cached)) % 2**32).normal(0, 1, WIDTH)
        scores += (1 - self.hangs) * np.random.default_rng(cached[-1]).normal(0, 1, WIDTH)
        scores += self._rounding * np.random.default_rng(rows).normal(0, 1, WIDTH)
        scores += self._unsteady * self._chance.normal(0, 1, WIDTH)
        scores[3] = -np.inf
        return scores.astype(np.float32)


def tried(model: Any) -> Obstacle | None:
    reason = trial(cast(LoadedModel, model))
    assert model.length == 0
    return reason


def test_a_sound_model_passes_however_its_kernels_round() -> None:
    assert tried(Table()) is None
    assert tried(Table(rounding=0.08)) is None


@pytest.mark.parametrize("cut", range(1, 6))
@pytest.mark.parametrize(
    "spoil",
    [
        lambda cache, length: cache[: length + 1],
        lambda cache, length: cache[: length - 1],
        lambda cache, length: [0, *cache[: length - 1]],
        lambda cache, length: cache[1:length],
    ],
    ids=["one kept", "one lost", "one overwritten", "the first dropped"],
)
def test_each_cut_is_looked_at(cut: int, spoil: Callable[[list[int], int], list[int]]) -> None:
    model = Table(lambda cache, length, now: spoil(cache, length) if now == cut else cache[:length])
    mended = len(spoil([0] * 9, 5)) > 5 and cut < 3  # by the next cut, before anything was chosen
    assert tried(model) == (None if mended else NOT_RESTORED)
    assert tried(Table(lambda cache, length, _: spoil(cache, length))) == NOT_RESTORED


@pytest.mark.parametrize("rounding", [0.0, 0.001])
def test_what_is_amiss_only_after_a_cut_within_a_call_is_seen(rounding: float) -> None:
    """However little the scores change by it: no more than they do by rounding is let pass."""
    spoils = {
        "one kept": lambda cache, length, cut: cache[: length + (cut > 3)],
        "one lost": lambda cache, length, cut: [
            *cache[: length - 4],
            *cache[length - 4 + (cut > 3) : length],
        ],
    }
    for name, spoil in spoils.items():
        broken, sound = Table(spoil, rounding=rounding), Table(rounding=rounding)
        broken.hangs = sound.hangs = 0.05
        assert (tried(sound), tried(broken)) == (None, NOT_RESTORED), name


def test_a_device_that_repeats_no_bits_is_held_against_itself() -> None:
    assert tried(Table(unsteady=1e-4)) is None
    kept = Table(lambda cache, length, _: cache[: length + 1], unsteady=1e-4)
    assert tried(kept) == NOT_RESTORED


def test_a_cache_that_runs_lost_tokens_again_may_round_otherwise_and_lose_nothing() -> None:
    """One that cannot be cut anywhere begins the next call with what it lost: in another shape."""
    sound = Table(rounding=0.01)
    sound.rewinds = "round"
    assert tried(sound) is None
    for spoil in (lambda cache, length, _: cache[: length + 1], lambda cache, length, _: cache[: length - 1]):
        broken = Table(spoil, rounding=0.01)
        broken.rewinds = "round"
        assert tried(broken) == NOT_RESTORED


def test_a_context_that_is_too_short_to_try_is_said() -> None:
    model = Table()
    model.capacity = 12
    assert tried(model) == short_context(12)


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_a_native_cache_that_shifts_what_it_keeps_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: Any
) -> None:
    path = str(models.write_model(tmp_path / "m.gguf", models.Toy(architecture)))
    model = open_backend(path).load(path, Options("main", 512, threads=1), lambda _: True)
    assert tried(model) is None
    cut = Cells.cut

    def shifted(self: Cells, length: int) -> int:
        left = cut(self, length)
        self._library.llama_memory_seq_add(self._memory, 0, 0, -1, 1)
        self._library.llama_memory_seq_rm(self._memory, 0, length, -1)
        return left

    monkeypatch.setattr(Cells, "cut", shifted)
    assert tried(model) is not None
    monkeypatch.setattr(Cells, "cut", lambda self, length: length)  # nothing is taken away at all
    assert tried(model) is not None
    model.close()


def test_cells_that_a_window_has_dropped_are_not_taken_as_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(models.write_model(tmp_path / "m.gguf", models.Toy("gemma3", context_length=2048)))
    with monkeypatch.context() as patch:
        no_room_for_full_windows(patch)
        model = open_backend(path).load(path, Options("main", 2048, threads=1), lambda _: True)
    assert 0 < model.drops_from < 2048
    assert tried(model) is None

    def trusting(self: Cells, length: int) -> int:
        return length if self._library.llama_memory_seq_rm(self._memory, 0, length, -1) else 0

    monkeypatch.setattr(Cells, "cut", trusting)
    assert tried(model) == NOT_RESTORED
    model.close()
