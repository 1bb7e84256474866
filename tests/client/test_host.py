"""The engine on another machine: a real sshd, a real ssh, real models; what strangers' words may not do."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.alone import Themed
from tests.support.chat import answered, ask, chat, outrider, parts_written, stored, text, until
from tests.support.models import Toy, write_model
from tests.support.sshd import SOON, Server, with_ssh
from tests.support.terminal import Terminal
from tui.client import EngineClient, EngineDied
from tui.config.settings import HostEntry
from tui.host import HERE, Host, HostError, engine_on, find_host, known_to_ssh, said
from tui.protocol import Generate, Load, Message, TextRound
from tui.screens.hosts import HostsScreen
from tui.screens.models import ModelsScreen

LINKS = int(os.environ.get("OUTRIDER_LINKS", "1"))
"""How often each way to lose a link is tried. 20 take some minutes."""
QUESTION = (Message("user", "What is a draft model?"),)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("sshd"))
    yield made
    made.close()


@pytest.fixture
def gpu(server: Server, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setenv("PATH", server.path)
    server.configure()
    return Host("gpu", "gpu", str(server.program))


def remote_settings(app: Any, host: Host) -> None:
    """Let the app's engine run on `host`."""
    app._client._command, app._client.host = tuple(host.command("engine")), host
    app._client._given["PATH"] = os.environ["PATH"]


# What stays on the host


