"""Chats whose caches stay in memory: a change between them reads nothing; short memory harms no answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import models
from tests.support.assistant_models import ASSISTANT, Gemma, write_assistant, write_gemma
from tests.support.models import Toy
from tests.support.states import OTHER, ROOM, TOLD, Talk
from tui.engine.backends.cached import CachedModel
from tui.engine.states import saved_chats
from tui.engine.states.held_states import HeldStates
from tui.engine.states.state_file import SavedState, StateHead
from tui.engine.states.state_folder import ModelMark, StateFolder
from tui.paths import find_states
from tui.protocol import ForgetStates, Generate, Inspect, Message

MARK = ModelMark("group", "model", "library")
THIRD = "Who lives in the house behind the hill, and who has lived there before them? " * 4
Open = Callable[..., Talk]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


KINDS = {
    "attention": Toy(heads=2, context_length=1024),
    "window": Toy("gemma3", heads=2, context_length=1024),
    "recurrent": Toy("mamba", heads=2, context_length=1024),
    "hybrid": Toy("lfm2", heads=2, context_length=1024),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("m")
    found = {name: models.write_model(folder / f"{name}.gguf", toy) for name, toy in KINDS.items()}
    found["gemma4"] = write_gemma(folder / "gemma4.gguf", Gemma(0.1))
    found["assistant"] = write_assistant(folder / "assistant.gguf", replace(ASSISTANT, noise=0.1))
    small = Toy(seed=3, layers=1, width=32, context_length=1024)
    return found | {"draft": models.write_model(folder / "draft.gguf", small)}


@pytest.fixture
def talk(files: dict[str, Path]) -> Iterator[Open]:
    opened: list[Talk] = []

    def open_(kind: str = "attention", *, memory: int = ROOM, disk: int = -1, draft: str = "none") -> Talk:
        draft = str(files.get(draft, draft))
        opened.append(Talk(files[kind], disk, memory, draft=draft))
        return opened[-1]

    yield open_
    for each in opened:
        each.session.close()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "window"])
def test_a_chat_that_one_comes_back_to_is_not_read_again(talk: Open, kind: str) -> None:
    """With a draft, so that two caches change. All the text of the turn before is there at once."""
    one, fresh = talk(kind, draft="draft"), talk(kind, memory=0)
    turns = {
        "one": [Message("user", TOLD)],
        "two": [Message("user", OTHER)],
        "three": [Message("user", "Hello there, how do you do?")],
    }
    prompts: dict[str, int] = {}
    for turn in range(3):
        for chat, messages in turns.items():
            had = one.chat(messages, chat, draft_length=3)
            if turn:
                assert had.prompt_restored == had.prompt_reused >= prompts[chat] - 8, (chat, turn)
            prompts[chat] = had.prompt_tokens
            fresh.chat(messages, "", fresh=True, draft_length=0, lookup=False)
            assert one.tokens == fresh.tokens
            messages += [Message("assistant", "I do not know."), Message("user", f"And {turn}?")]
    assert not find_states().exists()


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_goes_on_at_its_last_token(talk: Open, kind: str) -> None:
    """A window, too: it can only be continued at its end."""
    one = talk(kind)
    one.ask()
    one.ask(OTHER, "two")
    half = one.tokens
    one.ask(seed=5)
    rest = one.ask(OTHER, "two", resume=tuple(half))
    assert rest.prompt_restored == rest.prompt_tokens - 1, "not a single token is read again"
    whole = talk(kind, memory=0)
    whole.ask(OTHER, "two", max_tokens=24)
    assert half + one.tokens == whole.tokens


def test_a_draft_that_has_no_cache_of_its_own_drops_no_chat(files: dict[str, Path], talk: Open) -> None:
    """The assistant of a Gemma 4 looks at the main model's cells, so there is nothing of it to copy."""
    one, answers = talk("gemma4", draft="assistant"), []
    for chat, prompt in enumerate((TOLD, OTHER, THIRD)):
        one.ask(prompt, str(chat))
        answers.append(tuple(one.tokens))
    for chat, prompt in enumerate((TOLD, OTHER)):
        assert one.ask(prompt, str(chat), resume=answers[chat]).prompt_restored > 100


def test_a_cache_that_cannot_be_copied_drops_no_other_chat(talk: Open) -> None:
    """In exact mode a window that drops cells is not kept, however much memory there is."""
    one = talk()
    one.ask()
    one.ask(OTHER, "two")
    held = one.session._chats._held
    taken = held.size
    assert taken
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CachedModel, "take_state", lambda *_: None)
        one.ask(THIRD, "three")
    assert held.size == taken


