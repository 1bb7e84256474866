"""The split of a model: each layer has one place, no memory gets more than it holds, a plan counts it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.support.models import Toy, write_model
from tui.choices import NONE
from tui.engine.backends.llama_cpp.spreading import by_free_memory
from tui.engine.machine.worker_pool import WorkerPool
from tui.engine.pair import memory_plan
from tui.engine.pair.distribution import distribute, library_for
from tui.engine.pair.layer_split import split_layers
from tui.engine.pair.memory_plan import RemoteMemory, plan
from tui.engine.starter import NAME as STARTER
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


@pytest.mark.parametrize("load", [Load("scripted:sample"), Load(STARTER, backend="mlx")])
def test_a_model_that_is_not_split_stays_here_and_no_worker_is_started(
    monkeypatch: pytest.MonkeyPatch, load: Load
) -> None:
    monkeypatch.setenv("PATH", "")
    found = distribute(replace(load, workers=(WorkerHost("gpu2", "gpu2"),)), WorkerPool())
    assert not found.shared
    (state,) = found.workers
    assert (state.name, state.layers) == ("gpu2", 0) and "not split" in state.fault


def test_each_machine_of_a_ring_holds_the_embeddings_and_the_output_layer(tmp_path: Path) -> None:
    pytest.importorskip("mlx_lm")
    from tests.support import mlx_models

    folder = mlx_models.write_folder(tmp_path / "toy", settings={"num_hidden_layers": 8})
    load = Load(str(folder), NONE, 512)
    outer = 2 * 512 * 64 * 4
    (alone,) = plan(load).uses
    found = plan(load, workers=[RemoteMemory("gpu2", 4 * GB, 8 * GB)])
    here, worker = found.uses
    assert found.split and worker.layers == found.split.workers[0] > 0
    rows = 2 * 2048 * (2 * 64 + 3 * 128)
    assert worker.buffers == outer + rows
    assert here.main + worker.main == pytest.approx(alone.main, rel=1e-3)
    full = plan(load, workers=[RemoteMemory("gpu2", outer + rows, 8 * GB)])
    assert full.split and full.split.workers == (0,), "there is room for these alone"


def test_windows_keep_every_entry_on_several_machines(tmp_path: Path) -> None:
    pytest.importorskip("mlx_lm")
    from tests.support import mlx_models

    settings = {"num_hidden_layers": 8, "max_position_embeddings": 1 << 16}
    folder = mlx_models.write_folder(tmp_path / "toy", "gemma3_text", settings=settings)
    load = Load(str(folder), NONE, 1 << 16)
    alone = plan(load).uses[-1].cache
    shared = plan(replace(load, workers=(WorkerHost("gpu2", "gpu2"),))).uses[-1].cache
    assert shared > 1.5 * alone


def test_the_library_follows_from_the_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert library_for(Load(str(tmp_path))) == "MLX"
    assert library_for(Load(STARTER)) == "llama.cpp"
