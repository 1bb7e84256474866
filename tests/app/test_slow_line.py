"""Over a slow line: keys come through while an answer streams, and the tokens keep up."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from statistics import median

import pytest

from tests.support.slow_line import SlowLine, keys_while_streaming
from tests.support.sshd import Server, with_ssh
from tests.support.terminal import Terminal
from tui.client import EngineClient
from tui.host import Host
from tui.protocol import Finished, Generate, Load, Message, TextRound

pytestmark = [with_ssh, pytest.mark.alone]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.close()


def test_a_key_press_is_not_behind_what_the_app_has_painted(server: Server) -> None:
    """40 KB/s and 150 ms: Textual's own output is half a minute behind here."""
    with SlowLine(server.port, 40_000, 0.075) as line:
        server.configure(port=line.port)
        main = "scripted:sample?rate=100&tokens=9000"
        command = ["ssh", "-t", "gpu", f"{server.program} --main '{main}' --draft none"]
        with Terminal(command, rows=40, columns=120, env={"PATH": server.path}) as terminal:
            waits, carried = keys_while_streaming(terminal, line, 7, 3)
            assert 0.14 < median(waits) < 5
            assert carried < 20_000


async def test_tokens_keep_up_with_the_engine_on_its_host(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 Mbit/s and 80 ms, 50 tokens a second, none of them drafted."""
    monkeypatch.setenv("PATH", server.path)
    host = Host("gpu", "gpu", str(server.program))
    with SlowLine(server.port, 125_000, 0.04) as line:
        server.configure(port=line.port)
        client = EngineClient(host.command("engine"), tmp_path / "log", os.environ, host=host)
        await client.start()
        await client.load(Load("scripted:sample?rate=50&tokens=300"), lambda _: None)
        assert client.heartbeat.round_trip is not None
        assert client.heartbeat.round_trip > 0.07
        carried, came, said = line.carried[1], [], None
        question = Generate(1, (Message("user", "go"),), 1, draft_length=0, max_tokens=200)
        async with aclosing(client.generate(question)) as events:
            async for event in events:
                if isinstance(event, TextRound):
                    came += [time.monotonic()] * len(event.tokens)
                elif isinstance(event, Finished):
                    said = event
        assert len(came) == 200
        assert said is not None and said.statistics.seconds > 3.5
        assert came[-1] - came[0] < said.statistics.seconds + 0.6  # two ways of 40 ms, and a busy machine
        assert (line.carried[1] - carried) / len(came) < 60
        await client.close()
