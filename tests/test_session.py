"""A chat without a screen: turns, the connection and its phases, on a real engine with scripted models."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from tui import protocol, store
from tui.chat import connection as connection_module
from tui.chat.connection import BUSY, Connection, Phase, Step
from tui.chat.draft_length import Drafting
from tui.chat.meter import MeterReading
from tui.chat.overrides import ChatOverrides
from tui.chat.requests import TurnRequest
from tui.chat.session import ChatSession
from tui.chat.view import Severity
from tui.client import EngineClient, EngineDied, EngineError
from tui.config import Generation, Models, Settings
from tui.store.keeper import Keeper

if TYPE_CHECKING:
    from tui.store.store import StoredConversation as Stored

ENGINE = (sys.executable, "-m", "tui", "engine")
QUICK, SLOW = "scripted:sample?tokens=12", "scripted:sample?rate=20&tokens=4000"


class Views:
    """Stands in for the status line, the banner, the figures and the transcript."""

    stop_key = "Esc"
    is_empty = False

    def __init__(self) -> None:
        self.state: list[tuple[str, str]] = []
        self.told: list[str] = []
        self.banner: list[str] = []
        self.extras = ""
        self.rounds: list[protocol.TextRound] = []
        self.ended: list[str | None] = []
        self.given_back = 0

    def say(self, words: str, tone: str, models: Sequence[str] = ()) -> None:
        self.state.append((words, tone))

    def tell(self, words: str, *, severity: Severity = "information", seconds: float | None = None) -> None:
        self.told.append(words)

    def show_notices(self, notices: Sequence[str], *, error: bool = False) -> None:
        self.banner = list(notices)

    def show_unsaved(self, why: str) -> None: ...

    def show_loaded(self, loaded: protocol.Loaded | None) -> None: ...

    def show_rounding(self, measured: protocol.Rounding | None) -> None: ...

    def show_found(self, models: int) -> None: ...

    def show_link(self, words: str) -> None: ...

    def show_drafting(self, words: str, limit: int | None, *, lookup: bool) -> None: ...

    def show_reading(self, reading: MeterReading, history: Sequence[float]) -> None: ...

    def show_extras(self, words: str) -> None:
        self.extras = words

    def show_answer(self) -> None: ...

    def hear(self, event: protocol.TextRound) -> None:
        self.rounds.append(event)

    def end_answer(self, note: str | None = None) -> None:
        self.ended.append(note)

    def end_prompt(self, note: str) -> None:
        self.ended.append(note)

    def fail(self, message: str, hint: str) -> None:
        self.ended.append(message)

    def give_back(self, prompt: store.Turn | None = None) -> None:
        self.given_back += 1

    def leave_out(self, share: float, summary: str = "") -> int:
        return 0

    async def show(self, stored: Stored | None = None) -> None: ...

    def forget(self) -> None: ...


class Chat:
    """A session, what its views were told, and its phases."""

    def __init__(self, session: ChatSession) -> None:
        self.session = session
        self.views = Views()
        session.show_on(self.views, self.views)
        self.phases: list[Phase] = []
        session.connection.on_phase = lambda: self.phases.append(self.phase)

    @property
    def phase(self) -> Phase:
        return self.session.connection.phase

    def ask(self, prompt: str) -> None:
        self.session.answer(TurnRequest(self.session.conversation.ask(prompt)))

    async def until(self, true: Callable[[], object]) -> None:
        end = monotonic() + 60
        while not true():
            assert monotonic() < end, (self.phase, self.views.state[-3:])
            await asyncio.sleep(0.005)


@asynccontextmanager
async def chat_with(folder: Path, main: str) -> AsyncIterator[Chat]:
    client = EngineClient(ENGINE, folder / "engine.log")
    keeper = Keeper(None)
    settings = Settings(models=Models(main, "lookup"), generation=Generation(seed=7))
    chat = Chat(ChatSession(settings, client, keeper, monotonic, lambda: 1))
    chat.session.start()
    try:
        yield chat
    finally:
        chat.session.close()
        await keeper.close()
        await client.close()


async def test_a_prompt_before_the_load_waits_and_is_answered(tmp_path: Path) -> None:
    async with chat_with(tmp_path, QUICK) as chat:
        chat.session.load()
        chat.ask("go")
        await chat.until(lambda: chat.phase == Phase.READY)
        assert chat.phases == [Phase.WAITING, Phase.READING, Phase.ANSWERING, Phase.READY]
        last = chat.session.conversation.last
        assert last and last.ending in ("length", "stop")
        assert last.text == "".join(text for each in chat.views.rounds for text, _ in each.pieces)
        assert chat.views.state[-1] == ("ready", "success") and chat.views.ended == [None]


async def test_what_is_asked_with_the_chosen_draft_length_and_overrides_is_in_the_settings(
    tmp_path: Path,
) -> None:
    async with chat_with(tmp_path, QUICK) as chat:
        chat.session.draft(Drafting(3))
        chat.session.override(ChatOverrides().with_value("temperature", 0.1))
        assert (chat.session.generation.draft_length, chat.session.generation.temperature) == (3, 0.1)
        assert chat.views.extras == "temperature 0.1"


async def test_a_stopped_prompt_that_waited_goes_back_and_the_load_goes_on(tmp_path: Path) -> None:
    async with chat_with(tmp_path, QUICK) as chat:
        chat.session.load()
        chat.ask("go")
        await chat.session.turn.stop()
        assert chat.views.given_back == 1 and not chat.session.conversation.path
        await chat.until(lambda: chat.phase == Phase.READY)
        assert chat.phases == [Phase.WAITING, Phase.LOADING, Phase.READY]


async def test_a_stopped_answer_stays_as_far_as_it_came(tmp_path: Path) -> None:
    async with chat_with(tmp_path, SLOW) as chat:
        chat.session.load()
        chat.ask("go")
        await chat.until(lambda: len(chat.views.rounds) > 3)
        assert chat.session.rejects(sent=True) and "Your text stays" in chat.views.told[-1]
        await chat.session.turn.end()
        last = chat.session.conversation.last
        assert last and last.ending == "cancelled" and last.text
        assert chat.phases[-2:] == [Phase.STOPPING, Phase.READY] and not chat.session.rejects()


async def test_the_end_of_an_answer_does_not_end_the_load_of_another_pair(tmp_path: Path) -> None:
    """The engine ends the answer before it loads: the chat is ready only when the pair is there."""
    async with chat_with(tmp_path, SLOW) as chat:
        chat.session.load()
        chat.ask("go")
        await chat.until(lambda: chat.views.rounds)
        await chat.session.set_exact(True)
        await chat.until(lambda: chat.phase == Phase.READY)
        assert chat.phases[-3:] == [Phase.STOPPING, Phase.LOADING, Phase.READY]
        assert chat.session.connection.loaded and chat.views.state[-1][0] == "ready:"


async def test_a_pair_that_cannot_be_loaded_ends_the_turn_and_the_next_prompt_tries_again(
    tmp_path: Path,
) -> None:
    async with chat_with(tmp_path, str(tmp_path / "gone.gguf")) as chat:
        chat.session.load()
        chat.ask("go")
        await chat.until(lambda: chat.views.given_back)
        assert chat.phases == [Phase.WAITING, Phase.ENDED] and not chat.session.conversation.path
        chat.session.settings = Settings(models=Models(QUICK, "lookup"), generation=Generation(seed=7))
        chat.ask("again")
        await chat.until(lambda: chat.phase == Phase.READY)
        assert chat.session.conversation.path[0].text == "again"


async def test_every_chat_is_forgotten_and_numbers_are_never_drawn_twice(tmp_path: Path) -> None:
    async with chat_with(tmp_path, QUICK) as chat:
        chat.session.load()
        chat.ask("go")
        await chat.until(lambda: chat.phase == Phase.READY)
        before = chat.session.turn.id
        await chat.session.new()
        assert not chat.session.conversation.path and chat.session.meter.read().tokens == 0
        chat.ask("go")
        await chat.until(lambda: chat.session.conversation.last and chat.session.conversation.last.ending)
        assert chat.session.turn.id > before


# The phases


def steps_to(phase: Phase) -> list[Step]:
    """The steps from the start to `phase`."""
    return {
        Phase.LOADING: [],
        Phase.READY: [Step.LOADED],
        Phase.WAITING: [Step.ASK],
        Phase.READING: [Step.LOADED, Step.ASK],
        Phase.ANSWERING: [Step.LOADED, Step.ASK, Step.ROUND],
        Phase.STOPPING: [Step.LOADED, Step.ASK, Step.STOP],
        Phase.ENDED: [Step.FAIL],
    }[phase]


def connection(tmp_path: Path, ends: list[object] | None = None) -> Connection:
    client = EngineClient(ENGINE, tmp_path / "engine.log")
    told = ends if ends is not None else []
    return Connection(client, lambda: protocol.Load("m"), lambda progress: None, told.append)


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_is_reached_and_left_for_a_load_or_a_failure(tmp_path: Path, phase: Phase) -> None:
    for step, after in ((Step.LOAD, Phase.LOADING), (Step.FAIL, Phase.ENDED)):
        link = connection(tmp_path)
        for each in steps_to(phase):
            link.take(each)
        assert link.phase == phase and link.busy == (phase in BUSY)
        link.take(step)
        assert link.phase == after


@pytest.mark.parametrize(
    ("phase", "step"),
    [
        (Phase.LOADING, Step.OVER),  # an answer that ends behind the choice of another pair
        (Phase.LOADING, Step.ROUND),
        (Phase.READY, Step.STOP),
        (Phase.STOPPING, Step.ROUND),  # a round that was under way
        (Phase.WAITING, Step.LOADED),
        (Phase.ENDED, Step.OVER),
    ],
)
def test_a_step_that_comes_too_late_changes_nothing(tmp_path: Path, phase: Phase, step: Step) -> None:
    link = connection(tmp_path)
    for each in steps_to(phase):
        link.take(each)
    link.on_phase = lambda: pytest.fail("the phase has not changed")
    link.take(step)
    assert link.phase == phase


async def test_a_broken_link_is_tried_again_after_longer_each_time(tmp_path: Path) -> None:
    ends: list[object] = []
    link = connection(tmp_path, ends)
    waits = []
    for _ in range(7):
        link.fail(EngineDied("The link broke", link=True))
        waits.append(link.retry_after)
    link.close()
    assert waits == [1, 2, 4, 8, 16, connection_module.LONGEST_WAIT, connection_module.LONGEST_WAIT]
    assert len(ends) == 7 and link.phase == Phase.ENDED
    link.fail(EngineError("The model is broken"))
    assert link.retry_after is None
