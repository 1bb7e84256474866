"""When a session saves a chat and when it does not, and what a chat loses if that fails: nothing."""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from tests.support import models
from tests.support.engine import Engine, text_of
from tests.support.models import Toy
from tests.support.states import OTHER, ROOM, TOLD, Talk
from tui.engine.states import saved_chats, state_file
from tui.engine.states.state_folder import StateFolder, StateWriter
from tui.paths import find_states
from tui.protocol import (
    Count,
    CountStates,
    Finished,
    ForgetStates,
    Generate,
    Inspect,
    Load,
    Message,
    Quit,
    Rounds,
    StatesCounted,
    StatesForgotten,
    Unload,
)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.write_model(tmp_path_factory.mktemp("m") / "m.gguf", Toy(heads=2, context_length=1024))


@pytest.fixture
def talk(model: Path) -> Iterator[Callable[..., Talk]]:
    opened: list[Talk] = []

    def open_(**options: Any) -> Talk:
        opened.append(Talk(options.pop("path", model), **options))
        return opened[-1]

    yield open_
    for each in opened:
        each.session.close()


Open = Callable[..., Talk]


def files() -> list[Path]:
    return sorted(find_states().glob("*"))


def test_a_chat_is_saved_while_the_engine_is_idle_and_wakes_in_another(talk: Open) -> None:
    first = talk()
    first.ask()
    assert files() == []
    first.rest()
    assert len(files()) == 1
    expected = (first.ask(seed=9), first.tokens)[1]
    second = talk()
    statistics = second.ask(seed=9)
    assert second.tokens == expected
    assert statistics.prompt_restored == statistics.prompt_reused == statistics.prompt_tokens - 1
    assert second.ask(seed=9).prompt_restored == 0, "the cache has it now"


def test_after_an_answer_an_idle_engine_saves_by_itself(talk: Open) -> None:
    first = talk()
    looks: list[int] = []

    def idle() -> bool:
        looks.append(len(files()))
        return not files() or files()[0].suffix == ".part"

    first.idle = idle
    first.ask()
    assert len(files()) == 1
    assert looks


@pytest.mark.parametrize("end", ["other chat", "unload", "load", "close", "inspection", "no chat"])
def test_a_chat_that_is_left_is_saved(talk: Open, end: str) -> None:
    first = talk()
    first.ask()
    match end:
        case "other chat":
            first.ask(OTHER, "two")
        case "no chat":
            first.ask(OTHER, "", fresh=True)
        case "unload":
            first.session.do(Unload())
        case "load":
            first.session.do(first.load)
        case "inspection":
            request = Generate(2, (Message("user", OTHER),), 1, resume=(5, 6, 7))
            first.session.do(Inspect(2, request, 0, 3))
        case "close":
            first.session.save()
    if end in ("other chat", "inspection", "no chat"):
        assert files() == [], "it is copied first, and written when there is time"
        first.rest()
    assert talk().ask().prompt_restored > 0


def test_two_chats_wake_in_turn(talk: Open) -> None:
    first, fresh = talk(), talk(disk=-1)
    for prompt, chat in ((TOLD, "one"), (OTHER, "two")):
        first.ask(prompt, chat)
    first.session.save()
    second = talk()
    for prompt, chat in ((OTHER, "two"), (TOLD, "one"), (OTHER, "two")):
        assert second.ask(prompt, chat, seed=8).prompt_restored > 0
        fresh.ask(prompt, "", seed=8, fresh=True)
        assert second.tokens == fresh.tokens
    assert len(files()) == 2


def test_what_is_not_to_be_kept_is_not_saved(talk: Open) -> None:
    """A question without a chat, a short one that stays open, an engine without disk, a failed answer."""
    first, off = talk(), talk(disk=-1)
    first.ask(chat="")
    first.ask("Hi")
    off.ask()
    first.rest()
    off.rest()
    first.session.do(Generate(1, (Message("user", TOLD),), 1, chat="one", grammar="root ::= ("))
    for each in (first, off):
        each.session.close()
    assert files() == []


def test_a_short_chat_and_the_last_tokens_of_a_long_one_are_saved_when_they_are_left(talk: Open) -> None:
    first = talk()
    for prompt, chat in (("Hi", "short"), (TOLD, "long")):
        first.ask(prompt, chat)
        first.rest()
    long = first.ask(TOLD, "long", seed=4)
    more = first.ask(TOLD, "long", seed=4, max_tokens=3, resume=tuple(first.tokens))
    assert more.prompt_tokens == long.prompt_tokens + 12
    first.session.save()
    second = talk()
    said = first.session._loaded.main.tokens[long.prompt_tokens :]
    again = second.ask(TOLD, "long", seed=4, resume=tuple(said))
    assert again.prompt_restored == again.prompt_tokens - 1
    assert second.ask("Hi", "short").prompt_restored > 0


