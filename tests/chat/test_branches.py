"""Reading what was said: edit, answer again, other branches, go on with an answer, copy; by keys alone."""

from __future__ import annotations

import json
import sys
from itertools import count
from pathlib import Path

import pytest
from msgspec import to_builtins
from msgspec.structs import replace

from tests.support.chat import (
    answered,
    ask,
    asked_of,
    chat,
    origins,
    outrider,
    places_in,
    read,
    ready,
    stored,
    text,
    told,
    until,
)
from tests.support.exchanges import round_of
from tests.support.models import Toy, write_model
from tui.app import Outrider
from tui.chat.conversation import Conversation
from tui.chat.requests import Asked
from tui.chat.turn import NEARLY_FULL
from tui.clean import clean
from tui.config import Generation, History, Models, Settings
from tui.protocol import Generate, Sampling, Statistics
from tui.screens.message_actions import SUM_UP
from tui.screens.transcript_sync import LEFT, SUMMED_UP
from tui.store.changes import Turn
from tui.store.store import StoredConversation as Stored
from tui.widgets.transcript import code_blocks

FAST = "scripted:sample?rate=2000&tokens=60"
SLOW = "scripted:sample?rate=40&tokens=400"
STEADY = "scripted:sample?rate=15&tokens=400"
"""A key or a pause waits up to a second until the app is idle: some of them fit in well before the end."""
CREEPING = "scripted:sample?rate=4&tokens=500"
"""It writes as long as a test needs."""


def said(app: Outrider) -> list[str]:
    return [each.source for each in chat(app).panel.transcript.messages]


@pytest.mark.parametrize("kept", [True, False])
async def test_another_answer_is_a_branch_and_both_can_be_seen(tmp_path: Path, kept: bool) -> None:
    pair = {
        "main": str(write_model(tmp_path / "main.gguf", Toy(layers=2))),
        "draft": str(write_model(tmp_path / "draft.gguf", Toy(layers=1))),
    }
    generation = Generation(max_tokens=30)
    app = outrider(tmp_path, **pair, generation=generation, history=History(keep=kept))
    seeds = count(1)
    app._draw_seed = lambda: next(seeds)
    async with app.run_test(size=(120, 40)) as pilot:
        await answered(pilot, "one")
        await answered(pilot, "two")
        first = origins(app)
        await read(pilot, "r")
        await ready(pilot, 4)
        second = origins(app)
        assert second[:3] == first[:3]
        assert second[3] != first[3]
        assert "‹ 2 of 2 ›" in text(app)
        await read(pilot, "left")
        await until(pilot, lambda: origins(app) == first)
        assert "‹ 1 of 2 ›" in text(app)
        await pilot.press("left")
        await pilot.pause()
        assert origins(app) == first
        await pilot.press("right")
        await until(pilot, lambda: origins(app) == second)
        await pilot.press("escape")
        await answered(pilot, "three")
        assert clean(chat(app).session.conversation.context.messages()[3].content) == second[3][0]
    if not kept:
        return
    (found,) = stored(tmp_path)
    assert [turn.role for turn in found.turns] == ["user", "assistant"] * 2 + [
        "assistant",
        "user",
        "assistant",
    ]
    again = outrider(tmp_path, **pair)
    again._go_on = ""
    async with again.run_test(size=(120, 40)) as pilot:
        await ready(pilot, 6)
        assert origins(again)[:4] == second
        await read(pilot, "up", "up", "left")
        await until(pilot, lambda: origins(again) == first)
        await pilot.press("right")
        await until(pilot, lambda: len(said(again)) == 6)
        assert origins(again)[:4] == second


async def test_the_same_seed_gives_the_same_answer_again(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=FAST, generation=Generation())
    async with app.run_test(size=(120, 40)) as pilot:
        await answered(pilot, "one")
        before = said(app)
        await read(pilot, "s")
        await ready(pilot, 2)
        await until(pilot, lambda: "‹ 2 of 2 ›" in text(app))
        assert said(app) == before


