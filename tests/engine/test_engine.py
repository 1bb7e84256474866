"""The engine as a real child process: what it says, when it stops, and that it never outlives the app."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support import models
from tests.support.engine import Engine, question, rounds_of, text_of
from tests.support.scripted_sample import SAMPLE
from tui.engine.pair.exactness import CHECKING
from tui.engine.pair.pair import PAYING, PLAIN
from tui.engine.session import Session
from tui.protocol import (
    MAX_LINE,
    PROTOCOL,
    Cancel,
    Event,
    Failed,
    Finished,
    Generate,
    Hello,
    Load,
    Loaded,
    Loading,
    Message,
    Notice,
    Ping,
    Pong,
    Prefill,
    Quit,
    Rounds,
    SetDraftLength,
    Unload,
    Unloaded,
    decode_event,
    encode,
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")

Start = Callable[..., Engine]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    engines: list[Engine] = []

    def make(**settings: Any) -> Engine:
        engines.append(Engine(tmp_path / f"log{len(engines)}", **settings))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone(pid: int) -> bool:
    until = time.monotonic() + 60
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not alive(pid)


def test_hello_comes_first_and_a_conversation_follows(start: Start) -> None:
    engine = start()
    hello = engine.next()
    assert isinstance(hello, Hello)
    assert (hello.protocol, hello.pid) == (PROTOCOL, engine.process.pid)
    assert hello.version
    engine.send(Load("scripted:sample", "scripted:draft?acceptance=0.7"))
    loaded, before = engine.until(Loaded)
    stages = [event.stage for event in before if isinstance(event, Loading)]
    assert stages == list(dict.fromkeys(stages))
    assert len(stages) == len(before)
    assert stages == [
        *("Loading the main model", "Preparing the main model"),
        *("Loading the draft model", "Preparing the draft model"),
        PLAIN,
    ]
    assert (loaded.backend, loaded.obstacle) == ("scripted", None)
    assert loaded.main.name == "scripted:sample"
    assert loaded.draft is not None
    assert loaded.plain_tokens_per_second is not None
    text, finished = engine.answer(question(draft_length=4))
    assert text == SAMPLE
    assert finished.reason == "stop"
    assert finished.id == 1
    assert 0.4 < finished.statistics.accepted / finished.statistics.drafted < 0.9
    engine.send(Unload())
    assert engine.next() == Unloaded()
    engine.send(question(2))
    assert engine.next() == Failed(2, "No model is loaded.", "Load a model first.")
    engine.send(Quit())
    assert engine.ended() == 0
    assert engine.log.read_bytes() == b""


def test_the_draft_length_can_be_changed_from_outside_while_an_answer_comes(start: Start) -> None:
    engine = start()
    engine.load("scripted:sample?rate=100&tokens=400", "scripted:draft?acceptance=0.7")
    engine.send(question(1, draft_length=0))
    first, _ = engine.until(Rounds)
    engine.send(SetDraftLength(1, 6))
    rounds = rounds_of(engine.until(Finished)[1])
    assert first.rounds[0].drafted == 0
    assert {happened.drafted for happened in rounds[-9:-4]} == {6}


@pytest.mark.parametrize("length", [-1, 17, 10**18])
def test_a_draft_length_out_of_range_is_named_and_changes_nothing(start: Start, length: int) -> None:
    engine = start()
    engine.load("scripted:sample?rate=100&tokens=400", "scripted:draft?acceptance=0.7")
    engine.send(question(1, draft_length=3))
    engine.until(Rounds)
    engine.send(SetDraftLength(1, length))
    notice, _ = engine.until(Notice)
    assert notice == Notice(1, f"The draft length must be 0 to 16, not {length}: it stays as it was.")
    finished, events = engine.until(Finished)
    assert max(happened.drafted for happened in rounds_of(events)) == 3
    assert finished.reason == "stop"


def test_the_built_in_pair_loads_and_answers(start: Start) -> None:
    engine = start()
    loaded = engine.load("starter", "starter")
    assert loaded.main.demo
    assert loaded.draft is not None
    assert loaded.draft.demo
    drafted, _ = engine.answer(question(draft_length=4, max_tokens=40))
    plain, finished = engine.answer(question(2, draft_length=0, max_tokens=40))
    assert drafted == plain != ""
    assert finished.statistics.prompt_reused == finished.statistics.prompt_tokens - 1


def test_a_load_says_what_it_measures_once_the_weights_are_there(start: Start, tmp_path: Path) -> None:
    main = models.write_model(tmp_path / "main.gguf", models.Toy(layers=6, width=128))
    draft = models.write_model(tmp_path / "draft.gguf", models.Toy(layers=1, width=32))
    engine = start()
    engine.send(Load(str(main), str(draft), threads=1))
    events = [event for event in engine.until(Loaded)[1] if isinstance(event, Loading)]
    stages = list(dict.fromkeys(event.stage for event in events))
    assert stages[-3:] == [CHECKING, PLAIN, PAYING]
    assert (
        stages.index("Preparing the main model") < stages.index("Preparing the draft model") < len(stages) - 3
    )
    for stage in stages:
        shares = [event.fraction or 0.0 for event in events if event.stage == stage]
        assert shares == sorted(shares) and shares[-1] <= 1


def test_a_load_replaces_what_is_loaded_and_a_failed_one_leaves_nothing(start: Start, tmp_path: Path) -> None:
    engine = start()
    engine.load("scripted:echo")
    engine.send(Load("scripted:sample"))
    _, before = engine.until(Loaded)
    assert before[1] == Unloaded() or before[0] == Unloaded()
    rubbish = tmp_path / "rubbish.gguf"
    rubbish.write_bytes(b"GGUF" + bytes(40))
    for bad in (str(rubbish), str(tmp_path / "missing.gguf"), "scripted:nothing", "scripted:echo?what=1"):
        engine.load("scripted:echo")
        engine.send(Load(bad))
        failed, before = engine.until(Failed)
        assert Unloaded() in before
        assert failed.id == 0
        assert failed.message
        engine.send(question(3))
        assert engine.until(Failed)[0].message == "No model is loaded."


def test_a_draft_that_cannot_be_used_is_rejected_with_its_reason(start: Start, tmp_path: Path) -> None:
    engine = start()
    main = models.write_model(tmp_path / "main.gguf", models.Toy())
    other = models.write_model(tmp_path / "other.gguf", models.Toy(vocabulary=300, swapped=(5, 6)))
    for draft, reason in [
        (str(other), "another tokenizer"),
        (str(tmp_path / "no.gguf"), "no.gguf"),
        (__file__, "GGUF"),
    ]:
        loaded = engine.load(str(main), draft, 256)
        assert loaded.draft is None
        assert loaded.obstacle and reason in loaded.obstacle.text
        assert engine.answer(question(draft_length=4, max_tokens=5))[1].statistics.tokens == 5


def test_a_load_can_be_given_up(start: Start) -> None:
    engine = start()
    engine.send(Load("scripted:echo?load=5"))
    engine.until(Loading)
    began = time.monotonic()
    engine.send(Cancel(0))
    failed, _ = engine.until(Failed)
    assert failed.id == 0
    assert time.monotonic() - began < 3
    assert engine.load("scripted:echo").main.name == "scripted:echo"


def test_an_answer_can_be_cancelled_and_the_next_one_is_complete(start: Start) -> None:
    engine = start()
    engine.load("scripted:sample?rate=100")
    engine.send(question(1))
    engine.until(Rounds)
    began = time.monotonic()
    engine.send(Cancel(1))
    finished, _ = engine.until(Finished)
    assert (finished.id, finished.reason) == (1, "cancelled")
    assert time.monotonic() - began < 1
    text, finished = engine.answer(question(2, max_tokens=20))
    assert SAMPLE.startswith(text)
    assert finished.statistics.tokens == 20


def test_a_prompt_can_be_cancelled_while_it_is_read(start: Start) -> None:
    engine = start()
    engine.load("scripted:echo?prefill=4000")
    engine.send(question(1, "word " * 6000))
    assert engine.until(Prefill)[0].done == 0
    assert engine.until(Prefill)[0].done > 0
    began = time.monotonic()
    engine.send(Cancel(1))
    finished, before = engine.until(Finished)
    assert finished.reason == "cancelled"
    assert finished.statistics.tokens == 0
    assert time.monotonic() - began < 1
    assert not rounds_of(before)


def test_an_answer_that_waits_can_be_cancelled_too(start: Start) -> None:
    engine = start()
    engine.load("scripted:sample?rate=50")
    engine.send(Cancel(1), question(1), question(2), Cancel(2))
    engine.until(Rounds)
    engine.send(Cancel(1))
    assert [engine.until(Finished)[0].reason for _ in range(2)] == ["cancelled"] * 2
    assert engine.answer(question(3, max_tokens=3))[1].reason == "length"
    assert engine.answer(question(1, max_tokens=3))[1].reason == "length", "an old cancel is forgotten"


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"{}",
        b"[" * 100_000,
        b"\xff\xfe\x00\x01",
        b'{"type": "fly"}',
        b'{"type": "load", "main": 1}',
        b'{"type": "pong"}',
        b'{"type": "generate", "id": 1, "seed": 1e400, "messages": []}',
    ],
    ids=range(8),
)
def test_what_is_no_command_is_answered_and_survived(start: Start, line: bytes) -> None:
    engine = start()
    engine.send(line + b"\n", b"\n", b"\r\n", Ping())
    failed, _ = engine.until(Failed)
    assert failed.id == 0
    assert len(failed.message) < 300
    assert isinstance(engine.next(), Pong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"draft_length": 17},
        {"draft_length": -1},
        {"max_tokens": -5},
        {"messages": ()},
        {"raw": True, "text": ""},
    ],
)
def test_a_wrong_setting_fails_one_answer_only(start: Start, wrong: dict[str, Any]) -> None:
    engine = start()
    engine.load("scripted:echo")
    bad = Generate(7, (), 1) if "messages" in wrong else question(7, **wrong)
    engine.send(bad)
    failed, _ = engine.until(Failed)
    assert failed.id == 7
    assert engine.answer(question(8))[0] == "Hello?"


def test_commands_may_arrive_in_any_cut(start: Start) -> None:
    engine = start()
    for byte in encode(Load("scripted:echo")) + encode(question(1)):
        engine.send(bytes([byte]))
    assert text_of(engine.until(Finished)[1]) == "Hello?"
    engine.send(b"".join(map(encode, [question(2), question(3), Ping(), question(4)])))
    assert [engine.until(Finished)[0].id for _ in range(3)] == [2, 3, 4]


def test_a_line_without_an_end_is_given_up(start: Start) -> None:
    engine = start()
    engine.until(Hello)
    with suppress(BrokenPipeError):
        engine.send(b"x" * (MAX_LINE + 100_000))
    assert "longer" in engine.until(Failed)[0].message
    assert engine.ended() == 1


def test_pings_are_answered_while_a_model_runs_and_lines_never_mix(start: Start) -> None:
    engine = start()
    engine.load("scripted:echo?prefill=100")
    engine.send(question(1, "word " * 2000))
    time.sleep(0.2)
    began = time.monotonic()
    engine.send(Ping())
    engine.until(Pong)
    assert time.monotonic() - began < 4, "one call takes five seconds here"
    engine = start()
    engine.load("scripted:sample?tokens=3000")
    engine.send(question(1, draft_length=0))
    engine.send(*[Ping()] * 500)
    seen = engine.until(Finished)[1]
    pongs = sum(isinstance(event, Pong) for event in seen)
    while pongs < 500:
        assert isinstance(engine.next(), Pong)
        pongs += 1


@pytest.mark.parametrize("busy", ["", "scripted:sample?rate=20", "scripted:sample?die=hang"])
def test_the_end_of_its_input_ends_the_engine(start: Start, busy: str) -> None:
    engine = start()
    engine.until(Hello)
    if busy:
        engine.load(busy)
        engine.send(question(1))
        engine.until(Rounds)
    assert engine.process.stdin is not None
    engine.process.stdin.close()
    assert engine.ended(15) == 0, "a silence of 20 seconds would end it too"


def test_an_app_that_does_not_read_and_goes_away_ends_the_engine(start: Start) -> None:
    engine = start()
    engine.load("scripted:sample?tokens=8000")
    engine.send(question(1))
    assert engine.process.stdout is not None
    time.sleep(0.3)
    engine.process.stdout.close()
    engine.ended()


@pytest.mark.parametrize("busy", ["", "scripted:sample?rate=20", "scripted:sample?die=hang"])
def test_a_silent_app_ends_the_engine(start: Start, busy: str) -> None:
    engine = start(heartbeat=2.0)
    if busy:
        engine.load(busy)
        engine.send(question(1))
    else:
        engine.until(Hello)
    for _ in range(4):
        engine.send(Ping())
        time.sleep(0.6)
    engine.send(Ping())
    assert engine.process.poll() is None
    began = time.monotonic()
    assert engine.ended() == 1
    assert time.monotonic() - began > 1
    assert b"nothing heard" in engine.log.read_bytes()


def test_an_app_that_is_suspended_is_waited_for_until_it_is_heard_again(start: Start) -> None:
    engine = start(heartbeat=2.0)
    engine.until(Hello)
    engine.send(Ping(60))
    engine.until(Pong)
    time.sleep(3)
    assert engine.process.poll() is None
    engine.send(Ping())
    engine.until(Pong)
    assert engine.ended() == 1
    assert b"nothing heard from the app for 2 s" in engine.log.read_bytes()


@linux
def test_the_engine_dies_with_its_parent_even_if_the_pipe_stays_open(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'from tui.engine.server import main; main(60)'])\n"
        "time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as parent:
        assert parent.stdout is not None
        hello = decode_event(parent.stdout.readline())
        assert isinstance(hello, Hello)
        assert hello.pid != parent.pid
        parent.kill()
        assert gone(hello.pid)


@linux
def test_no_worker_survives_the_engine(start: Start) -> None:
    for how in (signal.SIGKILL, None):
        engine = start()
        engine.load("scripted:echo")
        pid = engine.process.pid
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        assert len(children) == 1
        if how:
            engine.process.send_signal(how)
        else:
            engine.send(Quit())
        engine.ended()
        assert gone(children[0])


@linux
def test_the_engine_writes_no_core_and_survives_ctrl_c(start: Start) -> None:
    raised = "import resource as r\nr.setrlimit(r.RLIMIT_CORE, (r.getrlimit(r.RLIMIT_CORE)[1],) * 2)"
    engine = start(before=raised)
    engine.load("scripted:echo")
    limits = Path(f"/proc/{engine.process.pid}/limits").read_text().splitlines()
    assert next(line.split()[4] for line in limits if line.startswith("Max core")) == "0"
    engine.process.send_signal(signal.SIGINT)
    assert engine.answer(question(1))[0] == "Hello?"


NOISE = """
import ctypes, os, sys
from tests.support.scripted import ScriptedModel
real = ScriptedModel.extend
libc = ctypes.CDLL(None)
def extend(self, tokens, picks):
    libc.puts(b'{"type": "pong"}')
    libc.fflush(None)
    os.write(1, b'{"type": "finished"')
    os.write(2, b"native trouble\\n")
    print("python trouble", flush=True)
    os.system("echo from a shell")
    assert os.read(0, 1) == b""
    return real(self, tokens, picks)
