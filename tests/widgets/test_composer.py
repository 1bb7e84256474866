"""The composer: what it sends, what it recalls, and that it loses nothing."""

from __future__ import annotations

import time
from pathlib import Path

from textual import events

from tests.support.chat import chat, outrider, until
from tests.support.panel import Desk, paste
from tui.widgets.composer import FOLDED_FROM, MAX_PASTE


async def test_enter_sends_and_three_keys_break_the_line() -> None:
    app = Desk()
    async with app.run_test() as pilot:
        await pilot.press("a", "ctrl+j", "b", "alt+enter", "c", "shift+enter", "d", "enter")
        assert app.sent == ["a\nb\nc\nd"]
        assert app.composer.text == ""


async def test_nothing_is_sent_of_nothing() -> None:
    app = Desk()
    async with app.run_test() as pilot:
        await pilot.press("space", "ctrl+j", "enter")
        assert app.sent == []


async def test_up_recalls_earlier_prompts_only_where_nothing_is_lost() -> None:
    app = Desk()
    async with app.run_test() as pilot:
        await pilot.press("o", "n", "e", "enter", "t", "w", "o", "enter")
        await pilot.press("up")
        assert app.composer.text == "two"
        await pilot.press("up")
        assert app.composer.text == "one"
        await pilot.press("up", "down")
        assert app.composer.text == "two"
        await pilot.press("down")
        assert app.composer.text == ""
        await pilot.press("x", "up")
        assert app.composer.text == "x", "typed text stands"
        app.composer.clear()
        await pilot.press("up", "!", "up")
        assert app.composer.text == "two!", "a changed prompt is typed text"


async def test_esc_leaves_typed_text() -> None:
    app = Desk()
    async with app.run_test() as pilot:
        await pilot.press("a", "b", "escape")
        assert app.composer.text == "ab"


async def test_it_grows_to_eight_lines_and_no_further() -> None:
    app = Desk()
    async with app.run_test() as pilot:
        assert app.composer.outer_size.height == 3
        for _ in range(20):
            await pilot.press("ctrl+j")
        await pilot.pause()
        assert app.composer.size.height == 8


async def test_a_paste_runs_no_keys_and_brings_no_control_characters() -> None:
    app = Desk()
    async with app.run_test() as pilot:
        await paste(pilot, "rm -rf /\r\n\x1b[201~\x03\x1b]52;c;aGk=\x07\u202eend")
        assert app.sent == []
        text = app.composer.text
        assert text.startswith("rm -rf /\n")
        assert not {"\x1b", "\x03", "\x07", "\r", "\u202e"} & set(text)


async def test_a_megabyte_is_pasted_at_once_and_sent_in_full() -> None:
    app = Desk()
    async with app.run_test() as pilot:
        text = "word " * (MAX_PASTE // 5)
        started = time.monotonic()
        await paste(pilot, text)
        await pilot.press("x")
        assert time.monotonic() - started < 1.0
        assert len(app.composer.text) < 100
        await pilot.press("enter")
        assert app.sent == [text + "x"]


async def test_more_than_a_megabyte_is_cut_and_said() -> None:
    app = Desk()
    async with app.run_test() as pilot:
        await paste(pilot, "x" * (MAX_PASTE + 1))
        await pilot.press("enter")
        assert app.shortened == [MAX_PASTE + 1]
        assert app.sent == ["x" * MAX_PASTE]


async def test_a_folded_paste_does_not_unfold_what_it_holds() -> None:
    app = Desk()
    async with app.run_test() as pilot:
        first = "[paste 2: 10,000 characters]".ljust(FOLDED_FROM, ".")
        second = "y" * FOLDED_FROM
        await paste(pilot, first)
        await paste(pilot, second)
        assert app.composer.prompt == first + second


async def test_keys_that_come_at_once_are_obeyed_in_their_order(tmp_path: Path) -> None:
    app = outrider(tmp_path, main="scripted:echo")
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        for key in ("o", "l", "d", "ctrl+u", "n", "e", "w", "enter", "m", "o", "r", "e"):
            character = key if len(key) == 1 else "\r" if key == "enter" else None
            app.post_message(events.Key(key, character))
        await until(pilot, lambda: screen.panel.composer.text == "more")
        await until(pilot, lambda: len(screen.panel.transcript.messages) == 2)
        assert screen.panel.transcript.writer.text_of(0) == "new"
