"""The whole app against the worst: mutated model files, hostile text, an engine killed at any time."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from tests.support import models
from tests.support.chat import ask, chat, outrider, places_in, until
from tests.support.mutants import mutant
from tests.support.paths import ROOT
from tests.support.terminal import python, violations
from tui.config import Generation
from tui.screens.chat import ChatScreen
from tui.widgets.transcript.message import MessageBlock

MUTANTS = int(os.environ.get("OUTRIDER_MUTANTS", "50"))
"""How many files the app is given: the first of those that `test_header.py` gives to the header check."""
STRINGS = 2_000

HOSTILE_ENGINE = """
import random, sys
sys.path[:0] = sys.argv[1:2]
from tests.support.hostile import hostile
from tui import protocol as p
draw, strings = random.Random(3), int(sys.argv[2])
def bad(): return hostile(draw)
def send(event): sys.stdout.buffer.write(p.encode(event)); sys.stdout.buffer.flush()
def model(): return p.ModelFacts(bad(), bad(), bad(), 1, bad(), 1, 1, 1)
send(p.Hello(p.PROTOCOL, bad(), 1))
for line in sys.stdin.buffer:
    match p.decode_command(line):
        case p.Load():
            for _ in range(20): send(p.Loading(bad(), 0.5))
            send(p.Loaded(model(), model(), p.Obstacle("load", bad()), bad(), bad(), 4096, 100.0, 0.1))
        case p.Generate(id=number, messages=messages) if messages[-1].content == "fail":
            send(p.Failed(number, bad(), bad()))
        case p.Generate(id=number, messages=messages):
            send(p.Notice(number, bad()))
            send(p.NotDrafting(number, p.Obstacle("policy", bad())))
            for _ in range(strings // 20):
                pieces = [(text, origin) for origin in range(4) for text in (*bad(), chr(10))]
                pieces += [(bad() + chr(10) * 2, draw.randrange(4)) for _ in range(16)]
                send(p.Rounds(number, (p.TextRound(tuple(pieces), (1,), 4, 0, 2, 0.01, 0.001, 0.005, 9),)))
            send(p.Finished(number, "stop", p.Statistics(tokens=9)))
        case p.Ping(): send(p.Pong())
        case p.Quit(): break
"""

HOSTILE_APP = """
import os, random, sys, time
from pathlib import Path
sys.path[:0] = sys.argv[1:2]
from tests.support.chat import places_in
from tests.support.hostile import hostile
from tui.app import Outrider
from tui.config import Appearance, Models, Settings
folder, draw = Path(sys.argv[2]), random.Random(5)
name = hostile(draw).replace(chr(0), "").replace("/", "")
app = Outrider(
    settings=Settings(models=Models(name, name), appearance=Appearance(show_rejected=True)),
    places=places_in(folder),
    engine=eval(sys.argv[3]),
    notices=(hostile(draw), name),
)
app.run()
"""


def app_in_a_pty(folder: Path, engine: tuple[str, ...]):
    return python(HOSTILE_APP, str(ROOT), str(folder), repr(engine), rows=40, columns=120)


def answers_in(folder: Path) -> int:
    """The number of answers that were kept to their end."""
    with closing(sqlite3.connect(places_in(folder).chats)) as connection:
        (count,) = connection.execute("SELECT COUNT(*) FROM messages WHERE ending = 'stop'").fetchone()
    return int(count)


def test_no_hostile_text_from_an_engine_reaches_the_terminal_as_a_command(tmp_path: Path) -> None:
    engine = (sys.executable, "-c", HOSTILE_ENGINE, str(ROOT), str(STRINGS))
    with app_in_a_pty(tmp_path, engine) as terminal:
        terminal.wait(b"ready")
        terminal.send(b"hello\r")
        terminal.wait(lambda: answers_in(tmp_path) == 1)
        terminal.send(b"fail\r")
        terminal.wait(lambda: "✗" in terminal.screen())
        terminal.send(b"again\r")
        terminal.wait(lambda: answers_in(tmp_path) == 2)
        for _ in range(14):
            for colors in ("full", "off", "quiet"):  # another word each time, once the page has been drawn
                terminal.send(b"\x1b[5;5~\x1b[5~\x14")
                terminal.wait(lambda colors=colors: f"colors {colors}" in terminal.screen())  # type: ignore[misc]
        terminal.send(b"\x11")
        assert terminal.exit() == 0
        output = bytes(terminal.output)
    assert violations(output) == []
    assert output.count("\N{REPLACEMENT CHARACTER}".encode()) > 100


def test_a_hostile_file_name_reaches_the_terminal_as_text(tmp_path: Path) -> None:
    with app_in_a_pty(tmp_path, (sys.executable, "-m", "tui", "engine")) as terminal:
        terminal.wait(lambda: "No model here is called" in terminal.screen())
        terminal.send(b"hello\r")
        terminal.wait(lambda: "✗" in terminal.screen())
        terminal.send(b"\x11")
        assert terminal.exit() == 0
        assert violations(bytes(terminal.output)) == []


async def test_every_mutated_model_file_ends_in_a_line_or_in_an_answer(tmp_path: Path) -> None:
    whole = models.write_model(tmp_path / "toy.gguf").read_bytes()
    mutants = [mutant(whole, seed) for seed in range(MUTANTS)]
    endings = Counter[str]()
    while mutants:
        await load_until_one_answers(tmp_path, mutants, endings)
    assert endings.total() == MUTANTS
    assert endings["ended"] > MUTANTS / 2
    assert endings["ready"] > 0


async def load_until_one_answers(folder: Path, mutants: list[bytes], endings: Counter[str]) -> None:
    """An app that takes mutants off the list, one after the other, until one of them answers."""
    app = outrider(
        folder, main=str(put(folder, mutants.pop())), draft="lookup", generation=Generation(max_tokens=8)
    )
    async with app.run_test(size=(80, 24)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase in SETTLED)
        while screen.phase == "ended" and mutants:
            endings[screen.phase] += 1
            put(folder, mutants.pop())
            last = screen.panel.transcript.messages[-1:]
            screen.panel.composer.clear()
            await ask(pilot, "hi")
            await until(pilot, partial(settled, screen, last))
        endings[screen.phase] += 1


SETTLED = ("ready", "ended")


def settled(screen: ChatScreen, last: Sequence[MessageBlock]) -> bool:
    """Whether a turn is over that was begun when `last` was the last message."""
    now = screen.panel.transcript.messages[-1:]
    return bool(now) and now != last and screen.phase in SETTLED


def put(folder: Path, content: bytes) -> Path:
    """A new file in the old one's place: an engine may still have that one mapped."""
    (folder / "new.gguf").write_bytes(content)
    return (folder / "new.gguf").replace(folder / "mutant.gguf")


KILLED = (
    ("loading", signal.SIGABRT),
    ("reading", signal.SIGSEGV),
    ("answering", signal.SIGKILL),
    ("answering", signal.SIGABRT),
    ("ready", signal.SIGSEGV),
)
"""Every state and every signal. The words for each signal are a test of the client."""


@pytest.mark.parametrize(("state", "kill"), KILLED, ids=[f"{state}-{kill.name}" for state, kill in KILLED])
async def test_an_engine_killed_in_any_state_leaves_the_app_and_the_next_prompt_working(
    state: str, kill: signal.Signals, tmp_path: Path
) -> None:
    app = outrider(tmp_path, main="scripted:echo?load=1.5&prefill=200&rate=60", draft="lookup")
    async with app.run_test(size=(80, 24)) as pilot:
        screen = chat(app)
        prompt = "word " * 120
        if state != "loading":
            await until(pilot, lambda: screen.phase == "ready")
        else:
            await until(pilot, lambda: app._client._hello is not None)
        if state in ("reading", "answering"):
            await ask(pilot, prompt)
            await until(pilot, lambda: screen.phase == state)
        killed = app._client._hello.pid
        os.kill(killed, kill)
        await until(pilot, lambda: screen.phase == "ended")
        screen.panel.composer.clear()
        await ask(pilot, "still there?")
        await until(pilot, lambda: screen.phase == "ready" and said(screen) == "still there?")
        last = screen.session.conversation.last
        assert last is not None and last.ending == "stop"
        assert app._client._hello.pid != killed


def said(screen: ChatScreen) -> str:
    """The last answer in the transcript."""
    transcript = screen.panel.transcript
    return transcript.writer.text_of(len(transcript.messages) - 1).strip()