@pytest.mark.parametrize("memory", [0, ROOM])
def test_a_chat_that_comes_back_takes_its_own_state(talk: Open, memory: int) -> None:
    """Another chat has read nearly the same tokens, but in other calls."""
    first = talk(memory=memory)
    text = {chat: (first.ask(f"{TOLD} {chat}?", chat), first.text)[1] for chat in ("one", "two")}
    first.session.save()
    woken = first if memory else talk()
    for chat in ("one", "two", "one"):
        turns = [Message("user", f"{TOLD} {chat}?"), Message("assistant", text[chat]), Message("user", "So?")]
        found = woken.chat(turns, chat, max_tokens=1)
        assert 0 < found.prompt_reused == found.prompt_restored
        woken.rest()


def test_after_an_inspection_a_chat_takes_its_own_state(talk: Open) -> None:
    """The inspection has read its tokens in other calls."""
    first = talk(memory=ROOM)
    first.ask()
    said = tuple(first.tokens)
    first.session.do(Inspect(2, Generate(2, (Message("user", TOLD),), 1, resume=said), 0, 3))
    found = first.ask(resume=said)
    assert found.prompt_restored == found.prompt_tokens - 1


def test_a_chat_that_grows_is_saved_again_only_when_an_eighth_is_new(talk: Open) -> None:
    first = talk()
    first.session._chats._least = 8
    first.ask()
    first.rest()
    (before,) = (each.stat().st_ino for each in files())
    first.ask(seed=5)
    _, unsaved = first.session._chats._states[0].unsaved("one")
    assert unsaved >= 8
    first.rest()
    assert [each.stat().st_ino for each in files()] == [before]
    first.ask(TOLD + OTHER)
    first.rest()
    assert [each.stat().st_ino for each in files()] != [before]


def test_a_question_comes_before_the_rest_of_a_save(talk: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_file, "PIECE", 10_000)
    first, fresh = talk(), talk(disk=-1)
    steps: list[int] = []
    write = StateWriter.step
    monkeypatch.setattr(StateWriter, "step", lambda writer: steps.append(1) or write(writer))
    first.idle = lambda: len(steps) < 3
    first.ask()
    assert len(steps) == 3
    assert [each.suffix for each in files()] == [".part"]
    first.ask(OTHER, "two")
    fresh.ask(OTHER, "")
    assert first.tokens == fresh.tokens
    assert len(steps) == 3
    monkeypatch.setattr(first, "idle", lambda: len(steps) < 5)
    first.session.do(Count(9, "a"))
    assert len(steps) == 5
    first.rest()
    assert len(steps) > 10
    assert [each.suffix for each in files()] == [".state", ".state"]


