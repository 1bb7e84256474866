"""The chat, driven by keys, with a real engine in a child process."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest
from textual.binding import Binding

from tests.support.chat import ask, chat, outrider, text, until
from tui.app import Outrider
from tui.chat.conversation import Conversation
from tui.config.last import PairSettings
from tui.protocol import Busy, Generate, Message, Notice, Origin, TextRound
from tui.screens.chat import ChatScreen
from tui.screens.history import HistoryScreen
from tui.screens.hub import HubScreen
from tui.screens.models import ModelsScreen
from tui.widgets.chat_panel import ChatPanel
from tui.widgets.composer import Composer
from tui.widgets.status import StatusLine
from tui.widgets.transcript import Transcript

WIDE, NARROW = (120, 40), (80, 24)
SLOW = "scripted:sample?rate=10&tokens=4000"


async def ready(pilot, app: Outrider) -> ChatScreen:
    await until(pilot, lambda: getattr(app.screen, "phase", "") == "ready")
    return chat(app)


async def test_the_draft_length_shown_is_that_of_the_loaded_pair(tmp_path: Path) -> None:
    """Before the first answer too. These models decide nothing: they always draft four tokens."""
    app = outrider(tmp_path)
    async with app.run_test(size=WIDE) as pilot:
        screen = await ready(pilot, app)
        await until(pilot, lambda: "auto (limit 4)" in text(app))
        await screen.session.load_pair(PairSettings(SLOW + "&load=30", "none"))
        await until(pilot, lambda: "draft length             auto" in text(app))
        assert screen.phase == "loading"


async def test_a_prompt_is_answered_and_measured(tmp_path: Path) -> None:
    said = []
    app = outrider(tmp_path)
    async with app.run_test(size=WIDE, message_hook=said.append) as pilot:
        screen = await ready(pilot, app)
        await ask(pilot, "hello")
        await until(pilot, lambda: len(screen.panel.transcript.messages) == 2 and screen.phase == "ready")
        await until(pilot, lambda: "Drafts accepted" in text(app) and "tok/s" in text(app))
        assert any(isinstance(message, Composer.Submitted) for message in said)
        assert [message.role for message in screen.panel.transcript.messages] == ["user", "assistant"]
        assert "Speculative" in screen.panel.transcript.writer.text_of(1)
        assert screen.panel.composer.text == ""
        shown = text(app)
        for part in (
            "hello",
            "tok/s",
            "ctrl+r measures it",
            "Drafts accepted",
            "seed",
            "7",
            "scripted:sample",
        ):
            assert part in shown
        assert "auto (limit 4)" in shown  # these models decide nothing: they always draft
        assert " × plain" not in shown
        assert "· speed-up" not in shown, "nothing was measured of models that are there to show drafting"


async def test_a_prompt_sent_while_models_load_is_answered_when_they_are(tmp_path: Path) -> None:
    app = outrider(tmp_path, main="scripted:echo", draft="lookup")
    async with app.run_test(size=WIDE) as pilot:
        assert chat(app).phase == "loading"
        await ask(pilot, "too early?")
        screen = await ready(pilot, app)
        await until(pilot, lambda: len(screen.panel.transcript.messages) == 2 and screen.phase == "ready")
        assert screen.panel.transcript.writer.text_of(1).strip() == "too early?"


async def test_keys_are_seen_while_models_load(tmp_path: Path) -> None:
    app = outrider(tmp_path, main="scripted:sample?rate=1")
    async with app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: chat(app).session.client.state == "loading")
        await pilot.press("a", "b", "c")
        assert chat(app).panel.composer.text == "abc"
        assert chat(app).phase == "loading"


async def test_esc_takes_back_a_prompt_that_waits_for_the_load(tmp_path: Path) -> None:
    app = outrider(tmp_path, main="scripted:sample?rate=1")
    async with app.run_test(size=WIDE) as pilot:
        await ask(pilot, "never mind")
        await until(pilot, lambda: chat(app).phase == "waiting")
        await pilot.press("escape")
        assert chat(app).panel.composer.text == "never mind"
        assert (await ready(pilot, app)).panel.transcript.messages[-1].role == "user"


async def test_esc_stops_the_answer_keeps_what_came_and_eats_no_typed_text(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=SLOW)
    async with app.run_test(size=WIDE) as pilot:
        screen = await ready(pilot, app)
        await ask(pilot, "go")
        await until(pilot, lambda: screen.phase == "answering")
        await pilot.press("n", "e", "x", "t", "escape")
        await until(pilot, lambda: screen.phase == "ready")
        assert screen.panel.composer.text == "next"
        assert screen.panel.transcript.writer.text_of(1)
        assert "stopped" in text(app)
        await pilot.press("escape")
        assert screen.panel.composer.text == "next"


async def test_a_prompt_sent_while_an_answer_comes_is_kept_and_not_sent(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=SLOW)
    async with app.run_test(size=WIDE) as pilot:
        screen = await ready(pilot, app)
        await ask(pilot, "first")
        await until(pilot, lambda: screen.phase == "answering")
        await ask(pilot, "second")
        await pilot.pause()
        assert screen.panel.composer.text == "second"
        assert len(screen.panel.transcript.messages) == 2


async def test_a_new_chat_stops_the_answer_first(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=SLOW)
    async with app.run_test(size=WIDE) as pilot:
        screen = await ready(pilot, app)
        await ask(pilot, "first")
        await until(pilot, lambda: screen.phase == "answering")
        await pilot.press("ctrl+n")
        await until(pilot, lambda: not screen.panel.transcript.messages)
        assert screen.phase == "ready"
        await until(pilot, lambda: "stopped" not in text(app))
        assert not any(screen.session.meter.history)
        await ask(pilot, "again")
        await until(pilot, lambda: screen.phase == "answering")


@pytest.mark.parametrize("how", ["segv", "kill", "exit1"])
async def test_an_engine_that_dies_leaves_the_text_and_the_next_prompt_a_new_engine(
    tmp_path: Path, how: str
) -> None:
    app = outrider(tmp_path, main=f"scripted:sample?rate=200&tokens=400&die={how}&at=round")
    async with app.run_test(size=WIDE) as pilot:
        screen = await ready(pilot, app)
        await ask(pilot, "first")
        await until(pilot, lambda: screen.phase == "ended")
        roles = [message.role for message in screen.panel.transcript.messages]
        assert roles == ["user", "assistant", "error"]
        assert "engine" in screen.panel.transcript.writer.text_of(2).lower()
        transcript, tried = screen.panel.transcript, screen.panel.transcript.messages[0]
        answered = transcript.writer.text_of(1) != ""
        assert screen.panel.composer.text == ("" if answered else "first"), "what got no answer comes back"
        screen.panel.composer.clear()
        await ask(pilot, "second")
        await until(pilot, lambda: transcript.messages[2:] and transcript.messages[-3] is not tried)
        await until(pilot, lambda: screen.phase == "ended")
        roles = [message.role for message in transcript.messages]
        assert roles == ["user", "assistant", "error"] * (2 if answered else 1)


async def test_an_engine_that_dies_between_prompts_costs_the_next_one_nothing(tmp_path: Path) -> None:
    app = outrider(tmp_path, main="scripted:echo", draft="lookup")
    async with app.run_test(size=WIDE) as pilot:
        screen = await ready(pilot, app)
        first = await screen.session.client.start()
        os.kill(first.pid, signal.SIGKILL)
        await until(pilot, lambda: screen.phase == "ended")
        await ask(pilot, "still there?")
        await until(pilot, lambda: len(screen.panel.transcript.messages) == 2 and screen.phase == "ready")
        assert screen.panel.transcript.writer.text_of(1).strip() == "still there?"
        assert (await screen.session.client.start()).pid != first.pid


async def test_a_model_that_cannot_be_loaded_is_said_and_the_prompt_comes_back(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=str(tmp_path / "missing.gguf"), draft="lookup")
    async with app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: chat(app).phase == "ended")
        assert "does not exist" in text(app)
        await ask(pilot, "anybody there?")
        await until(pilot, lambda: chat(app).phase == "ended" and chat(app).panel.composer.text)
        assert chat(app).panel.composer.text == "anybody there?"
        assert "does not exist" in chat(app).panel.transcript.writer.text_of(1)


async def test_a_rejected_draft_is_said(tmp_path: Path) -> None:
    app = outrider(tmp_path, main="scripted:echo", draft="starter")
    async with app.run_test(size=WIDE) as pilot:
        await ready(pilot, app)
        assert "without the draft model" in text(app)


async def test_what_the_engine_remarks_on_is_shown(tmp_path: Path) -> None:
    app = outrider(tmp_path)
    async with app.run_test(size=WIDE) as pilot:
        screen = await ready(pilot, app)
        screen.session.turn.take(Notice(1, "This answer goes on without the draft model: [b]it failed"))
        await pilot.pause()
        assert "goes on without the draft model: [b]it failed" in text(app)


@pytest.mark.parametrize("size", [WIDE, NARROW])
async def test_a_busy_machine_is_said_as_long_as_it_lasts(tmp_path: Path, size: tuple[int, int]) -> None:
    app = outrider(tmp_path, main=SLOW, draft="lookup")
    async with app.run_test(size=size) as pilot:
        screen = await ready(pilot, app)
        await ask(pilot, "hello")
        await until(pilot, lambda: screen.phase == "answering")
        screen.session.turn.take(Busy(1, 1, 2))
        await pilot.pause()
        assert "this machine is busy: 1 of 2 threads" in text(app)
        screen.session.turn.take(Busy(1, 2, 2))
        await pilot.pause()
        assert "is busy" not in text(app)
        assert "answering" in text(app)
        screen.session.turn.take(Busy(1, 1, 2))
        await pilot.press("escape")
        await until(pilot, lambda: screen.phase == "ready")
        assert "is busy" not in text(app)


async def test_a_busy_machine_is_said_when_the_answer_begins(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=SLOW, draft="lookup")
    async with app.run_test(size=WIDE) as pilot:
        screen = await ready(pilot, app)
        generate = app._client.generate

        async def busy(request: Generate):
            yield Busy(request.id, 1, 2)
            async for event in generate(request):
                yield event

        app._client.generate = busy  # type: ignore[method-assign]
        await ask(pilot, "hello")
        await until(pilot, lambda: screen.phase == "answering")
        assert "● this machine is busy: 1 of 2 threads" in text(app)
        await pilot.press("escape")
        await until(pilot, lambda: screen.phase == "ready")


async def test_keys_change_how_tokens_are_shown(tmp_path: Path) -> None:
    app = outrider(tmp_path)
    async with app.run_test(size=WIDE) as pilot:
        screen = await ready(pilot, app)
        seen = []
        for _ in range(3):
            await pilot.press("ctrl+t")
            seen.append(screen.panel.transcript.highlight)
            assert f"colors {seen[-1]}" in text(app)
        assert seen == ["full", "off", "quiet"]
        await pilot.press("ctrl+s")
        assert screen.panel.transcript.show_rejected
        assert "rejected shown" in text(app)


async def test_the_sidebar_folds_away_in_a_narrow_terminal_and_a_key_brings_it_back(tmp_path: Path) -> None:
    app = outrider(tmp_path)
    async with app.run_test(size=NARROW) as pilot:
        await ready(pilot, app)
        assert "Drafts accepted" not in text(app)
        await pilot.press("ctrl+b")
        await pilot.pause()
        assert "Drafts accepted" in text(app)
        await pilot.press("ctrl+b")
        await pilot.resize_terminal(*WIDE)
        await pilot.pause()
        assert "Drafts accepted" not in text(app)


async def test_the_figures_of_an_answer_go_along_when_the_sidebar_comes_or_goes(tmp_path: Path) -> None:
    app = outrider(tmp_path)
    async with app.run_test(size=NARROW) as pilot:
        screen = await ready(pilot, app)
        status = screen.panel.query_one(StatusLine)
        await ask(pilot, "hello")
        await until(pilot, lambda: screen.phase == "ready" and len(status.figures) == 2)
        speed = status.figures[0]
        await pilot.press("ctrl+b")
        await until(pilot, lambda: f" {speed}" in whole_answer(text(app)) and status.figures == ())
        await pilot.press("ctrl+b")
        await until(pilot, lambda: not whole_answer(text(app)) and status.figures[:1] == (speed,))
        screen.panel.sidebar_mode = "auto"
        await pilot.resize_terminal(*WIDE)
        await until(pilot, lambda: f" {speed}" in whole_answer(text(app)) and status.figures == ())
        await pilot.resize_terminal(*NARROW)
        await until(pilot, lambda: not whole_answer(text(app)) and status.figures[:1] == (speed,))
        assert speed in text(app)


def whole_answer(shown: str) -> str:
    """The line of the sidebar with the speed of the answer; empty without the sidebar."""
    return next((line for line in shown.splitlines() if "whole answer" in line), "")


async def test_no_size_of_the_terminal_ends_the_chat(tmp_path: Path) -> None:
    rng = random.Random(3)
    app = outrider(tmp_path, main=SLOW)
    async with app.run_test(size=WIDE) as pilot:
        screen = await ready(pilot, app)
        await ask(pilot, "go")
        for _ in range(14):
            await pilot.resize_terminal(
                rng.choice([1, 2, 5, 20, 60, 80, 200]), rng.choice([1, 2, 3, 8, 24, 60])
            )
            await pilot.press(rng.choice(["ctrl+t", "ctrl+s", "ctrl+b", "pageup", "pagedown"]))
        await pilot.resize_terminal(*WIDE)
        await until(pilot, lambda: screen.phase == "answering")
        assert "drafting" in text(app)


async def test_foreign_text_in_notices_is_shown_as_it_is_and_controls_nothing(tmp_path: Path) -> None:
    app = outrider(tmp_path, notices=("[red]no[/] [/x] \x1b]52;c;aGk=\x07\u202e",))
    async with app.run_test(size=WIDE) as pilot:
        await pilot.pause()
        shown = text(app)
        assert "[red]no[/] [/x]" in shown
        assert not {"\x1b", "\x07", "\u202e"} & set(shown)


async def test_help_shows_every_key(tmp_path: Path) -> None:
    app = outrider(tmp_path)
    async with app.run_test(size=(120, 160)) as pilot:
        await pilot.press("f1")
        await pilot.pause()
        shown = text(app)
        for binding in declared():
            assert (binding.tooltip or binding.description) in shown
        await pilot.press("escape")
        assert isinstance(app.screen, ChatScreen)


def declared() -> list[Binding]:
    groups = (Outrider, ChatScreen, ChatPanel, Composer, Transcript, HistoryScreen, ModelsScreen, HubScreen)
    found = [binding for group in groups for binding in vars(group)["BINDINGS"]]
    return [binding for binding in found if binding.description]


def test_every_binding_has_an_id_of_its_own() -> None:
    names = [binding.id for binding in declared()]
    assert all(len(binding.tooltip or binding.description) <= 42 for binding in declared()), "help would wrap"
    assert all(names)
    assert len(set(names)) == len(names)


def test_a_conversation_remembers_answers_without_what_was_rejected() -> None:
    conversation = Conversation("be brief")
    assert conversation.ask("one")[-1] == Message("user", "one")
    conversation.answer(Generate(1, (), 7), None)
    pieces = (("yes", int(Origin.DRAFT)), ("no", int(Origin.REJECTED)), ("!", int(Origin.MAIN)))
    conversation.hear(TextRound(pieces, (1, 2), 2, 0, 1, 0.1, 0.0, 0.1, 9))
    assert conversation.close()
    assert [message.content for message in conversation.ask("two")] == ["be brief", "one", "yes!", "two"]
    assert not conversation.close(), "a question without an answer leaves nothing"
    assert [message.content for message in conversation.ask("three")] == ["be brief", "one", "yes!", "three"]
