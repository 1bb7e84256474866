"""Models that think before they answer: the thought is one line until one wants to read it."""

from __future__ import annotations

from pathlib import Path

from chat import ask, chat, outrider, text, until
from test_branches import read, ready
from test_history import answered, origins, stored

from tui.config import Generation
from tui.screens.export import as_markdown

ECHO = "scripted:echo?rate=2000"
SLOW = "scripted:echo?rate=60"
PROMPT = "<think>\nFirst I count.\nThen I add.\n</think>\n\nIt is **four**."


async def test_a_thought_is_folded_into_one_line_with_what_it_cost(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=ECHO)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        await ask(pilot, PROMPT)
        await ready(pilot, 3)
        shown = text(app).split("<think>")[1].split("</think>")[1]
        assert "▸ thought · " in shown
        assert "tok/s" in shown.split("▸ thought")[1].splitlines()[0]
        assert "First I count" not in shown
        assert "It is four." in shown
        assert [each.role for each in chat(app).desk.transcript.messages] == ["user", "thought", "assistant"]
        before = origins(app)
        await pilot.press("f4")
        await pilot.pause()
        assert text(app).count("First I count.") == 2
        assert "▾ thought" in text(app)
        await pilot.press("f4")
        await read(pilot, "enter")
        assert text(app).count("First I count.") == 2
        await pilot.press("space")
        await pilot.pause()
        assert text(app).count("First I count.") == 1
    again = outrider(tmp_path, main=ECHO)
    again._go_on = ""
    async with again.run_test(size=(120, 40)) as pilot:
        await ready(pilot, 3)
        assert origins(again) == before
        assert "▸ thought · " in text(again)
    (found,) = stored(tmp_path)
    assert "First I count" not in as_markdown(found).split("## scripted")[-1]


async def test_a_thought_that_comes_is_counted_and_can_be_watched(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=SLOW, draft="", generation=Generation(seed=7, lookup=False))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        await ask(pilot, "<think>\n" + "and again " * 120 + "\n</think>\n\ndone")  # four seconds
        await until(pilot, lambda: "▸ thinking · " in text(app))
        await pilot.press("f4")
        await until(pilot, lambda: "▾ thinking · " in text(app))
        await pilot.press("escape")
        await ready(pilot, 3)
        assert "▾ thought · " in text(app)
        assert "stopped" in text(app)
        await read(pilot, "c")
        await until(pilot, lambda: chat(app).phase != "ready")
        await until(pilot, lambda: chat(app).phase == "ready")
        assert chat(app).desk.transcript.messages[-1].source == "done"
    (found,) = stored(tmp_path)
    assert found.turns[1].text == found.turns[0].text


async def test_only_the_answer_is_copied(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=ECHO)
    copied: list[str] = []
    app.copy_to_clipboard = copied.append  # type: ignore[method-assign]
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        await ask(pilot, PROMPT)
        await ready(pilot, 3)
        await read(pilot, "y", "up", "y")
        assert copied == ["It is **four**."] * 2


async def test_branches_of_answers_with_thoughts_come_and_go_whole(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=ECHO)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        await ask(pilot, PROMPT)
        await ready(pilot, 3)
        before = origins(app)
        await read(pilot, "r")
        await until(pilot, lambda: "‹ 2 of 2 ›" in text(app))
        await read(pilot, "left")
        await until(pilot, lambda: "‹ 1 of 2 ›" in text(app))
        assert origins(app) == before
        await pilot.press("escape")
        await answered(pilot, "no thought")
        assert len(chat(app).desk.transcript.messages) == 5
