"""The app takes little: nothing in it wakes while nothing happens, and it paints what has come, once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic

import pytest
from textual._xterm_parser import XTermParser
from textual.widgets import Input

from tests.support.chat import ask, chat, outrider, until
from tui.app import Outrider
from tui.chat.turn import TICK
from tui.terminal.driver import patience_of
from tui.widgets.bars import bars

SIZE = (120, 40)


def wakes(app: Outrider) -> list[str]:
    """What the event loop will wake for by itself, but the engine's heartbeat."""
    waiting = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return [
        f"{handle!r}"
        for handle in waiting
        if not handle.cancelled() and handle._callback != app._client.heartbeat.beat
    ]


async def test_nothing_wakes_at_rest(tmp_path: Path) -> None:
    app = outrider(tmp_path, main="scripted:sample?tokens=30")
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        await until(pilot, lambda: not wakes(app))
        await ask(pilot, "go")
        await until(pilot, lambda: chat(app).session.meter.read().speed_now is not None or wakes(app))
        await until(pilot, lambda: chat(app).phase == "ready" and not wakes(app))
        await pilot.pause()
        assert not wakes(app)


@pytest.mark.parametrize("key", ["ctrl+l", "f2", "ctrl+o"])
async def test_nothing_wakes_on_a_screen_with_a_line_to_type_into(tmp_path: Path, key: str) -> None:
    app = outrider(tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        await pilot.press(key)
        await until(pilot, lambda: list(app.screen.query(Input)))
        await until(pilot, lambda: not wakes(app))
        await pilot.pause()
        assert not wakes(app)


async def test_a_round_is_painted_once_and_the_numbers_not_with_each(tmp_path: Path) -> None:
    app = outrider(tmp_path, main="scripted:sample?rate=30&tokens=90", draft="lookup")
    painted: list[object] = []
    shown: list[object] = []
    async with app.run_test(size=SIZE) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        display, show = app._display, screen.panel.show_reading

        def displaying(screen: object, update: object) -> None:
            painted.append(update)
            display(screen, update)  # type: ignore[arg-type]

        def showing(*reading: object) -> None:
            shown.append(reading)
            show(*reading)  # type: ignore[arg-type]

        app._display = displaying  # type: ignore[method-assign, assignment]
        screen.panel.show_reading = showing  # type: ignore[method-assign, assignment]
        began = monotonic()
        await ask(pilot, "go")
        await until(pilot, lambda: screen.session.meter._final)
        rounds = screen.session.meter.read().tokens  # there is no draft
        assert rounds > 80
        assert 1 < len(shown) <= (monotonic() - began) / TICK + 3
        assert len(painted) <= rounds + len(shown) + 15  # the prompt typed and sent, the state in words


def test_a_key_is_waited_for_without_looking_again() -> None:
    parser = XTermParser()
    assert patience_of(parser) is None
    list(parser.feed("\x1b"))
    assert 0 <= (patience_of(parser) or -1) <= 0.1  # an Esc alone, if nothing follows
    list(parser.feed("[A"))
    assert patience_of(parser) is None


def test_bars_begin_at_nothing() -> None:
    assert bars([9.8, 10.0, 9.9], 5, 2) == ["  ███", "  ███"]
    assert bars([0.0, 4.0, 8.0], 4, 1) == ["  ▄█"]
    assert bars([1.0, 4.0], 2, 2) == [" █", "▄█"]
    assert bars([], 3, 2) == ["   ", "   "]
