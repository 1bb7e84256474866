"""The app on an engine that does what no engine should: it says so soon, shows nothing wrong, and goes on."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.support.chat import ask, chat, outrider, until
from tests.support.paths import SUPPORT
from tui.app import Outrider
from tui.client import engine
from tui.protocol.lines import PROTOCOL

ENGINES = int(os.environ.get("OUTRIDER_CHAOS", "50"))
"""How many are started. 500 take some minutes."""
AT_ONCE = 25
"""Of them in one chat."""
CHAOS = SUPPORT / "chaos_engine.py"
ANSWER = "".join(f"w{number} " for number in range(40)).strip()
HEARTBEAT = 0.3


@pytest.mark.alone
async def test_whatever_an_engine_does_the_app_says_it_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "START", 4 * HEARTBEAT)
    counter = tmp_path / "counter"
    whole = 0
    for _ in range(ENGINES // AT_ONCE):
        app = outrider(tmp_path, engine=(sys.executable, "-I", "-S", str(CHAOS), str(counter), str(PROTOCOL)))
        app._client.heartbeat.interval = HEARTBEAT
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: over(app))  # noqa: B023
            for _ in range(AT_ONCE):
                said, failed = await one_turn(app, pilot)
                assert ANSWER.startswith(said), counter.read_text()
                assert failed or said == ANSWER, counter.read_text()
                whole += not failed
                await end(app, pilot)
    assert 0.2 * ENGINES < whole < 0.8 * ENGINES


def over(app: Outrider) -> bool:
    return chat(app).phase in ("ready", "ended")


async def one_turn(app: Outrider, pilot: Pilot[Any]) -> tuple[str, bool]:
    """What was answered, and whether an error was said."""
    transcript = chat(app).panel.transcript
    before = list(transcript.messages)  # of which a prompt without an answer goes when the next one comes
    await ask(pilot, "go")
    await until(pilot, lambda: transcript.messages[-1:] not in ([], before[-1:]) and over(app))
    chat(app).panel.composer.clear()
    new = [place for place, each in enumerate(transcript.messages) if each not in before]
    roles = [transcript.messages[place].role for place in new]
    said = [
        transcript.writer.text_of(place) for place in new if transcript.messages[place].role == "assistant"
    ]
    return "".join(said).strip(), "error" in roles


async def end(app: Outrider, pilot: Pilot[Any]) -> None:
    """Let there be no engine."""
    if app._client.state == "idle" and app._client._hello is not None:
        with suppress(ProcessLookupError):
            os.kill(app._client._hello.pid, signal.SIGKILL)
    await until(pilot, lambda: chat(app).phase == "ended")
