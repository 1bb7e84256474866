"""Whatever the engine does, its client says so in one line, keeps what came before, and can start again."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from time import monotonic, sleep, thread_time

import pytest

from tests.support.fake_engine import WORDS, round_of, rounds_of
from tests.support.paths import ROOT, SUPPORT
from tui import protocol
from tui.client import EngineClient, EngineDied, EngineError, engine_environment
from tui.client import child as child_module
from tui.client import engine as engine_module
from tui.client.exit_reason import death, last_words
from tui.client.heartbeat import MISSED
from tui.host import Host

FAKE = SUPPORT / "fake_engine.py"
DEATHS = ("segv", "abrt", "kill", "exit0", "exit1", "hang")
SAID = {
    "segv": "SIGSEGV",
    "abrt": "SIGABRT",
    "kill": "out of memory",
    "exit0": "status 0",
    "exit1": "status 1",
    "hang": "not answered",
}
SOON = 20.0
"""Seconds in which a death must be reported: enough on a busy machine, far less than a usual silence."""

Client = Callable[..., EngineClient]


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """Makes clients of fake engines; the arguments are the fake engine's."""
    made: list[EngineClient] = []

    def make(*how: str, heartbeat: float = 30.0, **more: object) -> EngineClient:
        command = (sys.executable, str(FAKE), *how)
        new = EngineClient(command, tmp_path / "log" / "engine.log", heartbeat=heartbeat, **more)  # type: ignore[arg-type]
        made.append(new)
        return new

    yield make
    for each in made:
        await each.close()


def raw(data: bytes) -> str:
    return base64.b64encode(data).decode()


def question(number: int, text: str = "?") -> protocol.Generate:
    return protocol.Generate(number, (protocol.Message("user", text),), seed=1)


async def load(client: EngineClient) -> protocol.Loaded:
    return await client.load(protocol.Load("fake"), lambda _: None)


async def ask(client: EngineClient, number: int, text: list[str] | None = None) -> str:
    """The answer; `text` has it piece by piece, also when it breaks off."""
    text = [] if text is None else text
    async for event in client.generate(question(number)):
        if isinstance(event, protocol.TextRound):
            text += [piece for piece, _ in event.pieces]
    return "".join(text)


@asynccontextmanager
async def soon(seconds: float = SOON) -> AsyncIterator[None]:
    started = monotonic()
    async with asyncio.timeout(60):
        yield
    assert monotonic() - started < seconds


