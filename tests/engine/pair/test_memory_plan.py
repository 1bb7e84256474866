"""Does it fit? What is foretold is what the library then takes, and what is proposed fits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from tests.support.models import Toy, write_model
from tui.engine.backends import Options
from tui.engine.backends.llama_cpp import LlamaBackend
from tui.engine.library.header import read_header
from tui.engine.pair import memory_plan
from tui.engine.pair.memory_plan import Unplanned, plan
from tui.engine.starter import MAIN
from tui.protocol import CacheType, Load, MemoryUse

GB = 10**9
SHAPES: list[tuple[int, CacheType]] = [
    (length, cache_type) for length in (512, 2048, 8192) for cache_type in ("f16", "q8_0")
]
TOYS = {
    "small": Toy(heads=2),
    "deep": Toy(layers=12, width=128, heads=2),
    "wide": Toy(layers=3, width=512, heads=8, vocabulary=2048),
    "window": Toy("gemma3", layers=6, width=128, heads=2),
    "hybrid": Toy("lfm2", layers=4, width=128, heads=2),
    "recurrent": Toy("mamba", layers=4, width=128),
}


def taken_by(lines: Iterable[str]) -> list[float]:
    """Return the MiB of the weights and of the last context in a log. Contexts before it were given up."""
    weights, *contexts = "\n".join(lines).split("llama_context: n_seq_max")
    return [float(size) for size in re.findall(r"buffer size =\s*([\d.]+) MiB", weights + contexts[-1])]


@pytest.mark.parametrize("toy", TOYS.values(), ids=TOYS.keys())
def test_what_is_foretold_is_what_the_library_takes(tmp_path: Path, toy: Toy) -> None:
    path = str(write_model(tmp_path / "toy.gguf", toy))
    models = memory_plan.models_of(Load(path))
    _, needs = memory_plan.rehearse(Load(path), models, SHAPES)
    backend = LlamaBackend()
    for (length, cache_type), need in zip(SHAPES, needs, strict=True):
        loaded = backend.load(path, Options("main", length, cache_type=cache_type), lambda fraction: True)
        taken = sum(taken_by(backend.log.lines))
        loaded.close()
        assert need is not None
        each = need["main"]
        foretold = (each.weights + each.cache + each.buffers_host + each.buffers_gpu) / (1 << 20)
        assert taken > 1
        assert foretold == pytest.approx(taken, rel=0.1), (length, cache_type)


def test_the_copies_of_a_recurrent_state_are_counted(tmp_path: Path) -> None:
    for architecture, recurrent in (("mamba", True), ("llama", False)):
        toy = Toy(architecture, width=256, layers=4)  # type: ignore[arg-type]
        path = str(write_model(tmp_path / f"{architecture}.gguf", toy))
        load = Load(path, context_length=512)
        _, needs = memory_plan.rehearse(load, memory_plan.models_of(load), [(512, "f16")])
        assert needs[0]
        need = needs[0]["main"]
        main = LlamaBackend().load(path, Options("main", 512), lambda _: True)
        main.extend([*range(30)], picks=0)
        assert need.checkpoints == pytest.approx(4 * main._cache.state_bytes(), rel=0.1, abs=1)
        assert (need.checkpoints > 0) == recurrent
        assert plan(load).uses[0].cache == need.cache + need.checkpoints
        main.close()


def test_a_pair_takes_what_both_take() -> None:
    load, _, fits, uses, _ = plan(Load("starter", "starter", context_length=1024))
    alone = plan(Load("starter", context_length=1024)).uses
    assert fits
    assert load == Load("starter", "starter", context_length=1024)
    assert [use.name for use in uses] == ["memory"]
    assert uses[0].main == read_header(MAIN).facts.size
    assert 0 < uses[0].draft < uses[0].main
    assert uses[0].cache > alone[0].cache
    assert uses[0].needed <= uses[0].free <= uses[0].total


def test_the_context_is_the_one_that_a_load_would_take() -> None:
    trained = read_header(MAIN).facts.context_length
    assert plan(Load("starter"))[:2] == (Load("starter"), min(trained, 8192))


def test_a_file_that_is_none_is_not_planned(tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_bytes(b"GGUF")
    with pytest.raises(Unplanned, match=r"no\.gguf"):
        plan(Load(str(tmp_path / "no.gguf")))


def test_a_library_that_dies_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_plan.sys, "executable", "/bin/false")
    with pytest.raises(Unplanned, match="llama"):
        plan(Load("starter"))


# A machine with a GPU, as the library would report it


Ask = Callable[[Any, Any], Any]


def machine(free: int, total: int = 24 * GB, host: int = 64 * GB) -> tuple[Ask, Callable[[], Any]]:
    """What a rehearsal says where 1 GB of buffers is taken, and 1 GB of cache for 8,192 tokens at 16 bits."""

    def ask(models: Any, shapes: Any) -> Any:
        def reserved(shape: Any) -> Any:
            bits = 0.5 if shape["cache_type"] == "q8_0" else 1.0
            cache = round(GB * bits * shape["context_length"] / 8192)
            return {"cache": cache, "buffers": {"CUDA0": GB, "CUDA_Host": GB // 10}, "state": 0}

        gpu = {"label": "CUDA0", "name": "H200", "free": free, "total": total}
        return {"gpus": [gpu], "models": [[reserved(each) for each in shapes] for _ in models]}

    return ask, lambda: (host, host)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Main models of 8 GB in 31 layers, the table of half a GB beside an output of as much."""

    def install(free: int, tied: bool = False, **more: int) -> None:
        ask, memory = machine(free, **more)
        header = read_header(MAIN)
        header = replace(
            header, facts=structs.replace(header.facts, size=8 * GB, context_length=1 << 17),
            table_bytes=GB // 2, output_bytes=0 if tied else GB // 2, block_count=31,
        )  # fmt: skip
        monkeypatch.setattr(memory_plan, "_ask", ask)
        monkeypatch.setattr(memory_plan, "memory_bytes", memory)
        monkeypatch.setattr(memory_plan, "_held", lambda: 0)
        monkeypatch.setattr(memory_plan, "read_header", lambda path: header)
        monkeypatch.setattr(memory_plan.sys, "platform", "linux")

    return install


