"""Models that think before they answer: the thought is one line until one wants to read it."""

from __future__ import annotations

from pathlib import Path

from tests.support.chat import (
    answered,
    ask,
    asked_of,
    chat,
    origins,
    outrider,
    read,
    ready,
    stored,
    text,
    told,
    until,
)
from tui.chat.export import as_markdown
from tui.config import Generation

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
        assert [each.role for each in chat(app).panel.transcript.messages] == ["user", "thought", "assistant"]
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
    app = outrider(tmp_path, main=SLOW, draft="lookup", generation=Generation(seed=7, lookup=False))
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
        await until(pilot, lambda: chat(app).panel.transcript.messages[-1].source == "done")
        await until(pilot, lambda: chat(app).phase == "ready")
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
        assert len(chat(app).panel.transcript.messages) == 5


async def test_a_thought_whose_mark_comes_at_its_end_is_folded_then(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=ECHO)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        await ask(pilot, "* First I count.\n* Then I add.\n</think>\n\nIt is **four**.")
        await ready(pilot, 3)
        thought, answer = chat(app).panel.transcript.messages[1:]
        assert (thought.role, answer.role) == ("thought", "assistant")
        assert thought.source == "* First I count.\n* Then I add.\n"
        assert answer.source == "It is **four**."
        assert text(app).count("First I count.") == 1, "in the prompt"
        assert "▸ thought · " in text(app)
        before = origins(app)
    again = outrider(tmp_path, main=ECHO)
    again._go_on = ""
    async with again.run_test(size=(120, 40)) as pilot:
        await ready(pilot, 3)
        assert origins(again) == before


async def test_a_call_of_a_tool_is_one_line_on_the_screen_and_when_copied(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=ECHO)
    copied: list[str] = []
    app.copy_to_clipboard = copied.append  # type: ignore[method-assign]
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        await ask(pilot, 'I look.\n<tool_call>\n{"name": "go",\n"to": "Rome"}\n</tool_call>\nDone.')
        await ready(pilot, 2)
        shown = text(app).split("</tool_call>")[1]
        assert 'Tool call: {"name": "go", "to": "Rome"}' in shown
        assert "Done." in shown
        await read(pilot, "y")
        assert copied == ['I look.\nTool call: `` {"name": "go", "to": "Rome"} ``\n\nDone.']
    (found,) = stored(tmp_path)
    assert found.turns[1].text == found.turns[0].text, "it is kept as the model wrote it"


async def test_an_answer_that_never_left_its_thought_is_not_sent_and_can_go_on(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=SLOW, draft="lookup", generation=Generation(seed=7, lookup=False))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        heard = asked_of(app)
        prompt = "<think>\n" + "and again " * 400 + "\n</think>\n\ndone"
        await ask(pilot, prompt)
        await until(pilot, lambda: "▸ thinking · " in text(app))
        await pilot.press("escape")
        await ready(pilot, 3)
        await ask(pilot, "/continue")
        await until(pilot, lambda: len(heard) == 2)
        assert [each.content for each in heard[1].messages] == [prompt]
        await pilot.press("escape")
        await until(pilot, lambda: chat(app).phase == "ready")
        await ask(pilot, "next")
        await until(pilot, lambda: len(heard) == 3)
        assert [(each.role, each.content) for each in heard[2].messages] == [
            ("user", prompt),
            ("user", "next"),
        ]
        await pilot.press("escape")
        await until(pilot, lambda: chat(app).phase == "ready")


async def test_a_prompt_that_got_no_answer_comes_back_and_says_so(tmp_path: Path) -> None:
    app = outrider(tmp_path, main="scripted:echo?prefill=20", draft="lookup")
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        prompt = "a long prompt " * 20
        await ask(pilot, prompt)
        await until(pilot, lambda: "reading the prompt  " in text(app))
        await pilot.press("escape")
        await until(pilot, lambda: chat(app).phase == "ready")
        assert chat(app).panel.composer.text == prompt
        assert "no answer: the prompt is not part of the conversation" in text(app)
        assert not chat(app).session.conversation.context.messages()


async def test_what_switches_thinking_is_sent_and_no_command(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=ECHO)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        heard = asked_of(app)
        for number, prompt in enumerate(("/no_think hi", "/think", "/nothink hi"), 1):
            await ask(pilot, prompt)
            await until(pilot, lambda n=number: len(heard) == n and chat(app).phase == "ready")
            assert heard[-1].messages[-1].content == prompt


async def test_thinking_and_its_effort_are_settings_of_a_chat(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=ECHO, generation=Generation(seed=7, thinking="on"))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        heard = asked_of(app)
        await ask(pilot, "one")
        await until(pilot, lambda: len(heard) == 1 and chat(app).phase == "ready")
        for command in ("/thinking off", "/effort high", "/effort as hard as you can"):
            await ask(pilot, command)
            await pilot.pause()
        assert 'effort must be "auto" or "minimal" or "low"' in told(app)
        chat(app).panel.composer.clear()
        await ask(pilot, "two")
        await until(pilot, lambda: len(heard) == 2 and chat(app).phase == "ready")
        assert [(each.thinking, each.effort) for each in heard] == [("on", "auto"), ("off", "high")]
        await pilot.press(*"/thinking ")
        await until(pilot, lambda: chat(app).panel.suggestions.is_open)
        assert [each.text for each in chat(app).panel.suggestions._offered] == ["auto", "on", "off"]
