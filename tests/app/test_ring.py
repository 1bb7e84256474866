"""One MLX model over several machines, by a real sshd: the same text, and nothing is left hanging."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("mlx_lm")

from tests.support import mlx_models
from tests.support.engine import Engine
from tests.support.paths import ROOT
from tests.support.sshd import Server, with_ssh
from tests.support.workers import (
    LOOPBACK,
    QUESTION,
    HeldTunnels,
    answered,
    check_killed_engine,
    children,
    listening,
    worker_hosts,
)
from tui.choices import NONE
from tui.engine.machine.worker_pool import LOST, SIGN
from tui.protocol import (
    Cancel,
    Failed,
    Finished,
    Generate,
    Hello,
    Load,
    Loaded,
    Rounds,
    Sampling,
    WorkerHost,
)

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


async def test_the_only_address_is_the_loopback_while_the_ring_is_formed(
    server: Server,
    machines: tuple[WorkerHost, ...],
    folders: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = HeldTunnels(tmp_path / "hold", server)
    monkeypatch.setenv("PATH", held.path)
    found = await held.doors_of(Load(folders[0], NONE, 512, workers=machines), tmp_path / "log")
    assert found and {address for address, _ in found} == {LOOPBACK}
    assert server.ends()


def test_nothing_outlives_an_engine_that_is_killed(
    server: Server, machines: tuple[WorkerHost, ...], folders: tuple[str, str], tmp_path: Path
) -> None:
    check_killed_engine(Load(folders[0], NONE, 512, workers=machines), tmp_path / "log", server)


WAYS: dict[str, Callable[[Server], None]] = {
    "is killed": lambda server: os.kill(workers(server)[0], signal.SIGKILL),
    "stalls": lambda server: os.kill(workers(server)[0], signal.SIGSTOP),
    "loses its link": lambda server: server.cut(),
}


def workers(server: Server) -> list[int]:
    """The processes `outrider worker`, without their helpers."""
    return [
        pid
        for pid in server.processes()
        if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[-2] == b"worker"
    ]


@pytest.mark.parametrize("way", WAYS)
def test_a_lost_worker_ends_the_engine_with_its_name_and_nothing_is_left(
    server: Server, machines: tuple[WorkerHost, ...], folders: tuple[str, str], tmp_path: Path, way: str
) -> None:
    engine = Engine(tmp_path / "log", heartbeat=600)
    try:
        engine.until(Hello)
        engine.send(Load(folders[0], NONE, 512, workers=machines))
        engine.until(Loaded)
        stopped = workers(server)
        engine.send(Generate(1, QUESTION, 5, ignore_eos=True, lookup=False))
        engine.until(Rounds)
        WAYS[way](server)
        with pytest.raises(EOFError) as ended:
            engine.until(Finished)
        assert ended.value.args == (LOST,)
        last = [line for line in engine.log.read_text().splitlines() if line.startswith(SIGN)]
        assert len(last) == 1 and "gpu" in last[0]
        if way == "stalls":
            os.kill(stopped[0], signal.SIGCONT)
        assert server.ends()
    finally:
        engine.close()


def changed_worker(server: Server, folder: Path, change: str) -> WorkerHost:
    """gpu2 with a worker that runs `change` first, in which `r` is the module of the follower."""
    code, program = folder / "worker.py", folder / "outrider"
    code.write_text(
        f"import tui.engine.ring_follower as r\n{change}\nfrom tui.engine.worker import main\nmain()\n"
    )
    variables = f"{server.mark} HOME={server.home} PYTHONPATH={ROOT}"
    program.write_text(f"#!/bin/sh\nexport {variables}\nexec {sys.executable} {code}\n")
    program.chmod(0o755)
    return WorkerHost("gpu2", "gpu2", str(program))


async def test_a_worker_without_the_same_folder_is_left_out(
    server: Server, machines: tuple[WorkerHost, ...], folders: tuple[str, str], tmp_path: Path
) -> None:
    bare = changed_worker(server, tmp_path, "r.copy_here = lambda *_: ('', 'it has no copy of main')")
    main, how = folders[0], {"ignore_eos": True, "max_tokens": 30}
    _, alone, _ = await answered(Load(main, NONE, 512), tmp_path / "log", **how)
    loaded, tokens, _ = await answered(
        Load(main, NONE, 512, workers=(bare, machines[1])), tmp_path / "log", **how
    )
    assert [(each.name, each.layers > 0) for each in loaded.workers] == [("gpu2", False), ("gpu3", True)]
    assert loaded.workers[0].fault == f"On gpu2, it has no copy of main. Copy the folder there, to {main}"
    assert tokens == alone and len(alone) == 30
    loaded, tokens, _ = await answered(Load(main, NONE, 512, workers=(bare,)), tmp_path / "log", **how)
    assert loaded.workers[0].layers == 0 and tokens == alone
    assert server.ends()


@pytest.mark.usefixtures("machines")
def test_a_worker_that_chooses_another_token_ends_the_answer_in_one_line(
    server: Server, folders: tuple[str, str], tmp_path: Path
) -> None:
    """The engine stays, and the same model loads on one machine."""
    other = changed_worker(
        server, tmp_path,
        "from msgspec.structs import replace\n"
        "own = r.RingFollower._sampler\n"
        "def other(m): return replace(m, seed=m.seed + (m.seed == 5))\n"
        "r.RingFollower._sampler = lambda self, model, m: own(self, model, other(m))",
    )  # fmt: skip
    engine = Engine(tmp_path / "log", heartbeat=600)
    try:
        engine.until(Hello)
        engine.send(Load(folders[0], NONE, 512, workers=(other,)))
        engine.until(Loaded)
        hot = Generate(1, QUESTION, 5, Sampling(temperature=1.0), ignore_eos=True, lookup=False)
        engine.send(hot)
        failed, _ = engine.until(Failed)
        assert failed.message.startswith("gpu2 chose another token than this machine")
        assert "--workers" in failed.hint
        engine.send(Load(folders[0], NONE, 512))
        engine.until(Loaded)
        engine.send(Generate(2, QUESTION, 5, max_tokens=5, ignore_eos=True, lookup=False))
        assert engine.until(Finished)[0].statistics.tokens == 5
    finally:
        engine.close()
    assert server.ends()


def test_a_load_that_is_cancelled_leaves_a_ring_that_loads_again(
    server: Server, machines: tuple[WorkerHost, ...], folders: tuple[str, str], tmp_path: Path
) -> None:
    engine = Engine(tmp_path / "log", heartbeat=600)
    try:
        engine.until(Hello)
        for _ in range(3):
            engine.send(Load(folders[0], NONE, 512, workers=machines), Cancel(0))
            engine.until(Failed)
            engine.send(Load(folders[0], NONE, 512, workers=machines))
            loaded, _ = engine.until(Loaded)
            assert all(each.layers for each in loaded.workers)
        engine.send(Generate(2, QUESTION, 5, max_tokens=5, ignore_eos=True, lookup=False))
        assert engine.until(Finished)[0].statistics.tokens == 5
    finally:
        engine.close()
    assert server.ends()