ScriptedModel.extend = extend
"""


def test_what_native_code_prints_never_reaches_the_protocol(start: Start) -> None:
    engine = start(before=NOISE)
    engine.load("scripted:echo")
    engine.send(question(1, "ok"))
    _, events = engine.until(Finished)
    assert not [event for event in events if isinstance(event, Pong)]
    assert text_of(events) == "ok"
    log = engine.log.read_text()
    for noise in ('{"type": "pong"}', "native trouble", "python trouble", "from a shell"):
        assert noise in log


DEATHS = {"segv": -signal.SIGSEGV, "abrt": -signal.SIGABRT, "kill": -signal.SIGKILL, "exit0": 0, "exit1": 1}


@pytest.mark.parametrize(
    ("how", "at"),
    [*((how, "round") for how in DEATHS), *(("segv", at) for at in ("load", "prefill", "idle"))],
)
def test_a_scripted_death_comes_when_and_how_it_was_asked_for(start: Start, how: str, at: str) -> None:
    engine = start()
    engine.send(Load(f"scripted:sample?rate=100&die={how}&at={at}"), *([] if at == "idle" else [question(1)]))
    seen: list[Event] = []
    with pytest.raises(EOFError) as status:
        while True:
            seen.append(engine.next())
    assert status.value.args == (DEATHS[how],)
    kinds = {type(event) for event in seen}
    assert (Loaded in kinds) == (at != "load")
    assert (Rounds in kinds) == (at == "round")


def test_a_bomb_in_a_chat_template_fails_one_answer_and_the_engine_goes_on(
    start: Start, tmp_path: Path
) -> None:
    bomb = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    path = models.write_model(tmp_path / "bomb.gguf", models.Toy(chat_template=bomb))
    engine = start()
    engine.load(str(path), context_length=256)
    engine.send(question(1), Ping())
    _, before = engine.until(Pong)
    assert not any(isinstance(each, Failed) for each in before), "the rendering goes on meanwhile"
    failed, _ = engine.until(Failed)
    assert failed.id == 1
    assert "longer than 2 s" in failed.message
    assert failed.hint
    assert engine.answer(question(3, raw=True, max_tokens=3))[1].statistics.tokens == 3


def test_hello_needs_no_model_library(start: Start) -> None:
    """An import that fails must not keep the engine from saying who it is, nor reach the protocol."""
    engine = start(before="import sys\nsys.modules['llama_cpp'] = None")
    engine.until(Hello)
    engine.load("scripted:echo")
    assert engine.answer(question(1))[0] == "Hello?"
    engine.send(Load("starter"))
    failed, _ = engine.until(Failed)
    assert "llama-cpp-python is not installed" in failed.message


@pytest.mark.parametrize(
    ("error", "bug"),
    [
        (MemoryError(), False),
        (RuntimeError("can't start new thread"), False),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), False),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), False),
        (RuntimeError("odd"), True),
    ],
    ids=repr,
)
def test_a_lack_of_memory_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, bug: bool
) -> None:
    def fail(session: Session, command: Generate) -> None:
        raise error

    monkeypatch.setattr(Session, "_generate", fail)
    events: list[Event] = []
    Session(events.append, lambda _: False).do(Generate(1, (Message("user", "hi"),), 1))
    (event,) = events
    assert isinstance(event, Failed)
    assert ("bug" in event.hint) == bug
    assert ("no more memory or threads" in event.message) != bug