@with_ssh
async def test_the_caches_of_chats_stay_on_the_host(
    tmp_path: Path, server: Server, gpu: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are saved there, and only words go over the line."""
    here = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(here))
    crossed = 0
    received = EngineClient._received

    def counted(client: EngineClient, data: bytes) -> None:
        nonlocal crossed
        crossed += len(data)
        received(client, data)

    monkeypatch.setattr(EngineClient, "_received", counted)
    app = outrider(tmp_path, main="starter", draft="starter")
    remote_settings(app, gpu)
    async with app.run_test(size=(100, 30)) as pilot:
        for question in ("What is a draft model?", "What is a seed?", "What do the colors mean?"):
            await answered(pilot, question)
        states = server.home / "cache"
        await until(pilot, lambda: list(states.rglob("*.state")))
        saved = sum(path.stat().st_size for path in states.rglob("*.state"))
    assert not list(here.rglob("*.state"))
    assert 0 < crossed < saved / 4, (crossed, saved)


# What strangers' words may not do


def hostile(chance: random.Random) -> str:
    parts = [
        "-oProxyCommand=touch canary",
        "gpu",
        "me",
        "@",
        "-",
        " ",
        "\n",
        "\0",
        "`id`",
        "$(id)",
        ";id",
        "%h",
    ]
    parts += [
        "\u2010",
        "|",
        "'",
        '"',
        "\\",
        "gpu.example.org",
        "[::1]",
        "x" * 300,
        "&&",
        "~",
        "*",
        "\x1b[2J",
        "é",
    ]
    return "".join(chance.choices(parts, k=chance.randint(1, 5)))


def test_1000_hostile_hosts_are_rejected_or_stand_behind_the_dashes(tmp_path: Path) -> None:
    fake = tmp_path / "ssh"
    fake.write_text(
        f'#!{sys.executable}\nimport json, sys\njson.dump(sys.argv[1:], open(sys.argv[0] + ".log", "w"))\n'
    )
    fake.chmod(0o755)
    chance = random.Random(4)
    taken = 0
    for number in range(1_000):
        words = hostile(chance)
        try:
            command = find_host(words, ()).command("engine", ssh=(str(fake),))
        except HostError as error:
            assert "\n" not in str(error) and "\x1b" not in str(error)
            continue
        taken += 1
        at = command.index("--")
        assert command[at + 1] == words and not words.startswith("-") and len(command) == at + 3
        assert not set(words) & set(" \n\0`$();|&'\"\\%*\x1b") - set("%" if "[" in words else "")
        if number % 50 == 0:
            subprocess.run(command, check=True, cwd=tmp_path)
            assert json.loads((tmp_path / "ssh.log").read_text())[at] == words
    assert 20 < taken < 600
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "program", ["outrider; id", "$(id)", "-x y", "a'b", "~root/x", "a\nb", "`id`", "a" * 300]
)
def test_a_program_is_a_path_and_nothing_else(program: str) -> None:
    with pytest.raises(HostError):
        Host("gpu", "gpu", program)


def test_a_host_is_known_by_its_name_or_is_an_address() -> None:
    known = (("gpu", "me@gpu.example.org", "/opt/outrider"),)
    assert engine_on("", known) == (HERE, None)
    command, host = engine_on("gpu", known)
    assert host == Host(*known[0])
    assert command[-3:] == ("--", "me@gpu.example.org", "sh -c 'exec /opt/outrider engine'")
    assert engine_on("me@10.0.0.7", known)[1] == Host("me@10.0.0.7", "me@10.0.0.7")
    with pytest.raises(HostError):
        Host("gpu", "gpu").command("engine; id")


# What ssh says


@pytest.mark.parametrize(
    ("status", "words", "line", "again"),
    [
        (255, "Host key verification failed.", "Ssh does not know gpu yet", False),
        (255, "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @", "gpu shows another key", False),
        (255, "me@gpu: Permission denied (publickey).", "gpu lets nobody in without asking", False),
        (
            255,
            "ssh: Could not resolve hostname gpu: Name or service not known",
            "There is no host gpu",
            False,
        ),
        (255, "ssh: connect to host gpu port 22: Connection timed out", "gpu does not answer", True),
        (255, "client_loop: send disconnect: Broken pipe", "The link to gpu is broken", True),
        (127, "sh: 1: exec: outrider: not found", "There is no Outrider on gpu", False),
    ],
)
def test_the_end_of_a_link_is_one_line_and_what_to_do(
    status: int, words: str, line: str, again: bool
) -> None:
    found = said(Host("gpu", "gpu"), status, words)
    assert found is not None
    assert found[0].lower().startswith(line.lower()) and found[1] and found[2] is again
    assert said(Host("gpu", "gpu"), 1, words) is None


@with_ssh
@pytest.mark.parametrize(
    ("known", "key", "program", "line"),
    [
        ("nothing", "client", "", "does not know gpu yet"),
        ("known", "stranger", "", "gpu lets nobody in"),
        ("known", "client", "/opt/gone/outrider", "There is no Outrider on gpu"),
    ],
)
async def test_a_real_ssh_that_fails_is_explained(
    server: Server, gpu: Host, tmp_path: Path, known: str, key: str, program: str, line: str
) -> None:
    server.configure(known, key)
    host = Host("gpu", "gpu", program or str(server.program))
    client = EngineClient(host.command("engine"), tmp_path / "log", host=host)
    with pytest.raises(EngineDied, match=line) as raised:
        await client.start()
    assert raised.value.hint and not raised.value.link
    await client.close()


# What works


async def answer(client: EngineClient) -> list[int]:
    await client.start()
    await client.load(Load("starter", "starter"), lambda progress: None)
    request = Generate(1, QUESTION, 5, draft_length=4, max_tokens=60)
    tokens = [
        token
        async for event in client.generate(request)
        if isinstance(event, TextRound)
        for token in event.tokens
    ]
    await client.close()
    return tokens


@with_ssh
async def test_same_seed_same_text_here_and_there(gpu: Host, server: Server, tmp_path: Path) -> None:
    here = await answer(EngineClient(HERE, tmp_path / "here.log"))
    there = await answer(EngineClient(gpu.command("engine"), tmp_path / "there.log", host=gpu))
    assert here == there and len(here) > 20
    assert server.ends()


@with_ssh
async def test_what_a_login_prints_first_is_skipped(gpu: Host, server: Server, tmp_path: Path) -> None:
    plain = server.program.read_text()
    server.program.write_text(
        plain.replace("#!/bin/sh\n", '#!/bin/sh\necho "Welcome to gpu! {\\"type\\": 1}"\n')
    )
    try:
        assert await answer(EngineClient(gpu.command("engine"), tmp_path / "log", host=gpu))
    finally:
        server.program.write_text(plain)


@with_ssh
def test_ask_and_models_take_a_host(gpu: Host, server: Server, tmp_path: Path) -> None:
    models = server.home / ".lmstudio" / "models" / "maker" / "toys"
    models.mkdir(parents=True, exist_ok=True)
    write_model(models / "far.gguf", Toy(name="Far away"))
    config = tmp_path / "outrider"
    config.mkdir()
    entry = f'gpu = {{ address = "gpu", program = "{server.program}" }}'
    (config / "config.toml").write_text(f"[hosts]\n{entry}\n")
    env = os.environ | {"XDG_CONFIG_HOME": str(tmp_path), "PATH": server.path}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tui", *words]
        return subprocess.run(
            command, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )

    listed = run("models", "--host", "gpu")
    assert "Far away" in listed.stdout, listed.stderr
    asked = run("ask", "--host", "gpu", "--seed", "5", "What is a draft model?")
    assert "draft model" in asked.stdout and asked.returncode == 0
    assert run("ask", "--host", "-oProxyCommand=id", "x").returncode == 2
    assert "NVIDIA" in run("doctor", "--host", "gpu").stdout or "CPU" in run("doctor", "--host", "gpu").stdout


@with_ssh
async def test_the_chat_goes_on_when_the_link_breaks_and_the_answer_from_its_last_token(
    gpu: Host, server: Server, tmp_path: Path
) -> None:
    app = outrider(tmp_path, main="scripted:sample?rate=60&tokens=450")
    remote_settings(app, gpu)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        assert "gpu" in text(app) and " ms" in text(app)
        await ask(pilot, "go")
        await until(pilot, lambda: len(screen.panel.transcript.writer.text_of(1)) > 80)
        server.cut()
        await until(pilot, lambda: "The link to gpu is broken" in text(app))
        part = screen.panel.transcript.writer.text_of(1)
        await until(pilot, lambda: screen.phase == "ready")
        await ask(pilot, "/continue")
        longer = lambda: len(screen.panel.transcript.writer.text_of(1)) > len(part)  # noqa: E731
        await until(pilot, lambda: screen.phase == "ready" and longer())
        whole = screen.panel.transcript.writer.text_of(1)
        assert whole.startswith(part) and len(whole) > len(part)
        await ask(pilot, "/host here")
        await until(pilot, lambda: screen.phase == "ready" and "a script" in text(app))
        assert screen.panel.transcript.writer.text_of(1) == whole, "the chat stays"
        assert server.ends()
    (kept,) = stored(tmp_path)
    assert kept.turns[-1].text.startswith(part)


def start(server: Server, folder: Path) -> Terminal:
    """The chat on a pty, its engine by ssh, in the middle of an answer."""
    config = folder / "outrider"
    config.mkdir(parents=True, exist_ok=True)
    (config / "config.toml").write_text(
        f'[hosts]\ngpu = {{ address = "gpu", program = "{server.program}" }}\n'
    )
    env = {name: str(folder) for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME")}
    command = [sys.executable, "-m", "tui", "--host", "gpu", "--main", "scripted:sample?rate=50&tokens=9000"]
    terminal = Terminal(command, rows=40, columns=120, env=env | {"PATH": server.path})
    terminal.wait(b"ready")
    terminal.send(b"go\r")
    terminal.wait(b"answering")
    terminal.wait(lambda: parts_written(folder / "outrider" / "chats.db") > 5)
    return terminal


def ssh_of(terminal: Terminal) -> int:
    """The ssh that the chat has started."""
    found = subprocess.run(
        ["pgrep", "-P", str(terminal.pid), "ssh"], capture_output=True, text=True, check=True
    )
    return int(found.stdout.split()[0])


EVENTS = {
    "SIGKILL of the app": lambda terminal, server: os.kill(terminal.pid, signal.SIGKILL),
    "SIGHUP of the app": lambda terminal, server: os.kill(terminal.pid, signal.SIGHUP),
    "the terminal is closed": lambda terminal, server: terminal.hang_up(),
    "SIGKILL of ssh": lambda terminal, server: os.kill(ssh_of(terminal), signal.SIGKILL),
    "SIGSTOP of ssh": lambda terminal, server: os.kill(ssh_of(terminal), signal.SIGSTOP),
    "SIGKILL of sshd's session": lambda terminal, server: server.cut(),
}


@with_ssh
@pytest.mark.parametrize("event", EVENTS)
def test_no_engine_is_left_behind_and_the_chat_is_whole(
    gpu: Host, server: Server, tmp_path: Path, event: str
) -> None:
    for trial in range(LINKS):
        folder = tmp_path / str(trial)
        with start(server, folder) as terminal:
            first, link = server.processes(), ssh_of(terminal)
            assert first
            EVENTS[event](terminal, server)
            frozen = event == "SIGSTOP of ssh"
            # It ends with its link, and behind a frozen link after 20 seconds of silence.
            assert server.ends(60 if frozen else SOON, first)
            if frozen:
                os.kill(terminal.pid, signal.SIGKILL)
                os.kill(link, signal.SIGKILL)  # a frozen process ends in no other way
        assert server.ends()
        (kept,) = stored_in(folder)
        assert kept.turns[0].text == "go" and len(kept.turns[1].text) > 40


def stored_in(folder: Path) -> list[Any]:
    from tui.store.store import Store

    store = Store.open(folder / "outrider" / "chats.db")
    found = [store.read(each.key) for each in store.listed()]
    store.close()
    return [each for each in found if each]


@with_ssh
def test_the_whole_app_runs_inside_ssh(gpu: Host, server: Server) -> None:
    command = ["ssh", "-t", "gpu", str(server.program)]
    with Terminal(command, rows=30, columns=100, env={"PATH": server.path}) as terminal:
        terminal.wait(b"ready")
        terminal.send(b"What is a draft model?\r")
        terminal.wait(b"tok/s")
        terminal.send(b"\x11")
        assert terminal.exit() == 0
    assert server.ends()


# The picker


def test_what_ssh_knows_is_offered_but_no_pattern_and_nothing_strange(tmp_path: Path) -> None:
    config = tmp_path / "config"
    assert known_to_ssh(config) == ()
    config.write_bytes(
        b"# gpus\nHost gpu gpu2 *.example.org !bad\n  HostName -oProxyCommand=id\nhost=lab\nMatch all\n"
        b"Host -oProxyCommand=id `id` gpu\nHost\n\xff\xfe\nHostKeyAlias x\n"
    )
    assert known_to_ssh(config) == ("gpu", "gpu2", "lab")
    config.write_text("Host x\n" * 1_000_000)
    assert known_to_ssh(config) == ("x",)


async def test_the_picker_takes_a_row_or_what_was_typed_or_nothing() -> None:
    for keys, wanted in (
        (("down", "enter"), "lab"),
        ((*"pu2", "enter"), "gpu2"),
        ((*"me@gpu", "down", "enter"), "me@gpu"),
        ((*"me@far", "enter"), "me@far"),
        (("escape",), None),
        (("x", "escape", "escape"), None),
        (("up", "up", "enter"), "here"),
    ):
        chosen: list[str | None] = []
        async with Themed().run_test(size=(80, 24)) as pilot:
            screen = HostsScreen((("gpu", "me@gpu.example.org", ""),), ("lab", "gpu", "gpu2"), "gpu")
            pilot.app.push_screen(screen, chosen.append)
            await pilot.pause()
            await pilot.press(*keys)
            await pilot.pause()
        assert chosen == [wanted], keys


async def test_a_host_that_cannot_be_is_not_in_the_list() -> None:
    async with Themed().run_test(size=(80, 24)) as pilot:
        screen = HostsScreen((), (), "here")
        pilot.app.push_screen(screen)
        await pilot.pause()
        await pilot.press(*"-x;id", "enter")
        await pilot.pause()
        assert pilot.app.screen is screen


@with_ssh
async def test_the_load_screen_moves_to_a_host_and_lists_its_models(
    gpu: Host, server: Server, tmp_path: Path
) -> None:
    models = server.home / ".lmstudio" / "models" / "maker" / "picked"
    models.mkdir(parents=True, exist_ok=True)
    write_model(models / "picked.gguf", Toy(name="Only there"))
    app = outrider(tmp_path)
    app._settings = replace(app._settings, hosts=(HostEntry("gpu", "gpu", str(server.program)),))
    app._client._given["PATH"] = os.environ["PATH"]
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        await pilot.press("ctrl+l")
        await until(pilot, lambda: isinstance(app.screen, ModelsScreen))
        await pilot.press("f3")
        await until(pilot, lambda: isinstance(app.screen, HostsScreen))
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(app.screen, ModelsScreen) and "Only there" in text(app))
        assert "· gpu" in text(app)
        await pilot.press("escape")
        await until(pilot, lambda: chat(app).phase == "ready")
        assert "gpu" in text(app)
    assert server.ends()