async def test_an_edited_prompt_is_a_branch_beside_what_it_was(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=FAST)
    async with app.run_test(size=(120, 40)) as pilot:
        for prompt in ("one", "two", "three"):
            await answered(pilot, prompt)
        before = said(app)
        await read(pilot, "up", "up", "e")
        composer = chat(app).panel.composer
        assert (composer.text, composer.has_focus) == ("two", True)
        assert "Esc cancels" in text(app)
        await pilot.press("escape")
        assert composer.text == ""
        assert said(app) == before
        await read(pilot, "up", "up", "e")
        await pilot.press(*" and more", "enter")
        await ready(pilot, 4)
        assert said(app)[:3] == ["one", before[1], "two and more"]
        assert "‹ 2 of 2 ›" in text(app)
        await read(pilot, "up", "left")
        await until(pilot, lambda: said(app) == before)
    (found,) = stored(tmp_path)
    assert found.shown == found.turns[5].key
    assert [turn.text for turn in found.turns if turn.role == "user"] == [
        "one",
        "two",
        "three",
        "two and more",
    ]


async def test_what_stood_in_the_composer_when_a_prompt_is_edited_is_not_lost(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=FAST)
    async with app.run_test(size=(120, 40)) as pilot:
        await answered(pilot, "one")
        await pilot.press(*"half a thought")
        await read(pilot, "e")
        await pilot.press("escape", "up")
        assert chat(app).panel.composer.text == "half a thought"


async def test_an_answer_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=STEADY)
    async with app.run_test(size=(120, 40)) as pilot:
        await answered(pilot, "tell me")
        whole = said(app)[1]
        tokens = chat(app).session.conversation.last.statistics.tokens  # type: ignore[union-attr]
        await pilot.press("ctrl+n")
        for stops in (1, 2):
            if stops == 1:
                await ask(pilot, "tell me")
            else:
                await read(pilot, "c")
            await until(pilot, lambda n=stops: len(chat(app).panel.transcript.writer.text_of(1)) > 150 * n)  # type: ignore[misc]
            await chat(app).action_stop()  # a key waits until the app is idle, which may be at the end
            await ready(pilot, 2)
            assert whole.startswith(said(app)[1])
            assert len(said(app)[1]) < len(whole)
            assert "stopped" in text(app)
        half = origins(app)
    again = outrider(tmp_path, main=STEADY)
    again._go_on = ""
    async with again.run_test(size=(120, 40)) as pilot:
        await ready(pilot, 2)
        assert origins(again) == half
        await read(pilot, "c")
        await until(pilot, lambda: chat(again).phase != "ready")
        await ready(pilot, 2)
        assert said(again) == ["tell me", whole]
        assert "stopped" not in text(again)
        assert f"{tokens:,} tokens" in text(again)
        await read(pilot, "c")
        await pilot.pause()
        assert any("complete" in str(each.message) for each in again._notifications)
    found = next(
        each for each in stored(tmp_path) if len(each.turns) == 2 and each.turns[1].ending != "cancelled"
    )
    assert found.turns[1].text == whole
    assert sum(len(each.tokens) for each in found.turns[1].rounds) == tokens


async def test_another_model_does_not_go_on_with_an_answer(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=SLOW)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        await ask(pilot, "tell me")
        await until(
            pilot, lambda: len(chat(app).panel.transcript.messages) == 2 and chat(app).phase == "answering"
        )
        await until(pilot, lambda: len(chat(app).panel.transcript.writer.text_of(1)) > 50)
        await pilot.press("escape")
        await ready(pilot, 2)
    other = outrider(tmp_path, main="scripted:echo")
    other._go_on = ""
    async with other.run_test(size=(120, 40)) as pilot:
        await ready(pilot, 2)
        before = said(other)
        await read(pilot, "c")
        await pilot.pause()
        assert any("another model" in str(each.message) for each in other._notifications)
        assert said(other) == before


async def test_only_what_changed_is_read_again_by_both_models(tmp_path: Path) -> None:
    main = write_model(tmp_path / "main.gguf", Toy(layers=2, context_length=2048))
    draft = write_model(tmp_path / "draft.gguf", Toy(layers=1, context_length=2048))
    generation = Generation(max_tokens=24, draft_length=3, lookup=False)
    app = outrider(tmp_path, main=str(main), draft=str(draft), generation=generation)

    def read_anew() -> int:
        last = chat(app).session.conversation.last
        assert last is not None
        assert isinstance(last.statistics, Statistics)
        return last.statistics.prompt_tokens - last.statistics.prompt_reused

    async with app.run_test(size=(120, 40)) as pilot:
        await answered(pilot, "word " * 200)
        long = read_anew()
        await answered(pilot, "and now?")
        await read(pilot, "r")
        await ready(pilot, 4)
        assert read_anew() <= 2, "the prompt is in the cache"
        await read(pilot, "up", "e")
        await pilot.press("end", "!", "enter")
        await ready(pilot, 4)
        assert read_anew() < 20 < long


