"""One model over several machines: a real sshd, real workers; the same text, and nothing is left hanging."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.chat import ask, chat, outrider, text, until
from tests.support.engine import Engine
from tests.support.models import Toy, write_model
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
    with_rpc,
    worker_hosts,
)
from tui.chat.worker_notices import RISK
from tui.choices import NONE
from tui.client import EngineClient, EngineDied, EngineError, running
from tui.config.settings import HostEntry
from tui.engine.starter import DRAFT, MAIN
from tui.host import HERE
from tui.paths import find_states, find_told
from tui.protocol import (
    Generate,
    Hello,
    Load,
    Loaded,
    Quit,
    WorkerHost,
)

pytestmark = [with_ssh, with_rpc, pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")]
BOTH = ("gpu2", "gpu3")


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
    return worker_hosts(server, *BOTH)


def copied(folder: Path) -> tuple[str, str]:
    """The demo pair under other names, so that its draft length is measured like that of any pair."""
    return (
        str(shutil.copy(MAIN, folder / "large.gguf")),
        str(shutil.copy(DRAFT, folder / "small.gguf")),
    )


async def test_same_seed_same_text_on_one_machine_and_on_three(
    server: Server, machines: tuple[WorkerHost, ...], tmp_path: Path
) -> None:
    """And no process listens on another address than the loopback, or for longer than it takes to connect."""
    main, draft = copied(tmp_path)
    seen: list[set[tuple[str, int]]] = []
    holding: list[bool] = []

    def look(engine: int) -> None:
        if not holding:  # later, the connections of the load before may still be closing
            holding.extend(server.holds_back())
        seen.append(listening([engine, *children(engine), *server.processes()]))

    _, alone, _ = await answered(Load(main, NONE), tmp_path / "log")
    loaded, plain, _ = await answered(Load(main, NONE, workers=machines), tmp_path / "log", look)
    _, drafted, spent = await answered(
        Load(main, draft, workers=machines), tmp_path / "log", look, draft_length=4
    )
    assert alone == plain == drafted and len(alone) > 20
    assert spent.accepted > 0
    assert [each.name for each in loaded.workers] == ["gpu2", "gpu3"]
    assert all(each.layers > 0 and each.round_trip and not each.fault for each in loaded.workers)
    assert "gpu2" in loaded.device and "gpu3" in loaded.device
    assert seen == [set(), set()], "the ports are closed as soon as ssh is connected"
    assert holding == [False] * 2, "one connection to each worker, which sends at once"
    assert server.ends()


async def test_the_only_address_is_the_loopback_while_a_port_is_open(
    server: Server, machines: tuple[WorkerHost, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldTunnels(tmp_path / "hold", server)
    monkeypatch.setenv("PATH", held.path)
    found = await held.doors_of(Load("starter", NONE, workers=machines[:1]), tmp_path / "log")
    assert found and {address for address, _ in found} == {LOOPBACK}
    assert server.ends()


# The number of crossings


def test_the_rows_of_a_call_cross_the_link_once(tmp_path: Path) -> None:
    """A row of this model has 4 KB. If llama.cpp fetches it twice, the second fetch waits for the first."""
    path = str(write_model(tmp_path / "wide.gguf", Toy(layers=4, width=1024)))
    command = [sys.executable, "-m", "tools.bench.crossings", path, "--rows", "1"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, cwd=ROOT).stdout
    back = [float(line.split()[-3]) for line in shown.splitlines()]
    assert len(back) == 2 and all(4 < each < 6 for each in back), shown


# Lost workers


WAYS: dict[str, Callable[[Server], None]] = {
    "is killed": lambda server: os.kill(server.processes()[0], signal.SIGKILL),
    "stalls": lambda server: os.kill(server.processes()[0], signal.SIGSTOP),
    "loses its link": lambda server: os.kill(server.sessions()[0], signal.SIGKILL),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_worker_that_is_lost_ends_only_the_engine_and_the_next_prompt_goes_on(
    server: Server, machines: tuple[WorkerHost, ...], tmp_path: Path, way: str
) -> None:
    main, _ = copied(tmp_path)
    app = outrider(tmp_path, main=main, draft=NONE)
    entries = tuple(HostEntry(*each) for each in (("gpu2", "gpu2", str(server.program)),))
    app._settings = replace(
        app._settings, hosts=entries, engine=replace(app._settings.engine, workers=("gpu2",))
    )
    app._client._given["PATH"] = os.environ["PATH"]
    app._settings = replace(app._settings, generation=replace(app._settings.generation, max_tokens=4000))
    find_told().unlink(missing_ok=True)
    async with app.run_test(size=(140, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        assert RISK[:40] in text(app) and "Shown once" in text(app), "the risk is told at the first use"
        assert "layer" in text(app), "the sidebar has the share of each worker"
        await ask(pilot, "go")
        await until(pilot, lambda: len(screen.panel.transcript.writer.text_of(1)) > 20)
        stopped = server.processes()
        WAYS[way](server)
        await until(pilot, lambda: screen.phase == "ended")
        assert "gpu2" in text(app) and "your next prompt goes on" in text(app)
        part = screen.panel.transcript.writer.text_of(1)
        assert len(part) > 20
        if way == "stalls":
            os.kill(stopped[0], signal.SIGCONT)
        assert server.ends(among=stopped)
        await ask(pilot, "and again")
        await until(pilot, lambda: screen.phase == "answering")
        await pilot.press("escape")
        await until(pilot, lambda: screen.phase == "ready")
        assert screen.panel.transcript.writer.text_of(1) == part
        loaded = app._session.connection.loaded
        assert loaded and loaded.workers[0].layers > 0, "the worker came back"
        assert RISK[:40] not in text(app)
    assert server.ends()


def test_nothing_outlives_an_engine_that_is_killed(
    server: Server, machines: tuple[WorkerHost, ...], tmp_path: Path
) -> None:
    check_killed_engine(Load("starter", NONE, workers=machines), tmp_path / "log", server)


@pytest.mark.parametrize("shared", [False, True])
def test_a_cache_on_workers_does_not_cross_their_links_to_the_disk(
    server: Server, machines: tuple[WorkerHost, ...], tmp_path: Path, shared: bool
) -> None:
    main, _ = copied(tmp_path)
    engine = Engine(tmp_path / "log")
    try:
        engine.until(Hello)
        before = set(find_states().glob("*"))
        load = Load(main, NONE, 1024, workers=machines[:1] if shared else (), disk_cache=1 << 30, threads=1)
        engine.send(load)
        engine.until(Loaded)
        wish = Generate(1, QUESTION, 5, max_tokens=400, ignore_eos=True, lookup=False, chat="c")
        engine.answer(wish)
        engine.send(Quit())
        engine.ended()
        assert (set(find_states().glob("*")) == before) is shared
    finally:
        engine.close()
    assert server.ends()


async def test_a_worker_that_stays_away_is_left_out(
    server: Server, machines: tuple[WorkerHost, ...], tmp_path: Path
) -> None:
    main, _ = copied(tmp_path)
    away = WorkerHost("gpu3", "gpu3", "/opt/gone/outrider")
    _, alone, _ = await answered(Load(main, NONE), tmp_path / "log")
    loaded, tokens, _ = await answered(Load(main, NONE, workers=(away, machines[0])), tmp_path / "log")
    assert [(each.name, each.layers > 0) for each in loaded.workers] == [("gpu3", False), ("gpu2", True)]
    assert "no Outrider on gpu3" in loaded.workers[0].fault and tokens == alone
    loaded, tokens, _ = await answered(Load(main, NONE, workers=(away,)), tmp_path / "log")
    assert loaded.workers[0].layers == 0 and tokens == alone
    assert server.ends()


async def test_an_sshd_that_forbids_the_connection_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "strict"
    folder.mkdir()
    strict = Server(folder, "AllowTcpForwarding no\n")
    monkeypatch.setenv("PATH", strict.path)
    try:
        load = Load("starter", NONE, workers=worker_hosts(strict, "gpu2"))
        with pytest.raises(EngineDied, match=r"sshd on gpu2 forbids .*AllowTcpForwarding"):
            await answered(load, tmp_path / "log")
        assert strict.ends()
    finally:
        strict.close()


async def test_a_model_that_does_not_fit_without_a_lost_worker_is_not_loaded(
    server: Server, machines: tuple[WorkerHost, ...], tmp_path: Path
) -> None:
    """The cache of 4 million tokens in 200 layers takes 200 GB."""
    path = str(write_model(tmp_path / "toy.gguf", Toy(layers=200, width=64, context_length=1 << 22)))
    away = WorkerHost("gpu3", "gpu3", "/opt/gone/outrider")
    load = Load(path, NONE, context_length=1 << 22, workers=(away, machines[0]))
    client = EngineClient(HERE, tmp_path / "log", os.environ)
    async with running(client):
        await client.start()
        with pytest.raises(EngineError, match="does not fit") as raised:
            await client.load(load, lambda progress: None)
        assert "gpu3" in raised.value.message and raised.value.hint
        await client.load(Load("starter", NONE), lambda progress: None)
    assert server.ends()


# The commands


def run(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of Outrider, whose config knows gpu2 and a machine without Outrider."""
    config = server.folder / "config" / "outrider"
    config.mkdir(parents=True, exist_ok=True)
    (config / "config.toml").write_text(
        f'[hosts]\ngpu2 = {{ address = "gpu2", program = "{server.program}" }}\n'
        'bare = { address = "gpu3", program = "/opt/gone/outrider" }\n'
    )
    env = os.environ | {"XDG_CONFIG_HOME": str(config.parent), "PATH": server.path}
    command = [sys.executable, "-m", "tui", *words]
    return subprocess.run(
        command, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=120
    )


