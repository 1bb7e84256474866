"""The split of a model: each layer has one place, no memory gets more than it holds, a plan counts it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.models import Toy, write_model
from tui.engine.backends.llama_cpp.spreading import by_free_memory
from tui.engine.machine.worker_pool import WorkerPool
from tui.engine.pair import memory_plan
from tui.engine.pair.distribution import distribute
from tui.engine.pair.layer_split import split_layers
from tui.engine.pair.memory_plan import RemoteMemory, plan
from tui.protocol import Load, WorkerHost

GB = 10**9


def test_shares_go_by_free_memory() -> None:
    split = split_layers(32, GB, 20 * GB, [20 * GB, 40 * GB])
    assert (split.workers, split.here, split.fits) == ((8, 16), 8, True)
    assert split_layers(3, GB, 9 * GB, []).here == 3
    assert split_layers(4, GB, -GB, [9 * GB]).workers == (4,), "nothing is free here"


def test_random_splits_place_every_layer_once_within_its_memory() -> None:
    chance = random.Random(3)
    fitting = 0
    for _ in range(2_000):
        layers, size = chance.randint(1, 120), chance.uniform(1, 50)
        workers = [chance.uniform(-50, 3_000) for _ in range(chance.randint(1, 5))]
        here = chance.uniform(-50, 3_000)
        split = split_layers(layers, size, here, workers)
        assert sum(split.workers) + split.here == layers
        assert min(*split.workers, split.here) >= 0
        room = sum(max(0, free // size) for free in (*workers, here))
        assert split.fits == (room >= layers)
        if split.fits:
            fitting += 1
            for count, free in zip((*split.workers, split.here), (*workers, here), strict=True):
                assert count * size <= max(0, free)
    assert 500 < fitting < 1_900


def test_a_model_that_fits_nowhere_stays_countable() -> None:
    nothing = split_layers(10, GB, -1, [-1, 0])
    assert (nothing.workers, nothing.here, nothing.fits) == ((0, 0), 10, False)
    little = split_layers(10, GB, 2 * GB, [GB])
    assert sum(little.workers) + little.here == 10 and not little.fits


@pytest.mark.parametrize("free", [[1], [1, 1], [3, 1, 7], [0, 0]])
def test_the_devices_of_one_worker_share_its_layers(free: list[int]) -> None:
    for layers in range(20):
        counts = by_free_memory(layers, free)
        assert sum(counts) == layers and min(counts) >= 0 and len(counts) == len(free)
    if free == [3, 1, 7]:
        assert by_free_memory(11, free) == [3, 1, 7]


def test_a_plan_has_a_bar_for_each_worker_and_its_sum_is_the_model(tmp_path: Path) -> None:
    path = str(write_model(tmp_path / "deep.gguf", Toy(layers=12, width=128, heads=2)))
    alone = plan(Load(path)).uses
    many = [RemoteMemory("gpu2", 4 * GB, 8 * GB, 0.001), RemoteMemory("gpu3", 4 * GB, 8 * GB)]
    found = plan(Load(path), workers=many)
    assert found.fits and found.split
    here, *workers = found.uses
    assert [use.name for use in workers] == ["gpu2", "gpu3"]
    assert [use.layers for use in workers] == list(found.split.workers)
    assert [use.round_trip for use in workers] == [0.001, None]
    assert here.layers == 0 and found.split.here + sum(found.split.workers) == 12
    for part in ("main", "cache"):
        whole = sum(getattr(use, part) for use in alone)
        assert sum(getattr(use, part) for use in found.uses) == pytest.approx(whole, rel=1e-3)


def test_a_model_that_is_too_large_for_this_machine_fits_with_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(write_model(tmp_path / "deep.gguf", Toy(layers=12, width=256, heads=4)))
    load = Load(path, context_length=512)
    whole = plan(load).uses[0]
    small = whole.needed - (whole.main // 2)
    monkeypatch.setattr(memory_plan, "memory_bytes", lambda: (small, small))
    monkeypatch.setattr(memory_plan, "_held", lambda: 0)
    assert not plan(load).fits
    helped = plan(load, workers=[RemoteMemory("gpu2", GB, GB)])
    assert helped.fits and helped.load == load
    full = plan(load, workers=[RemoteMemory("gpu2", 1 << 20, GB)])
    assert not full.fits and full.split and full.split.workers == (0,)


@pytest.mark.parametrize("main", ["scripted:sample", "folder"])
def test_a_model_that_is_no_gguf_stays_here_and_no_worker_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main: str
) -> None:
    monkeypatch.setenv("PATH", "")
    if main == "folder":
        (tmp_path / "config.json").write_text("{}")
        main = str(tmp_path)
    load = Load(main, workers=(WorkerHost("gpu2", "gpu2"),))
    found = distribute(load, WorkerPool())
    assert found.spread is None
    (state,) = found.workers
    assert (state.name, state.layers) == ("gpu2", 0) and "GGUF" in state.fault