async def test_messages_and_code_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = outrider(tmp_path, main=FAST)
    copied: list[str] = []
    monkeypatch.setattr(app, "copy_to_clipboard", copied.append)
    async with app.run_test(size=(120, 40)) as pilot:
        await answered(pilot, "Like this:\n```python\na = 1\n```\nand\n```\nb\n```")
        answer = said(app)[1]
        await read(pilot, "y")
        assert copied == [answer]
        copied.clear()
        await pilot.press("up", "b", "b", "b")
        await pilot.pause()
        assert copied == ["a = 1\n", "b\n", "a = 1\n"]


async def test_the_cursor_is_shown_where_it_is_and_leaves_with_esc(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=FAST)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("tab")
        assert chat(app).panel.composer.has_focus, "there is nothing to read yet"
        await answered(pilot, "one")
        await answered(pilot, "two")
        assert "▶" not in text(app)
        await read(pilot, *["up"] * 9)
        assert [line.strip()[:5] for line in text(app).splitlines() if "▶" in line] == ["▶ one"]
        await pilot.press(*["down"] * 9)
        await pilot.pause()
        assert chat(app).panel.transcript.cursor == 3
        await pilot.press("escape")
        await pilot.pause()
        assert "▶" not in text(app)
        assert chat(app).panel.composer.has_focus


async def test_letters_after_a_click_on_the_text_go_to_the_composer(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=FAST)
    async with app.run_test(size=(120, 40)) as pilot:
        await answered(pilot, "one")
        await pilot.click("#transcript")
        await pilot.press(*"rest")
        assert chat(app).panel.composer.text == "rest"
        assert len(said(app)) == 2


async def test_nothing_is_answered_again_while_an_answer_comes(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=CREEPING)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        await ask(pilot, "one")
        await until(pilot, lambda: chat(app).phase == "answering")
        await read(pilot, "r", "left", "c")
        assert chat(app).phase == "answering"
        assert len(said(app)) == 2


async def test_an_answer_that_the_context_cut_goes_on_in_a_longer_one(tmp_path: Path) -> None:
    def app_of(context_length: int) -> Outrider:
        models = Models("scripted:sample?tokens=600", "", context_length=context_length)
        generation = Generation(seed=7, lookup=False)
        settings = Settings(models=models, generation=generation)
        return Outrider(
            settings=settings, places=places_in(tmp_path), engine=(sys.executable, "-m", "tui", "engine")
        )

    app = app_of(256)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        await answered(pilot, "a story")
        assert "the context is full: loaded with a longer one, /continue goes on" in " ".join(
            text(app).split()
        )
        before = chat(app).session.conversation.last
        assert before is not None
        await ask(pilot, "/continue")
        await until(pilot, lambda: "no room for more of this answer" in text(app))
    again = app_of(2048)
    again._go_on = ""
    async with again.run_test(size=(120, 40)) as pilot:
        await ready(pilot, 2)
        await ask(pilot, "/continue")
        await until(pilot, lambda: (end := chat(again).session.conversation.last) and end.ending == "stop")
        whole = chat(again).session.conversation.last
        assert whole is not None
        assert whole.statistics is not None
        assert whole.statistics.tokens == 601, "and the one that ends it"
        assert whole.text.startswith(before.text)