def test_a_full_disk_is_told_once_and_harms_no_chat(
    talk: Open, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(writer: StateWriter) -> bool:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    first, fresh = talk(), talk(disk=-1)
    told = []
    with monkeypatch.context() as patch:
        patch.setattr(StateWriter, "step", full)
        for number in range(3):
            first.ask(TOLD, str(number), seed=number)
            told += first.notices
            fresh.ask(TOLD, "", seed=number)
            assert first.tokens == fresh.tokens
            first.rest()
            assert files() == []
    assert len(told) == 1
    assert "No space left on device" in told[0]
    assert capfd.readouterr().err.count("No space left") == 1
    first.ask(OTHER, "new")
    first.rest()
    assert len(files()) == 2, "the last chat before it, too"
    with monkeypatch.context() as patch:
        patch.setattr(StateWriter, "step", full)
        first.ask(OTHER, "newer")
        first.rest()
    first.ask(OTHER, "newest")
    assert len(first.notices) == 1, "it was well in between"


def test_a_damaged_state_costs_only_its_time(talk: Open, capfd: pytest.CaptureFixture[str]) -> None:
    first = talk()
    first.ask()
    first.session.save()
    (path,) = files()
    content = bytearray(path.read_bytes())
    content[random.Random(4).randrange(len(content) // 2, len(content))] ^= 8
    path.write_bytes(content)
    second = talk()
    assert second.ask().prompt_reused == 0
    assert second.tokens == first.tokens
    assert "its checksum is wrong" in capfd.readouterr().err
    assert files() == []


def test_a_state_that_the_library_rejects_is_removed(
    talk: Open, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    first = talk()
    first.ask()
    first.session.save()
    second = talk()
    library = second.session._loaded.main._library  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setattr(library, "llama_state_seq_set_data_ext", lambda *_: 0)
        assert second.ask().prompt_restored == 0
    assert second.tokens == first.tokens
    assert "the library does not take it" in capfd.readouterr().err
    assert files() == []


def test_a_changed_model_file_makes_its_states_useless(talk: Open, tmp_path: Path) -> None:
    path = models.write_model(tmp_path / "m.gguf", Toy(context_length=1024))
    first = talk(path=path)
    first.ask()
    first.session.close()
    models.write_model(path, Toy(context_length=1024, seed=4))
    second = talk(path=path)
    assert second.ask().prompt_restored == 0
    assert files() == []


@pytest.mark.parametrize(
    "names", [("m.gguf",), ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf"), ("a", "b")]
)
def test_another_file_of_the_same_name_size_and_ends_is_another_model(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    """Of a model in one file, of each part of one in several, and of each file of an MLX folder."""
    content = os.urandom(300_000)
    for name in names:
        (tmp_path / name).write_bytes(content)
    model = tmp_path if names[0] == "a" else tmp_path / names[0]
    before = saved_chats._identity(model)
    assert saved_chats._identity(model) == before
    for name in names:
        (tmp_path / name).write_bytes(content[:150_000] + b"!" + content[150_001:])
        os.utime(tmp_path / name, ns=(0, random.Random(name).randrange(1 << 60)))
        after = saved_chats._identity(model)
        assert after != before
        before = after


def test_in_exact_mode_a_chat_wakes_with_states_of_its_own(talk: Open) -> None:
    """The drafted tokens of three turns in three sessions are the plain ones of a single session."""
    plain, fast = talk(disk=-1, exact=True), talk()
    fast.ask()
    fast.session.save()
    turns = [Message("user", TOLD)]
    for turn in range(3):
        woken = talk(exact=True)
        expected = plain.chat(turns, draft_length=0)
        assert bool(woken.chat(turns, draft_length=2, lookup=True).prompt_restored) == (turn > 0)
        assert woken.tokens == plain.tokens
        woken.session.save()
        turns += [Message("assistant", plain.text), Message("user", f"And then {turn}?")]
    assert expected.drafted == 0
    assert len(files()) == 2


def test_a_shorter_context_leaves_a_longer_chat_alone(talk: Open, model: Path) -> None:
    first = talk()
    first.ask(TOLD + OTHER)
    first.session.save()
    short = talk()
    short.session.do(structs.replace(short.load, context_length=256))
    assert short.ask(TOLD[:100]).prompt_restored == 0
    assert len(files()) == 1
    assert talk().ask(TOLD + OTHER).prompt_restored > 256


def test_another_cache_type_has_states_of_its_own(talk: Open) -> None:
    first = talk()
    first.ask()
    first.session.save()
    eight = talk(cache_type="q8_0")
    assert eight.ask().prompt_restored == 0
    eight.session.save()
    assert len(files()) == 2
    assert talk().ask().prompt_restored > 0


def test_a_deleted_chat_is_removed_and_not_saved_again(talk: Open) -> None:
    first = talk()
    first.ask(OTHER, "two")
    first.ask()
    first.rest()
    assert len(files()) == 2
    first.ask(TOLD + OTHER)
    first.session.do(ForgetStates(-1, "one"))
    (gone,) = (each for each in first.events if isinstance(each, StatesForgotten))
    assert (gone.id, gone.files) == (-1, 1)
    first.rest()
    first.session.save()
    assert len(files()) == 1
    first.session.do(ForgetStates(-2))
    assert files() == []


def test_a_copy_on_its_way_is_forgotten_too(talk: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_file, "PIECE", 10_000)
    first = talk()
    looks = iter(range(100))
    first.idle = lambda: next(looks) < 4
    first.ask()
    assert len(files()) == 1
    first.session.do(ForgetStates(-1))
    first.rest()
    assert files() == []


def test_a_chat_that_another_engine_forgets_in_the_middle_of_a_save_is_no_fault(
    talk: Open, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(state_file, "PIECE", 10_000)
    first, other = talk(), talk()
    looks = iter(range(100))
    first.idle = lambda: next(looks) < 4
    first.ask()
    assert [each.suffix for each in files()] == [".part"]
    other.session.do(ForgetStates(-1))
    assert files() == []
    first.rest()
    first.rest()
    assert files() == [], "it is not saved again at once"
    first.ask(OTHER, "two")
    assert first.notices == []
    assert "cannot be saved" not in capfd.readouterr().err


def test_off_removes_all_and_an_engine_that_saves_nothing_leaves_them(talk: Open) -> None:
    first = talk()
    first.ask()
    first.session.save()
    talk(disk=-1).ask()
    assert len(files()) == 1
    talk(disk=0)
    assert files() == []


def test_a_state_larger_than_half_of_the_free_memory_is_not_made(
    talk: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = talk()
    first.ask()
    first.session.save()
    monkeypatch.setattr(saved_chats, "spare_memory", lambda: (1 << 30, 20_000))
    second = talk()
    assert second.ask().prompt_restored == 0
    second.ask(OTHER, "two")
    second.session.save()
    assert len(files()) == 1


# Whole engines


@pytest.fixture
def start(tmp_path: Path, model: Path) -> Iterator[Callable[[], Engine]]:
    engines: list[Engine] = []

    def begin(before: str = "") -> Engine:
        patient = "from tui.engine import server\nserver.LAST_SAVE = 60\n"  # on a busy machine
        engines.append(Engine(tmp_path / f"log{len(engines)}", before=patient + before))
        engines[-1].send(Load(str(model), "none", 1024, threads=1, disk_cache=ROOM))
        return engines[-1]

    yield begin
    for engine in engines:
        engine.close()


def question(seed: int = 1, prompt: str = TOLD) -> Generate:
    return Generate(seed, (Message("user", prompt),), seed, max_tokens=12, ignore_eos=True, chat="one")


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_an_engine_that_is_told_to_quit_saves_first(start: Callable[..., Engine]) -> None:
    first = start("from tui.engine.states.saved_chats import SavedChats\nSavedChats.save = lambda *_: None")
    text, _ = first.answer(question())
    first.send(Quit())
    assert first.ended() == 0
    assert [each.suffix for each in files()] == [".state"]
    second = start()
    woken, finished = second.answer(question())
    assert woken == text
    assert finished.statistics.prompt_restored > 0
    second.send(CountStates(-5))
    counted = second.until(StatesCounted)[0]
    assert (counted.id, counted.files, counted.size) == (-5, 1, files()[0].stat().st_size)


def test_an_engine_that_quits_in_an_answer_saves_that_far(start: Callable[..., Engine]) -> None:
    first = start()
    first.send(Generate(1, (Message("user", TOLD),), 1, ignore_eos=True, chat="one"))
    first.until(Rounds)
    first.send(Quit())
    assert first.ended() == 0
    assert len(files()) == 1


def test_an_engine_that_quits_in_a_load_still_forgets(start: Callable[..., Engine]) -> None:
    first = start()
    first.answer(question())
    first.send(Quit())
    assert first.ended() == 0
    assert len(files()) == 1
    busy = "import time\nfrom tui.engine.session import Session\nSession._load = lambda *_: time.sleep(600)"
    second = start(busy)
    second.send(ForgetStates(-1, "one"))
    second.send(Quit())
    assert second.ended() == 0
    assert files() == []


def test_an_engine_that_is_killed_while_it_saves_harms_no_other(
    start: Callable[..., Engine], tmp_path: Path
) -> None:
    slow = (
        "import time\nfrom tui.engine.states import state_file\nstate_file.PIECE = 4096\n"
        "from tui.engine.states.state_folder import StateWriter\nstep = StateWriter.step\n"
        "StateWriter.step = lambda writer: time.sleep(0.01) or step(writer)"
    )
    first = start(slow)
    first.send(question())
    text = text_of(first.until(Finished)[1])
    wait_for(lambda: any(each.stat().st_size > 20_000 for each in files()))
    first.process.kill()
    first.ended()
    assert [each.suffix for each in files()] == [".part"]
    second = start()
    woken, finished = second.answer(question())
    assert (woken, finished.statistics.prompt_restored) == (text, 0)
    wait_for(lambda: any(each.suffix == ".state" for each in files()))
    later = StateFolder(find_states(), ROOM, now=lambda: time.time() + 100)
    later._remove_leftovers()
    assert [each.suffix for each in files()] == [".state"]