@pytest.mark.usefixtures("machines")
def test_doctor_shows_each_worker_and_its_link(server: Server) -> None:
    shown = run(server, "doctor", "--workers", "gpu2,bare").stdout
    lines = shown[shown.index("Workers") :].splitlines()[1:3]
    assert "CPU" in lines[0] and " free · " in lines[0] and "ms there and back" in lines[0]
    assert "There is no Outrider on bare" in lines[1] and "Install it there" in lines[1]
    found = json.loads(run(server, "doctor", "--json", "--workers", "gpu2").stdout)["workers"]["gpu2"]
    assert 0 < found["free"] <= found["memory"] and found["round_trip"] > 0
    assert "Workers" not in run(server, "doctor").stdout
    assert server.ends()


@pytest.mark.usefixtures("machines")
def test_ask_takes_workers_and_says_which_compute_nothing(server: Server) -> None:
    find_told().unlink(missing_ok=True)
    words = ("ask", "--seed", "5", "--workers", "gpu2,bare", "What is a draft model?")
    first, second = run(server, *words), run(server, *words)
    assert "draft model" in first.stdout and first.stdout == second.stdout
    for each in (first, second):
        assert "bare computes nothing: There is no Outrider on bare" in each.stderr
    assert RISK[:40] in first.stderr and RISK[:40] not in second.stderr
    wrong = run(server, "ask", "--workers", "gpu2,-oProxyCommand=id", "x")
    assert wrong.returncode == 2 and "is not a host" in wrong.stderr
    assert server.ends()