async def test_a_context_that_fills_is_said_and_the_oldest_turns_can_be_left_out(tmp_path: Path) -> None:
    main = write_model(tmp_path / "main.gguf", Toy(layers=1, context_length=512))
    pair = {"main": str(main), "draft": "lookup"}
    app = outrider(tmp_path, **pair, generation=Generation(max_tokens=20, seed=7))

    def asked() -> int:
        last = chat(app).session.conversation.last
        assert last is not None
        assert last.statistics is not None
        return last.statistics.prompt_tokens

    async with app.run_test(size=(120, 40)) as pilot:
        number = 0
        while "% full" not in text(app):
            assert chat(app).session.turn.fullness < NEARLY_FULL
            await answered(pilot, f"{number} " + "a b c d e " * 5)
            number += 1
        assert chat(app).session.turn.fullness >= NEARLY_FULL
        assert number > 2
        before = asked()
        await pilot.press("f5")
        await until(pilot, lambda: LEFT in text(app))
        assert text(app).count(LEFT) == 1
        assert "% full" not in text(app)
        left = chat(app).session.conversation.context.left
        await answered(pilot, "and now?")
        assert asked() < before
    again = outrider(tmp_path, **pair)
    again._go_on = ""
    async with again.run_test(size=(120, 40)) as pilot:
        await ready(pilot, 2 * number + 2)
        assert chat(again).session.conversation.context.left == left
        assert text(again).count(LEFT) <= 1
        assert chat(again).session.conversation.context.messages()[0].role == "user"


def test_at_least_the_last_prompt_and_its_answer_are_sent() -> None:
    conversation = Conversation("be brief")
    for number in range(5):
        conversation.ask(f"prompt {number} " * 10)
        conversation.answer(Generate(1, (), 7), None)
        conversation.hear(round_of(f"answer {number} " * 10))
        conversation.close("stop")
    assert conversation.context.left is None
    assert conversation.context.leave_out(1.0) == 0
    assert conversation.context.leave_out(0.5) == 6
    roles = [each.role for each in conversation.context.messages()]
    assert roles == ["system", "user", "assistant", "user", "assistant"]
    assert conversation.context.leave_out(0.0) == 2
    assert conversation.context.messages()[1].content.startswith("prompt 4")
    assert conversation.context.leave_out(0.0) == 0


def test_a_tree_of_a_damaged_file_has_no_circle_and_no_end_in_nothing() -> None:
    turns = (
        Turn("a", "b", "user", "one"),
        Turn("b", "a", "assistant", "two"),
        Turn("c", "lost", "user", "three"),
        Turn("d", "d", "assistant", "four"),
    )
    conversation = Conversation()
    conversation.open(Stored("k", "t", "b", turns))
    assert [turn.key for turn in conversation.path] == ["a", "b"]
    conversation.open(Stored("k", "t", "nowhere", turns))
    assert list(conversation.path) == []
    conversation.open(Stored("k", "t", "d", turns))
    assert [turn.key for turn in conversation.path] == ["d"]


@pytest.mark.parametrize(
    ("markdown", "blocks"),
    [
        ("no code", []),
        ("```py\nx\n```", ["x\n"]),
        ("1. item\n\n   ~~~\n   y\n   ~~~\n", ["y\n"]),
        ("```\nnever closed", ["never closed"]),
        ("    indented\n", ["indented\n"]),
    ],
)
def test_code_is_found_in_every_kind_of_block(markdown: str, blocks: list[str]) -> None:
    assert [each.rstrip() for each in code_blocks(markdown)] == [each.rstrip() for each in blocks]


async def test_messages_are_deleted_with_what_follows_and_can_be_brought_back(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=FAST)
    async with app.run_test(size=(120, 40)) as pilot:
        await answered(pilot, "one")
        await answered(pilot, "two")
        whole = said(app)
        await read(pilot, "up", "d")
        await ready(pilot, 2)
        assert said(app) == whole[:2] and "2 messages deleted. u or /undo brings them back." in told(app)
        await pilot.press("u")
        await ready(pilot, 4)
        assert said(app) == whole
        await pilot.press("G", "d")
        await ready(pilot, 2)
        assert chat(app).panel.composer.text == "two", "a prompt without its answer can be asked again"
        chat(app).panel.composer.clear()
        await pilot.press("g", "d")
        await until(pilot, lambda: not chat(app).panel.transcript.messages)
        chat(app).panel.composer.clear()
        await ask(pilot, "/undo")
        await ready(pilot, 2)
        await ask(pilot, "/undo")
        await ready(pilot, 4)
        assert said(app) == whole
        await ask(pilot, "/undo")
        await until(pilot, lambda: "Nothing was deleted." in told(app))
        await ask(pilot, "/delete")
        await ready(pilot, 2)
    (kept,) = stored(tmp_path)
    assert [turn.text for turn in kept.turns] == ["one", whole[1], "two"], "its answer is gone for good"
    data = b"".join(path.read_bytes() for path in tmp_path.glob("chats*"))
    assert data.count(whole[1].encode()[:20]) <= 2, "once as the text of the first, once to be found"