def alive(pid: int) -> bool:
    """Whether this process runs; a zombie does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return bool(state) and not state.startswith("Z")


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not true():
            await asyncio.sleep(0.01)


async def test_an_answer_comes_in_order_and_ends_with_finished(client: Client) -> None:
    engine = client()
    assert engine.state == "stopped"
    hello = await engine.start()
    assert (hello.protocol, engine.state) == (protocol.PROTOCOL, "idle")
    progress: list[protocol.Loading] = []
    loaded = await engine.load(protocol.Load("fake"), progress.append)
    assert (loaded.main.name, progress) == ("fake", [protocol.Loading("Reading", 0.5)])
    events = [event async for event in engine.generate(question(1))]
    assert events == [
        protocol.Prefill(1, 1, 2),
        *(round_of(word) for word in WORDS),
        protocol.Finished(1, "stop", protocol.Statistics()),
    ]
    assert engine.state == "idle"
    await engine.close()
    assert engine.state == "stopped"
    assert not alive(hello.pid)


@pytest.mark.parametrize("at", ["load", "prefill", "round"])
@pytest.mark.parametrize("die", DEATHS)
async def test_a_death_ends_in_one_line_and_the_next_prompt_works(
    client: Client, tmp_path: Path, die: str, at: str
) -> None:
    once = str(tmp_path / "once")
    engine = client("--die", die, "--at", at, "--once", once, heartbeat=0.5 if die == "hang" else 30)
    await engine.start()
    text: list[str] = []
    async with soon():
        with pytest.raises(EngineDied) as died:
            await load(engine)
            await ask(engine, 1, text)
    assert engine.state == "dead"
    assert SAID[die] in died.value.message
    assert "\n" not in died.value.line
    assert died.value.hint
    assert text == (list(WORDS) if at == "round" else [])
    await engine.start()
    await load(engine)
    assert await ask(engine, 2) == "".join(WORDS)


@pytest.mark.parametrize("die", DEATHS)
async def test_a_death_before_the_first_event_is_the_failure_of_the_start(
    client: Client, tmp_path: Path, die: str
) -> None:
    engine = client("--die", die, "--at", "handshake", "--once", str(tmp_path / "once"))
    async with soon():  # a process has to start first
        with pytest.raises(EngineDied) as died:
            await engine.start(timeout=0.5 if die == "hang" else 60)
    assert ("did not start within 0.5" if die == "hang" else SAID[die]) in died.value.message
    assert engine.state == "dead"
    await engine.start()
    assert await ask(engine, 1) == "".join(WORDS)


@pytest.mark.parametrize("die", DEATHS)
async def test_a_death_that_nobody_waits_for_is_told_at_once(
    client: Client, tmp_path: Path, die: str
) -> None:
    told: list[EngineDied] = []
    how = ("--die", die, "--at", "idle", "--once", str(tmp_path / "once"))
    engine = client(*how, heartbeat=0.5, on_death=told.append)
    await engine.start()
    async with soon():
        while not told:
            await asyncio.sleep(0.01)
    assert len(told) == 1
    assert SAID[die] in told[0].message
    assert engine.state == "dead"
    with pytest.raises(EngineDied) as again:
        await ask(engine, 1)
    assert again.value.line == told[0].line
    await engine.start()
    assert await ask(engine, 2) == "".join(WORDS)


async def test_an_engine_that_closes_its_pipe_is_dead(client: Client) -> None:
    engine = client("--die", "mute", "--at", "round")
    hello = await engine.start()
    async with soon():
        with pytest.raises(EngineDied, match="closed its pipe while answering"):
            await ask(engine, 1)
        await until(lambda: not alive(hello.pid))


async def test_what_an_engine_wrote_before_its_death_arrives(client: Client) -> None:
    engine = client("--die", "kill", "--at", "round", "--rounds", "200")
    hello = await engine.start()
    texts: list[str] = []
    with pytest.raises(EngineDied):
        async for event in engine.generate(question(1)):
            if isinstance(event, protocol.Prefill):
                while alive(hello.pid):
                    sleep(0.01)  # its last lines and its end are noticed in the same turn of the loop
            elif isinstance(event, protocol.TextRound):
                texts.append(event.pieces[0][0])
    assert texts == [*WORDS, *map(str, range(200))]


async def test_the_reason_is_taken_from_what_the_engine_said_last(client: Client) -> None:
    said = b"loading\n/home/me/ggml/src/ggml.c:42: GGML_ASSERT(n \x1b]52;c;AAAA\x07> 0) failed\nbye"
    engine = client("--die", "abrt", "--at", "load", "--stderr", raw(said))
    await engine.start()
    with pytest.raises(EngineDied) as died:
        await load(engine)
    assert "while loading (SIGABRT): ggml.c:42: GGML_ASSERT(n" in died.value.message
    assert "/home" not in died.value.message
    assert died.value.message.isprintable()


@pytest.mark.parametrize(
    ("said", "crashed", "expected"),
    [
        ("a\nb\n", True, ""),
        ("a\nb\n", False, "b"),
        ("x\nterminate called\n  what():  std::bad_alloc\nmore", True, "std::bad_alloc"),
        ("CUDA error: out of memory\n  current device: 0", True, "CUDA error: out of memory"),
        ("ImportError:\n\nx.so: failed to map segment from y", False, "x.so: failed to map segment from y"),
        (
            "Traceback (most recent call last):\n  File \"x\"\nModuleNotFoundError: No module named 'numpy'",
            False,
            "ModuleNotFoundError: No module named 'numpy'",
        ),
        ('Fatal Python error: Segmentation fault\n\nCurrent thread 0x1:\n  File "error.py"', True, ""),
        ("", False, ""),
    ],
)
def test_the_line_that_explains_a_death_is_found(said: str, crashed: bool, expected: str) -> None:
    assert last_words(said, crashed=crashed) == expected


def test_a_lack_of_memory_is_advised_on() -> None:
    for words in (
        "ggml: failed to allocate buffer",
        "ggml.c:1644: GGML_ASSERT(ctx->mem_buffer != NULL) failed",
        "OpenBLAS error: Memory allocation still failed after 10 retries, giving up.",
        "Original error was: libscipy.so: failed to map segment from shared object",
        "RuntimeError: can't start new thread",
        "OSError: [Errno 12] Cannot allocate memory",
    ):
        died = death(-signal.SIGABRT, words, "loading")
        assert "smaller model" in died.hint and words.rpartition(": ")[2] in died.message
    assert "smaller model" in death(-signal.SIGKILL, "", "answering").hint
    assert "smaller model" not in death(-signal.SIGSEGV, "", "answering").hint
    assert "signal 63" in death(-63, "", "idle").message


@pytest.mark.parametrize("noise", [b"Welcome!\n" * 100, b"\xff\x00 no newline ", b"{}\n[]\n\n" * 500])
async def test_what_a_shell_prints_first_is_skipped(client: Client, noise: bytes) -> None:
    engine = client("--before-hello", raw(noise))
    await engine.start()
    assert await ask(engine, 1) == "".join(WORDS)


@pytest.mark.parametrize("noise", [b"\0" * 70_000, b"hello there\n" * 7000, b"\n" * 70_000])
async def test_endless_noise_ends_the_start(client: Client, noise: bytes) -> None:
    engine = client("--before-hello", raw(noise))
    async with asyncio.timeout(60):
        with pytest.raises(EngineDied, match="printed too much"):
            await engine.start()
    assert engine.state == "dead"


@pytest.mark.parametrize(
    ("other", "how"),
    [
        (protocol.PROTOCOL + 1, ("--protocol", str(protocol.PROTOCOL + 1))),
        (1, ("--before-hello", raw(b'motd {"type": "hello", "protocol": 1, "version": "0", "pid": 1}\n'))),
    ],
)
async def test_another_protocol_is_named(client: Client, other: int, how: tuple[str, ...]) -> None:
    engine = client(*how)
    with pytest.raises(EngineDied, match=f"protocol {other} and this program {protocol.PROTOCOL}") as died:
        await engine.start()
    assert "same version" in died.value.hint


@pytest.mark.parametrize(
    "garbage",
    [
        b"llama_print_timings: 12 ms\n",
        b'{"type": "round", "id": 1}\n',
        b'{"type": "unheard-of"}\n',
        b'{"type": "loading", "stage": "\xff\xfe"}\n',
        b"[" * 100_000 + b"\n",
        b"x" * (protocol.MAX_LINE + 70_000),
        b"\0" * 1000 + b"\n",
        b'\x1b]52;c;AAAA\x07{"type": \n',
    ],
    ids=["text", "shape", "type", "utf-8", "deep", "long", "nul", "escape"],
)
async def test_garbage_in_an_answer_ends_the_engine_but_not_the_text(
    client: Client, tmp_path: Path, garbage: bytes
) -> None:
    path = tmp_path / "garbage"
    path.write_bytes(garbage)
    engine = client("--once", str(tmp_path / "once"), "--garbage", str(path))
    await engine.start()
    text: list[str] = []
    async with soon():
        with pytest.raises(EngineDied, match="sent garbage") as died:
            await ask(engine, 1, text)
    assert text == list(WORDS)
    assert died.value.message.isprintable()
    assert len(died.value.message) < 300
    await engine.start()
    assert await ask(engine, 2) == "".join(WORDS)


async def test_half_a_line_is_not_garbage_but_the_end(client: Client) -> None:
    half = protocol.encode(rounds_of(1, "four"))[:-20]
    engine = client("--die", "exit1", "--at", "after", "--in-answer", raw(half))
    await engine.start()
    text: list[str] = []
    with pytest.raises(EngineDied, match="exit status 1"):
        await ask(engine, 1, text)
    assert text == list(WORDS)


async def test_lines_may_come_byte_by_byte(client: Client) -> None:
    engine = client("--bytewise")
    await engine.start()
    assert await ask(engine, 1) == "".join(WORDS)


async def test_events_of_other_answers_are_dropped(client: Client) -> None:
    finished = protocol.Finished(1, "stop", protocol.Statistics())
    strays = [
        rounds_of(99, "stray"),
        protocol.Failed(98, "stray"),
        protocol.Pong(),
        finished,
        finished,
    ]
    strays += [rounds_of(1, "late"), protocol.Hello(1, "again", 1), protocol.Unloaded()]
    engine = client("--in-answer", raw(b"".join(map(protocol.encode, strays))))
    await engine.start()
    for number in (1, 2, 3):
        assert await ask(engine, number) == "".join(WORDS)
    assert engine.state == "idle"


async def test_a_failed_answer_leaves_the_engine_as_it_was(client: Client) -> None:
    engine = client()
    await engine.start()
    with pytest.raises(EngineError) as failed:
        async for _ in engine.generate(question(1, "fail")):
            pass
    assert not isinstance(failed.value, EngineDied)
    assert (failed.value.message, failed.value.hint) == ("It\ufffd[2J failed", "Do something")
    assert failed.value.line == "It\ufffd[2J failed. Do something"
    assert engine.state == "idle"
    assert await ask(engine, 2) == "".join(WORDS)


async def test_a_reader_that_lags_loses_nothing_and_blocks_nobody(client: Client) -> None:
    engine = client("--rounds", "5000")
    await engine.start()
    gaps: list[float] = []
    """In seconds that this thread had, so that other programs do not count."""

    async def watch() -> None:
        while True:
            before = thread_time()
            await asyncio.sleep(0.01)
            gaps.append(thread_time() - before)

    watcher = asyncio.create_task(watch())
    texts: list[str] = []
    async for event in engine.generate(question(1)):
        if isinstance(event, protocol.TextRound):
            if len(texts) in (0, 100, 2000):
                await asyncio.sleep(0.1)
            texts.append(event.pieces[0][0])
    watcher.cancel()
    assert texts == [*WORDS, *map(str, range(5000))]
    assert max(gaps) < 0.5


async def test_cancelling_ends_the_answer_with_its_text(client: Client) -> None:
    engine = client("--until-cancelled")
    await engine.start()
    text = ""
    async for event in engine.generate(question(1)):
        if isinstance(event, protocol.TextRound):
            text += event.pieces[0][0]
            if text == "".join(WORDS):
                await engine.cancel(1)
                await engine.cancel(7)
    assert isinstance(event, protocol.Finished)
    assert event.reason == "cancelled"
    assert engine.state == "idle"
    await engine.cancel(1)


async def test_leaving_an_answer_early_cancels_it_and_the_next_one_waits_for_its_end(client: Client) -> None:
    engine = client("--until-cancelled")
    await engine.start()
    async with aclosing(engine.generate(question(1))) as events:
        async for _ in events:
            break
    assert engine.state == "answering"
    async with soon(), aclosing(engine.generate(question(2))) as events:
        assert await anext(events) == protocol.Prefill(2, 1, 2)


async def test_an_answer_that_does_not_stop_is_given_up(client: Client) -> None:
    told: list[EngineDied] = []
    engine = client(
        "--until-cancelled", "--die", "hang", "--at", "round", heartbeat=0.1, on_death=told.append
    )
    engine_module.STUBBORN, kept = 2, engine_module.STUBBORN
    try:
        await engine.start()
        async with soon(), aclosing(engine.generate(question(1))) as events:
            await anext(events)
        await until(lambda: bool(told))
    finally:
        engine_module.STUBBORN = kept
    assert "does not stop" in told[0].message
    assert engine.state == "dead"


async def test_commands_queue_up(client: Client) -> None:
    engine = client()
    await engine.start()
    answers = await asyncio.gather(load(engine), *(ask(engine, number) for number in range(1, 6)))
    assert answers[1:] == ["".join(WORDS)] * 5


async def test_a_load_that_is_over_does_not_cancel_the_next(client: Client, tmp_path: Path) -> None:
    engine = client("--cancels", str(tmp_path / "cancels"))
    await engine.start()
    await asyncio.gather(load(engine), load(engine), ask(engine, 1), load(engine), ask(engine, 2))
    assert not (tmp_path / "cancels").exists()


async def test_a_load_that_is_given_up_is_cancelled(client: Client, tmp_path: Path) -> None:
    engine = client("--cancels", str(tmp_path / "cancels"), "--at", "loaded")
    await engine.start()
    loading = asyncio.create_task(load(engine))
    await until(lambda: engine.state == "loading")
    loading.cancel()
    await until((tmp_path / "cancels").exists)
    assert (tmp_path / "cancels").read_text() == "0"
    assert engine.state == "loading"


async def listed(client: EngineClient, repository: str) -> str:
    """What the engine replies to a question: the number that it knows it by."""
    (reply,) = [event async for event in client.ask(protocol.ListHub(0, repository))]
    assert isinstance(reply, protocol.HubListed)
    return reply.repository


async def test_questions_are_answered_in_any_order_beside_an_answer(client: Client) -> None:
    engine = client("--until-cancelled")
    await engine.start()
    async with soon(), aclosing(engine.generate(question(1))) as events:
        await anext(events)
        waiting = [asyncio.create_task(listed(engine, "wait")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(EngineError, match="No such thing") as failed:
            await listed(engine, "fail")
        assert failed.value.hint == "Look again"
        third = await listed(engine, "all")
        numbers = [*await asyncio.gather(*waiting), third]
    assert len({*numbers}) == 3
    assert all(number.startswith("-") for number in numbers)


async def test_a_question_that_waits_ends_with_its_engine(client: Client) -> None:
    engine = client("--die", "kill", "--at", "question")
    await engine.start()
    async with soon():
        with pytest.raises(EngineDied, match="out of memory"):
            await listed(engine, "wait")
        with pytest.raises(EngineDied, match="out of memory"):
            await listed(engine, "wait")


async def test_a_question_is_taken_back_when_nobody_waits_for_its_end(client: Client, tmp_path: Path) -> None:
    engine = client("--cancels", str(tmp_path / "cancels"))
    await engine.start()
    async with soon():
        await listed(engine, "all")
        async with aclosing(engine.ask(protocol.ListHub(0, "all"))) as replies:
            await anext(replies)
        waiting = asyncio.create_task(listed(engine, "wait"))
        await asyncio.sleep(0)
        await listed(engine, "all")
        await waiting
        assert not (tmp_path / "cancels").exists(), "these were over"
        waiting = asyncio.create_task(listed(engine, "wait"))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await until((tmp_path / "cancels").exists)
        await until(lambda: (tmp_path / "cancels").read_text() == "-5")


async def test_a_second_start_is_the_same_engine(client: Client) -> None:
    engine = client()
    starting = asyncio.create_task(engine.start())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError):
        await engine.start()
    hello = await starting
    assert await engine.start() == hello
    await engine.close()
    assert (await engine.start()).pid != hello.pid


@pytest.mark.parametrize("command", [("/nowhere/engine",), (str(ROOT),)])
async def test_a_command_that_cannot_run_is_named(tmp_path: Path, command: tuple[str, ...]) -> None:
    engine = EngineClient(command, tmp_path / "log")
    with pytest.raises(EngineDied, match="cannot be started") as died:
        await engine.start()
    assert command[0] in died.value.message
    assert engine.state == "dead"
    await engine.close()


async def test_what_the_engine_started_ends_with_it(client: Client, tmp_path: Path) -> None:
    for how in (("--die", "segv", "--at", "round"), ()):
        engine = client("--grandchild", *how)
        hello = await engine.start()
        async with soon():
            if how:
                with pytest.raises(EngineDied, match="SIGSEGV"):  # the grandchild holds the pipes open
                    await ask(engine, 1)
            else:
                assert await ask(engine, 1)
                await engine.close()
        log = (tmp_path / "log" / "engine.log").read_text()
        grandchild = json.JSONDecoder().raw_decode(log[log.rindex("{") :])[0]["grandchild"]
        await until(lambda grandchild=grandchild: not alive(grandchild))
        assert not alive(hello.pid)


async def test_an_engine_that_will_not_quit_is_killed(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "PATIENCE", 0.2)
    engine = client("--stubborn")
    hello = await engine.start()
    async with soon():
        await engine.close()
    assert engine.state == "stopped"
    with pytest.raises(ProcessLookupError):
        os.kill(hello.pid, 0)


async def test_closing_in_the_middle_ends_whoever_waits(client: Client) -> None:
    engine = client("--until-cancelled")
    await engine.start()
    answer = asyncio.create_task(ask(engine, 1))
    await until(lambda: engine.state == "answering")
    async with soon():
        await engine.close()
        with pytest.raises(EngineDied, match="was stopped"):
            await answer


@pytest.mark.parametrize("after", [0.0, 0.001, 0.01, 0.1])
async def test_a_start_that_is_given_up_leaves_no_process(
    client: Client, after: float, tmp_path: Path
) -> None:
    engine = client("--die", "hang", "--at", "handshake", "--stderr", raw(b"up"))
    start = asyncio.create_task(engine.start())
    await asyncio.sleep(after)
    pid = engine._child._transport.get_pid() if engine._child and engine._child._transport else None
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert engine.state == "stopped"
    await engine.close()
    assert pid is None or not alive(pid)


def test_the_engine_gets_devices_and_libraries_but_no_secrets() -> None:
    secrets = {"HF_TOKEN": "s", "AWS_SECRET_ACCESS_KEY": "s", "SSH_AUTH_SOCK": "s", "OPENAI_API_KEY": "s"}
    wanted = {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "1", "OMP_NUM_THREADS": "2", "LD_LIBRARY_PATH": "/l"}
    wanted |= {"GGML_METAL_PATH_RESOURCES": "/m", "METAL_DEVICE_WRAPPER_TYPE": "1", "HOME": "/h"}
    assert engine_environment(secrets | wanted) == wanted | {"GGML_NO_BACKTRACE": "1", "HF_HUB_OFFLINE": "1"}


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
async def test_the_running_engine_sees_no_secret_and_no_folder_of_the_user(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    hello = await client().start()
    assert b"hf_canary" not in Path(f"/proc/{hello.pid}/environ").read_bytes()
    assert Path(f"/proc/{hello.pid}/cwd").readlink() == Path("/")
    assert os.getsid(hello.pid) == hello.pid


async def test_the_log_is_private_clean_and_bounded(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "log" / "engine.log"
    path.parent.mkdir()
    path.write_text("old")
    path.chmod(0o644)
    engine = client("--stderr-flood", "3000000")
    kept = os.umask(0)
    try:
        await engine.start()
    finally:
        os.umask(kept)
    assert await ask(engine, 1) == "".join(WORDS)
    await engine.close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert child_module.MAX_LOG // 2 < path.stat().st_size <= child_module.MAX_LOG + 3
    assert "\x1b" not in path.read_text()
    path.write_bytes(b"x" * (child_module.MAX_LOG + 1))
    await engine.start()
    assert path.stat().st_size < child_module.MAX_LOG + 1


async def test_a_log_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    engine = EngineClient((sys.executable, str(FAKE)), tmp_path / "file" / "engine.log")
    await engine.start()
    assert await ask(engine, 1) == "".join(WORDS)
    await engine.close()


async def test_a_heartbeat_keeps_a_quiet_engine(client: Client) -> None:
    told: list[EngineDied] = []
    engine = client(heartbeat=0.3, on_death=told.append)
    beats: list[float | None] = []
    engine.heartbeat.on_beat = lambda: beats.append(engine.heartbeat.round_trip)
    await engine.start()
    await until(lambda: len(beats) > 3 * MISSED)
    assert (engine.state, told) == ("idle", [])


async def test_a_suspended_app_tells_its_engine_to_wait(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = client()
    sent: list[object] = []
    monkeypatch.setattr(engine, "_send", sent.append)
    engine.sleep()
    assert sent == [], "there is none"
    monkeypatch.undo()
    await engine.start()
    monkeypatch.setattr(engine, "_send", sent.append)
    engine.sleep()
    assert sent == [protocol.Ping(engine_module.SUSPENDED)]
    monkeypatch.undo()


async def test_who_shows_the_link_hears_when_the_engine_is_asked_and_when_it_answers(client: Client) -> None:
    engine = client(heartbeat=0.1)
    known: list[bool] = []
    engine.heartbeat.on_beat = lambda: known.append(engine.heartbeat.round_trip is not None)
    await engine.start()
    await until(lambda: len(known) > 3)
    assert known[:2] == [False, True]


async def test_what_is_known_of_one_machine_is_not_said_of_the_next(client: Client) -> None:
    engine = client(heartbeat=0.1)
    await engine.start()
    await until(lambda: engine.heartbeat.round_trip is not None)
    assert engine.heartbeat.heard is not None
    await engine.move(("/no/such/engine",), Host("gpu", "gpu"))
    assert (engine.heartbeat.round_trip, engine.heartbeat.heard) == (None, None)
    with pytest.raises(EngineDied):
        await engine.start()
    assert (engine.heartbeat.round_trip, engine.heartbeat.heard) == (None, None)


async def test_an_answer_without_end_is_broken_off(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.client.engine.LONGEST_ANSWER", 100_000)
    path = tmp_path / "flood"
    path.write_bytes(protocol.encode(rounds_of(1, "x" * 1000)) * 300)
    engine = client("--garbage", str(path), "--until-cancelled")
    await engine.start()
    await load(engine)
    text: list[str] = []
    with pytest.raises(EngineDied, match="more than 100,000 characters"):
        await ask(engine, 1, text)
    assert 90_000 < sum(map(len, text)) <= 100_000


def test_a_lost_worker_is_named_with_the_next_step() -> None:
    words = (
        "ggml-rpc.cpp:566: Remote RPC server crashed\n\nworker lost: gpu2 is gone\tTry \x1b[2Jagain.\nmore\n"
    )
    died = death(3, words, "answering")
    assert died.message == "gpu2 is gone; your next prompt goes on"
    assert died.hint.startswith("Try ") and "\x1b" not in died.hint and not died.link
    there = death(3, words, "idle", Host("gpu", "gpu"))
    assert there.message == died.message, "also where the engine itself is on another machine"
    assert "worker" not in death(3, "some worker lost: x", "idle").hint
