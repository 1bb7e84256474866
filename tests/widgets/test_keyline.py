"""The keys at the bottom of the screen: those that mean something now, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.chat import answered, ask, chat, outrider, text, until
from tui.screens.help import HelpScreen
from tui.widgets.keyline import KeyLine

FAST = "scripted:sample?rate=2000&tokens=20"
CREEPING = "scripted:sample?rate=4&tokens=500"
"""It writes as long as a test needs."""


def footer(app: Any) -> str:
    return text(app).splitlines()[-1]


async def test_the_keys_follow_while_another_window_has_the_focus(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=CREEPING)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready" and "esc Stop" not in footer(app))
        await ask(pilot, "one")
        await until(pilot, lambda: screen.phase == "answering" and "esc Stop" in footer(app))
        app.app_focus = False
        await screen.action_stop()
        await until(pilot, lambda: screen.phase == "ready" and "esc Stop" not in footer(app))
        assert not app.app_focus
        assert "Quit" in footer(app)


async def test_a_click_on_a_key_is_a_press_of_it(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=FAST)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "f1 Help" in footer(app))
        await pilot.click(KeyLine, offset=(footer(app).index("f1 Help") + 4, 0))
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        await pilot.press("escape")
        await until(pilot, lambda: "f1 Help" in footer(app))
        await pilot.click(KeyLine, offset=(footer(app).index("f1 Help") + 9, 0))  # where no key is
        assert chat(app)


async def test_the_key_that_ends_an_edit_says_so(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=FAST)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await answered(pilot, "one")
        await pilot.press("tab", "e")
        await until(pilot, lambda: "esc Cancel edit" in footer(app))
        assert "Stop" not in footer(app)
        await pilot.press("escape")
        await until(pilot, lambda: "Cancel edit" not in footer(app))
        assert screen.panel.composer.text == "" and not screen.panel.composer.border_title


async def test_who_reads_stops_an_answer_with_one_key_and_goes_back_with_the_next(tmp_path: Path) -> None:
    app = outrider(tmp_path, main=CREEPING)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        await ask(pilot, "one")
        await until(pilot, lambda: screen.phase == "answering")
        await pilot.press("tab")
        await until(pilot, lambda: "esc Stop" in footer(app) and "Back" in footer(app))
        await pilot.press("escape")
        await until(pilot, lambda: screen.phase == "ready" and "esc Back" in footer(app))
        assert screen.panel.transcript.has_focus
        await pilot.press("escape")
        await until(pilot, lambda: screen.panel.composer.has_focus)