async def test_where_another_branch_stands_that_is_shown_instead_of_what_was_deleted(tmp_path: Path) -> None:
    pair = {
        "main": str(write_model(tmp_path / "main.gguf", Toy(layers=2))),
        "draft": str(write_model(tmp_path / "draft.gguf", Toy(layers=1))),
    }
    app = outrider(tmp_path, **pair, generation=Generation(max_tokens=12))
    seeds = count(1)
    app._draw_seed = lambda: next(seeds)
    async with app.run_test(size=(120, 40)) as pilot:
        await answered(pilot, "one")
        first = said(app)
        await read(pilot, "r")
        await ready(pilot, 2)
        assert said(app) != first
        await read(pilot, "d")
        await until(pilot, lambda: said(app) == first)
        assert "of 2 ›" not in text(app)
        await pilot.press("u")
        await until(pilot, lambda: "‹ 2 of 2 ›" in text(app))


async def test_the_oldest_turns_are_summed_up_by_the_main_model_and_the_summary_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.screens.message_actions.LEAVE", 0.0)
    app = outrider(tmp_path, main="scripted:echo")
    asked = asked_of(app)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        await pilot.press("shift+f5")
        await until(pilot, lambda: "nothing to sum up" in told(app))
        for prompt in ("one", "two", "three"):
            await answered(pilot, prompt)
        shown = said(app)
        await pilot.press("shift+f5")
        await until(pilot, lambda: SUMMED_UP in text(app))
        assert [message.content for message in asked[-1].messages] == ["one", "one", "two", "two", SUM_UP]
        assert asked[-1].thinking == "off", "its few tokens are for the summary"
        summary = SUM_UP.strip()
        assert said(app) == [*shown[:4], summary, *shown[4:]]
        assert "▸ summary of the turns above" in text(app)
        await answered(pilot, "four")
        first, *others = (message.content for message in asked[-1].messages)
        assert summary in first and first.endswith("\n\nthree") and others[-1] == "four"
        await answered(pilot, "five")
        await pilot.press("f5")
        await until(pilot, lambda: LEFT[:21] in text(app) and SUMMED_UP not in text(app))
        assert said(app)[:5] == shown[:5], "the summary has gone with what it stood for"
    (kept,) = stored(tmp_path)
    assert kept.summary == "" and kept.sent_from


async def test_a_summary_comes_back_with_its_chat_and_one_that_is_stopped_leaves_all_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.screens.message_actions.LEAVE", 0.0)
    app = outrider(tmp_path, main="scripted:echo")
    async with app.run_test(size=(120, 40)) as pilot:
        for prompt in ("one", "two", "three"):
            await answered(pilot, prompt)
        await pilot.press("shift+f5")
        await until(pilot, lambda: SUMMED_UP in text(app))
        shown = said(app)
        key = chat(app).session.conversation.key
        await pilot.press("ctrl+n")
        await until(pilot, lambda: not said(app))
        chat(app).others.open_chat(key)
        await until(pilot, lambda: said(app) == shown and SUMMED_UP in text(app))
    app = outrider(tmp_path, main=CREEPING)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        for number in range(3):
            screen.session.conversation.ask(f"{number}")
            screen.session.conversation.answer(Generate(1, (), 7), None)
            screen.session.conversation.hear(round_of("yes"))
            screen.session.conversation.close("stop")
        before = screen.session.conversation.context.messages()
        await pilot.press("shift+f5")
        await until(pilot, lambda: "summing up the oldest turns  " in text(app))
        await pilot.press("escape")
        await until(pilot, lambda: screen.phase == "ready")
        assert screen.session.conversation.context.messages() == before