LOAD = Load("/m.gguf", context_length=8192)


def by_name(uses: tuple[MemoryUse, ...]) -> dict[str, MemoryUse]:
    return {use.name: use for use in uses}


def test_all_layers_go_to_a_gpu_with_room(gpu: Callable[..., None]) -> None:
    gpu(20 * GB)
    load, _, fits, uses, _ = plan(LOAD)
    assert (load, fits) == (LOAD, True)
    assert [use.name for use in uses] == ["H200", "memory"]
    gpu_use, host = uses
    assert gpu_use.free == 20 * GB - round(0.05 * 24 * GB)
    assert (gpu_use.main, gpu_use.cache, gpu_use.buffers) == (7.5 * GB, GB, GB)
    assert (host.main, host.cache, host.buffers) == (GB // 2, 0, GB // 10)


def test_a_table_that_is_the_output_too_is_in_both_memories(gpu: Callable[..., None]) -> None:
    gpu(20 * GB, tied=True)
    uses = by_name(plan(LOAD).uses)
    assert (uses["H200"].main, uses["memory"].main) == (8 * GB, GB // 2)


@pytest.mark.parametrize(
    ("room", "context", "cache_type"),
    [(9.6, 8192, "f16"), (9.2, 8192, "q8_0"), (8.9, 4096, "q8_0"), (8.7, 2048, "q8_0")],
)
def test_a_smaller_cache_is_proposed_before_a_shorter_context(
    gpu: Callable[..., None], room: float, context: int, cache_type: CacheType
) -> None:
    gpu(round(room * GB) + round(0.05 * 24 * GB))
    load, _, fits, uses, _ = plan(LOAD)
    assert fits
    assert load == structs.replace(LOAD, context_length=context, cache_type=cache_type)
    assert all(use.needed <= use.free for use in uses)


def test_layers_stay_with_the_host_where_no_cache_is_small_enough(gpu: Callable[..., None]) -> None:
    gpu(6 * GB)
    load, _, fits, uses, _ = plan(LOAD)
    assert fits
    assert load == structs.replace(LOAD, gpu_layers=load.gpu_layers)
    assert 0 < load.gpu_layers < 31
    used = by_name(uses)
    assert used["H200"].needed <= used["H200"].free
    assert used["H200"].main + used["memory"].main == 8 * GB
    more = 2 * 7 * GB // 31
    assert used["H200"].needed + more > used["H200"].free  # not many more would have fitted


def test_the_draft_goes_to_the_gpu_whole(gpu: Callable[..., None]) -> None:
    gpu(16 * GB)
    load, _, fits, uses, _ = plan(structs.replace(LOAD, draft="/d.gguf"))
    assert fits
    assert 0 < load.gpu_layers < 31
    assert by_name(uses)["memory"].draft == GB // 2  # the table
    assert by_name(uses)["H200"].draft == 7.5 * GB


def test_what_fits_nowhere_is_said_with_its_numbers(gpu: Callable[..., None]) -> None:
    gpu(2 * GB, host=4 * GB)
    load, _, fits, uses, _ = plan(LOAD)
    assert (load, fits) == (LOAD, False)
    assert any(use.needed > use.free for use in uses)


def test_layers_that_are_asked_for_stay_as_they_are(gpu: Callable[..., None]) -> None:
    gpu(6 * GB)
    asked = structs.replace(LOAD, gpu_layers=30)
    assert plan(asked)[:3] == (asked, 8192, False)
    nothing = structs.replace(LOAD, gpu_layers=0)
    load, _, fits, uses, _ = plan(nothing)
    assert (load, fits) == (nothing, True)
    assert by_name(uses)["H200"].main == 0


def test_what_is_loaded_makes_room(gpu: Callable[..., None]) -> None:
    gpu(4 * GB)
    assert plan(LOAD).load.gpu_layers >= 0
    assert plan(LOAD, loaded=LOAD)[:3] == (LOAD, 8192, True)


def test_a_shape_that_the_library_refuses_is_left_out(
    gpu: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu(round(9.2 * GB) + round(0.05 * 24 * GB))
    ask = memory_plan._ask

    def without_8_bits(models: Any, shapes: Any) -> Any:
        said = ask(models, shapes)
        for answers in said["models"]:
            for place, shape in enumerate(shapes):
                if shape["cache_type"] == "q8_0":
                    answers[place] = None
        return said

    monkeypatch.setattr(memory_plan, "_ask", without_8_bits)
    load, _, fits, *_ = plan(LOAD)
    assert fits
    assert load == structs.replace(LOAD, context_length=4096)
    with pytest.raises(Unplanned, match="rejects"):
        monkeypatch.setattr(memory_plan, "memory_bytes", lambda: (1, 1))
        plan(structs.replace(LOAD, cache_type="q8_0"))


def test_a_mac_has_one_memory(gpu: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(20 * GB)
    monkeypatch.setattr(memory_plan.sys, "platform", "darwin")
    load, _, fits, uses, _ = plan(LOAD)
    assert fits
    assert [(use.name, use.main, use.cache, use.buffers) for use in uses] == [
        ("H200", 8 * GB, GB, GB + GB // 10)
    ]
    assert load == LOAD


@pytest.mark.parametrize(
    ("limit", "expected"), [(0, 0), (-1, 63 * GB // 4), (5 * GB, 5 * GB), (100 * GB, 63 * GB // 2)]
)
def test_chats_get_a_part_of_the_memory_that_the_pair_leaves_free(
    gpu: Callable[..., None], limit: int, expected: int
) -> None:
    gpu(20 * GB)
    whole = structs.replace(LOAD, memory_cache=limit)
    load, _, fits, uses, *_ = plan(whole)
    assert (load, fits) == (whole, True), "chats never make a pair too large"
    used = by_name(uses)
    assert used["H200"].chats == 0, "they lie in the host's memory"
    assert used["memory"].chats == pytest.approx(expected, rel=0.01)
    assert used["memory"].needed == pytest.approx(0.6 * GB, rel=0.01), "chats are no need of the pair"


def test_a_pair_that_does_not_fit_leaves_no_room_for_chats(gpu: Callable[..., None]) -> None:
    gpu(2 * GB, host=4 * GB)
    large = plan(structs.replace(LOAD, gpu_layers=0, memory_cache=-1))
    assert (large.fits, by_name(large.uses)["memory"].chats) == (False, 0)
    gpu(6 * GB, host=12 * GB)
    small = plan(structs.replace(LOAD, memory_cache=8 * GB))
    assert small.fits
    use = by_name(small.uses)["memory"]
    assert 0 < use.chats <= (use.free - use.needed) // 2


def test_on_a_mac_the_chats_are_in_the_one_memory(
    gpu: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu(20 * GB)
    monkeypatch.setattr(memory_plan.sys, "platform", "darwin")
    (use,) = plan(structs.replace(LOAD, memory_cache=2 * GB)).uses
    assert use.chats == 2 * GB