def test_chats_with_a_long_beginning_in_common_are_not_read_again_either(talk: Open) -> None:
    """Most of the chat is in the cache already. The state brings the rest, which is less than an eighth."""
    one, fresh = talk(), talk(memory=0)
    story = TOLD + OTHER
    prompts = {"one": story + "Where is the first boat?", "two": story + "What do the two say?"}
    for chat, prompt in prompts.items():
        one.ask(prompt, chat)
    for chat, prompt in prompts.items():
        again = one.ask(prompt, chat, seed=9)
        assert again.prompt_restored == again.prompt_tokens - 1
        fresh.ask(prompt, "", seed=9, fresh=True)
        assert one.tokens == fresh.tokens


def test_a_change_of_chats_opens_no_file(talk: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    one = talk(disk=ROOM)
    one.ask()
    one.ask(OTHER, "two")
    one.rest()
    assert len(list(find_states().iterdir())) == 2
    times = [1.0, 2.0, 3.0]
    monkeypatch.setattr(one.session._chats.folder, "_now", lambda: times[0])
    for name in ("candidates", "load"):
        monkeypatch.setattr(StateFolder, name, lambda *_: pytest.fail("the disk was asked"))
    for _ in range(2):
        assert one.ask(seed=9).prompt_restored > 150
        assert one.ask(OTHER, "two", seed=9).prompt_restored > 150
    assert {path.stat().st_mtime for path in find_states().iterdir()} == {1.0}, "they count as used"


def test_a_longer_state_on_the_disk_is_preferred(talk: Open) -> None:
    first = talk(disk=ROOM)
    first.ask(TOLD + OTHER)
    first.session.save()
    second = talk(disk=ROOM)
    second.ask(TOLD, "short")
    second.ask(THIRD, "other")
    assert second.ask(TOLD + OTHER, "new").prompt_restored == 394


def test_an_inspection_or_a_question_without_a_chat_leaves_the_chat_in_memory(talk: Open) -> None:
    one = talk()
    one.ask()
    one.session.do(Inspect(2, Generate(2, (Message("user", OTHER),), 1, resume=(5, 6, 7)), 0, 3))
    assert one.ask(seed=4).prompt_restored > 150
    one.ask(OTHER, "", fresh=True)
    assert one.ask(seed=5).prompt_restored > 150
    assert one.session._chats._held.tokens(one.session._chats._states[0].mark, "") == ()


def test_a_forgotten_chat_is_not_in_memory(talk: Open) -> None:
    one = talk()
    for gone in ("one", ""):
        one.ask()
        one.ask(OTHER, "two")
        one.session.do(ForgetStates(-1, gone))
        assert one.ask(seed=3).prompt_restored == 0
        one.ask(THIRD, "three")
        assert bool(one.ask(OTHER, "two", seed=3).prompt_restored) == bool(gone)
        one.session.do(ForgetStates(-1))


def test_off_keeps_nothing(talk: Open) -> None:
    one = talk(memory=0)
    one.ask()
    one.ask(OTHER, "two")
    assert one.ask(seed=3).prompt_restored == 0


def test_short_memory_in_an_answer_drops_all_and_changes_no_text(
    talk: Open, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    one, fresh = talk(disk=ROOM), talk(memory=0)
    one.ask()
    one.ask(OTHER, "two")
    held = one.session._chats._held
    assert held.size > 0
    monkeypatch.setattr(saved_chats, "spare_memory", lambda: (1 << 30, 1 << 20))
    held._looked = -10.0
    one.ask(OTHER, "two", seed=8)
    assert (held.size, one.session._chats._tasks) == (0, [])
    assert "memory is short" in capfd.readouterr().err
    fresh.ask(OTHER, "", seed=8)
    assert one.tokens == fresh.tokens
    monkeypatch.setattr(saved_chats, "spare_memory", lambda: (1 << 30, 1 << 29))
    one.ask(TOLD, "one")
    one.session.save()
    assert len(list(find_states().iterdir())) == 2, "later there is room again"


def test_a_copy_for_the_disk_makes_room_for_itself(talk: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the free memory is too little for a copy as long as the other chats are in memory."""
    one = talk(disk=ROOM)
    one.ask()
    one.ask(OTHER, "two")
    one.rest()
    held = one.session._chats._held
    taken = held.size
    monkeypatch.setattr(saved_chats, "spare_memory", lambda: (1 << 30, 50_000 if held.size else 1 << 28))
    one.ask(OTHER + TOLD, "two")
    one.session._chats.save(lambda: True)
    assert 0 < held.size < taken
    assert len(list(find_states().iterdir())) == 2
    one.ask(TOLD, "one")


@pytest.mark.parametrize("lengths", [(4, 4, 4, 4), (1, 2, 6, 3)])
def test_a_copy_never_takes_more_than_the_limit_together_with_the_others(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, lengths: tuple[int, ...]
) -> None:
    """The others make room before it is made. Without any other, its size is unknown."""
    sentence, limit = "Tell me about the rivers of a country. ", 150_000
    one = Talk(files["attention"], -1, limit)
    held, most, take = one.session._chats._held, list[int](), CachedModel.take_state

    def taken(model: CachedModel, room: int) -> object:
        state = take(model, room)
        assert state
        most.append(held.size + len(state.cells))
        return state

    monkeypatch.setattr(CachedModel, "take_state", taken)
    for number, length in enumerate(lengths):
        one.ask(f"{number} {sentence * length}", str(number))
    one.ask("The end", "end")
    assert len(most) == len(lengths)
    assert limit // 2 < max(most) <= limit
    one.session.close()


def test_a_copy_for_which_there_is_no_memory_is_tried_without_the_others_and_then_given_up(
    talk: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, fresh = talk(), talk(memory=0)
    one.ask()
    one.ask(OTHER, "two")
    held = one.session._chats._held
    tried: list[int] = []

    def none(self: object, most: int) -> None:
        tried.append(held.size)
        raise MemoryError

    monkeypatch.setattr(CachedModel, "take_state", none)
    one.ask(THIRD, "three")
    assert len(tried) == 2
    assert tried[0] > 0
    assert tried[1] == held.size == 0
    fresh.ask(THIRD, "")
    assert one.tokens == fresh.tokens


# The states alone


def state(tokens: int, size: int = 1000) -> SavedState:
    content = bytes(size)
    return SavedState(StateHead("model", "library", tokens, 0, (), size), [7] * tokens, (), content)


def common(head: StateHead, tokens: object) -> int:
    return head.tokens


def test_the_least_recently_used_state_makes_room() -> None:
    held = HeldStates(3 * state(5).size, lambda: (1 << 30, 1 << 29))
    for chat in ("a", "b", "c"):
        held.keep(MARK, chat, state(5))
    held.use(MARK, "a")
    held.keep(MARK, "d", state(5))
    kept = [chat for chat in "abcd" if held.tokens(MARK, chat)]
    assert kept == ["a", "c", "d"]
    held.keep(MARK, "a", state(6))
    assert held.size <= 3 * state(5).size + 4
    held.keep(MARK, "e", state(5, 10_000))
    assert not held.tokens(MARK, "e")
    assert held.size, "a state that is too large drives no other out"


def test_a_state_that_has_grown_too_large_leaves_no_older_one() -> None:
    held = HeldStates(2000, lambda: (1 << 30, 1 << 29))
    held.keep(MARK, "a", state(5))
    held.keep(MARK, "a", state(6, 5000))
    assert held.tokens(MARK, "a") == ()


def test_the_share_is_of_the_memory_that_is_free_without_the_states() -> None:
    free = 4000 + 40 * state(5).size
    held = HeldStates(-1, lambda: (1 << 30, free - held.size - state(5).size))
    for number in range(20):
        held.keep(MARK, str(number), state(5))
    assert free // 4 - state(5).size < held.size <= free // 4


def test_an_unknown_free_memory_counts_as_a_quarter_of_all() -> None:
    held = HeldStates(-1, lambda: (16 * 3000, None))
    held.keep(MARK, "a", state(5))
    held.keep(MARK, "b", state(5))
    assert [bool(held.tokens(MARK, chat)) for chat in "ab"] == [True, True]
    held.keep(MARK, "c", state(5))
    assert [bool(held.tokens(MARK, chat)) for chat in "abc"] == [False, True, True]
    assert not held.relieve()


def test_the_best_state_is_of_the_same_model() -> None:
    held = HeldStates(ROOM, lambda: (1 << 30, 1 << 29))
    held.keep(MARK, "a", state(5))
    held.keep(MARK, "b", state(9))
    held.keep(ModelMark("group", "another", "library"), "c", state(20))
    best = held.best(MARK, common)
    assert best
    assert (best.chat, best.usable) == ("b", 9)


def test_free_memory_is_looked_at_once_a_second() -> None:
    looks: list[int] = []
    time = [100.0]

    def memory() -> tuple[int, int]:
        looks.append(1)
        return 1 << 30, 1 << 29

    held = HeldStates(ROOM, memory, lambda: time[0])
    assert not held.relieve()
    assert not looks, "nothing is held"
    held.keep(MARK, "a", state(5))
    looks.clear()
    for _ in range(50):
        held.relieve()
        time[0] += 0.1
    assert 4 <= len(looks) <= 6