async def test_who_asks_again_while_reading_goes_on_reading(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=FAST, generation=Generation())
    async with app.run_test(size=(120, 40)) as pilot:
        await answered(pilot, "one")
        await read(pilot, "r")
        await ready(pilot, 2)
        await until(pilot, lambda: "‹ 2 of 2 ›" in text(app))
        assert chat(app).panel.transcript.has_focus
        await pilot.press("left")
        await until(pilot, lambda: "‹ 1 of 2 ›" in text(app))
        await pilot.press("escape")
        await ask(pilot, "/again")
        await until(pilot, lambda: "‹ 3 of 3 ›" in text(app))
        assert chat(app).panel.composer.has_focus


async def test_a_prompt_that_got_no_answer_stands_there_once_when_it_is_sent_again(tmp_path: Path) -> None:
    main = write_model(tmp_path / "main.gguf", Toy(layers=1, context_length=512))
    app = outrider(tmp_path, main=str(main), draft="lookup", generation=Generation(max_tokens=4, seed=7))
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await answered(pilot, "short")
        for _ in range(2):
            screen.panel.composer.text = "too long " * 600
            await pilot.press("enter")
            await until(pilot, lambda: any(each.role == "error" for each in screen.panel.transcript.messages))
            await until(pilot, lambda: screen.phase == "ready")
            roles = [each.role for each in screen.panel.transcript.messages]
            assert roles.count("user") == 2 and roles.count("error") == 1
        screen.panel.composer.text = "short again"
        await pilot.press("enter")
        await until(pilot, lambda: len(said(app)) == 4 and screen.phase == "ready")
        assert [each.role for each in screen.panel.transcript.messages] == ["user", "assistant"] * 2


async def test_an_answer_goes_on_with_the_thinking_that_it_was_asked_for_with(tmp_path: Path) -> None:
    generation = Generation(seed=7, thinking="on", effort="low", max_tokens=6)
    app = outrider(tmp_path, main=FAST, generation=generation)
    asked = asked_of(app)
    async with app.run_test(size=(120, 40)) as pilot:
        await answered(pilot, "one")
        first = asked[-1]
        await ask(pilot, "/thinking off")
        await ask(pilot, "/effort high")
        await until(pilot, lambda: chat(app).session.generation.effort == "high")
        await ask(pilot, "/continue")
        await until(pilot, lambda: len(asked) == 2 and chat(app).phase == "ready")
        assert (asked[1].thinking, asked[1].effort, asked[1].resume != ()) == ("on", "low", True)
        last = chat(app).session.conversation.last
        assert last is not None
        whole = Asked.read(last.settings)
        assert whole == Asked.of(first)
        await ask(pilot, "/same")
        await until(pilot, lambda: len(asked) == 3 and chat(app).phase == "ready")
        assert (asked[2].thinking, asked[2].effort) == ("off", "high"), "asked anew, as the chat says now"


def test_what_an_answer_was_asked_with_survives_the_file_and_older_ones() -> None:
    sampling = Sampling(temperature=0.3, logit_bias=((5, None), ("é", -1.5)))
    asked = Asked.of(Generate(1, (), 7, sampling, thinking="off", effort="max"))
    assert Asked.read(asked.written()) == asked
    older = json.dumps({"seed": 7, **to_builtins(sampling)})
    assert Asked.read(older) == Asked(7, sampling)
    request = Generate(1, (), 9, thinking="on", effort="low")
    assert Asked.read(older).applied(request) == replace(request, seed=7, sampling=sampling)
    for damaged in ("", "{", "[]", '{"seed": "x"}', '{"seed": 7, "thinking": "perhaps"}'):
        assert Asked.read(damaged) == Asked()
        assert Asked.read(damaged).applied(request) == request


async def test_a_key_right_behind_tab_is_for_the_last_message(tmp_path: Path) -> None:
    """The focus arrives as an event of its own, which may come after the key."""
    app = outrider(tmp_path, main="scripted:echo", draft="lookup")
    async with app.run_test() as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        await ask(pilot, "one")
        await until(pilot, lambda: screen.phase == "ready" and len(screen.panel.transcript.messages) == 2)
        screen.action_read()
        screen.panel.transcript.action_move(-1)
        assert screen.panel.transcript.cursor == 0, "before any other event was handled"
        await until(pilot, lambda: screen.panel.transcript.has_focus)
        await pilot.pause()
        assert screen.panel.transcript.cursor == 0
