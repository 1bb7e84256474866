"""One MLX model over several machines, by a real sshd: the same text, and nothing is left hanging."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("mlx_lm")

from tests.support import mlx_models
from tests.support.sshd import Server, with_ssh
from tests.support.workers import answered, children, listening, worker_hosts
from tui.choices import NONE
from tui.protocol import Load, Sampling, WorkerHost

pytestmark = [with_ssh, pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")]
LAYERS = 6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("sshd"))
    yield made
    made.close()


@pytest.fixture
def machines(server: Server, monkeypatch: pytest.MonkeyPatch) -> tuple[WorkerHost, ...]:
    """Two machines that are workers."""
    monkeypatch.setenv("PATH", server.path)
    server.configure()
    return worker_hosts(server, "gpu2", "gpu3")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A main model and its draft."""
    place = tmp_path_factory.mktemp("models")
    main = mlx_models.write_folder(place / "main", settings={"num_hidden_layers": LAYERS})
    return str(main), str(mlx_models.perturbed(main, place / "draft"))


@pytest.mark.parametrize("temperature", [0.0, 0.8])
async def test_same_seed_same_text_on_one_machine_and_on_three(
    server: Server,
    machines: tuple[WorkerHost, ...],
    folders: tuple[str, str],
    tmp_path: Path,
    temperature: float,
) -> None:
    """With a draft and without; and while an answer runs, no process listens."""
    main, draft = folders
    seen: list[set[tuple[str, int]]] = []
    how = {"sampling": Sampling(temperature=temperature), "ignore_eos": True, "max_tokens": 60}

    def look(engine: int) -> None:
        seen.append(listening([engine, *children(engine), *server.processes()]))

    _, alone, _ = await answered(Load(main, NONE, 512), tmp_path / "log", **how)
    load = Load(main, NONE, 512, workers=machines)
    loaded, plain, _ = await answered(load, tmp_path / "log", look, **how)
    load = Load(main, draft, 512, workers=machines)
    _, drafted, spent = await answered(load, tmp_path / "log", look, draft_length=4, **how)
    assert alone == plain == drafted and len(alone) == 60
    assert spent.accepted > 0
    assert sum(each.layers for each in loaded.workers) < LAYERS
    assert all(each.layers > 0 and each.round_trip and not each.fault for each in loaded.workers)
    assert "gpu2" in loaded.device and "gpu3" in loaded.device
    assert seen == [set(), set()], "the ports are closed as soon as the ring is closed"
    assert server.ends()
