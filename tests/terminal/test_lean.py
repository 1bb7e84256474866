"""The lean output: after every update the terminal shows what Textual's own would show, cell by cell."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyte
import pytest
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tests.support.chat import ask, chat, outrider, until
from tests.support.two_outputs import Both
from tui.screens.models import ModelsScreen
from tui.terminal.lean import Picture, cells_of, fits

pytestmark = pytest.mark.skipif(not fits(), reason="this Textual's insides are not known")


async def walk(pilot: Any) -> None:
    """Every screen of the app, and what moves in them."""
    for keys in (("f1", "pagedown", "n", "escape"), ("f2", "down", "down", *"draft", "escape", "escape")):
        await pilot.press(*keys)
    for keys in (("f9", "down", "down", "enter"), ("ctrl+p", *"race", "escape"), ("ctrl+o", "escape")):
        await pilot.press(*keys)
    await pilot.press("ctrl+t", "ctrl+s", "ctrl+b", "ctrl+b", "tab", "up", "down", "escape")
    await pilot.press("pageup", "pageup", "pagedown", "ctrl+end", *"/pre", "escape", "ctrl+u")
    await pilot.press("ctrl+g", "right", "n", "tab", "escape")
    await pilot.press("ctrl+l")
    await until(pilot, lambda: isinstance(pilot.app.screen, ModelsScreen))
    await pilot.pause()
    await pilot.press("escape")


@pytest.mark.parametrize("theme", ["outrider-dark", "terminal"])
async def test_every_screen_is_shown_as_textual_would_show_it(tmp_path: Path, theme: str) -> None:
    app = outrider(tmp_path, main="scripted:sample?rate=60&tokens=250", theme=theme, highlight="full")
    both = Both(app, 110, 34)
    async with app.run_test(size=(110, 34)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        await ask(pilot, "go")
        await until(pilot, lambda: screen.phase == "ready")
        assert both.updates > 10
        streamed = list(both.bytes)
        assert streamed[1] * 4 < streamed[0], streamed
        await walk(pilot)
        for size in ((80, 24), (40, 12), (150, 50)) if theme == "terminal" else ((80, 24),):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            await pilot.press("f1", "escape", "ctrl+b", "ctrl+b")
        await pilot.press("f2", "escape", "ctrl+p", "escape", "f9", "down", "escape")
    assert both.updates > 80


def random_line(chance: random.Random, width: int) -> list[Strip]:
    """Strips of a line, in any style, with characters of any width."""
    texts = ["word ", "  ", " " * 20, "中文", "e\u0301", "🚀", "─" * 7, "x", "\u2019"]
    styles = [
        Style.parse(each)
        for each in ("", "bold red", "on blue", "underline #aabbcc on #112233", "dim", "reverse")
    ]
    strip = Strip(
        [Segment(chance.choice(texts), chance.choice(styles)) for _ in range(chance.randint(1, 12))]
    )
    return [strip.adjust_cell_length(width, chance.choice(styles))]


@pytest.mark.parametrize("erases", [True, False])
def test_any_lines_that_move_and_change_in_any_way_arrive(erases: bool) -> None:
    from rich.color import ColorSystem

    chance = random.Random(8)
    width, height = 40, 14
    picture = Picture(width, height, erases=erases)
    lean, stock = pyte.Screen(width, height), pyte.Screen(width, height)
    streams = pyte.Stream(lean), pyte.Stream(stock)
    lines = [random_line(chance, width) for _ in range(height)]
    for _ in range(400):
        match chance.randrange(4):
            case 0:
                by = chance.choice((1, 1, 2, -1, -3))
                top, bottom = sorted(chance.sample(range(height + 1), 2))
                part = lines[top:bottom]
                new = [random_line(chance, width) for _ in range(min(abs(by), len(part)))]
                lines[top:bottom] = (part[by:] + new if by > 0 else new + part[:by])[: len(part)] or part
            case 1:
                lines[chance.randrange(height)] = random_line(chance, width)
            case 2:
                lines = [random_line(chance, width) if chance.random() < 0.3 else line for line in lines]
        cells = {row: cells_of(line, ColorSystem.TRUECOLOR)[:width] for row, line in enumerate(lines)}
        shown = {row: line for row, line in cells.items() if len(line) == width}
        streams[0].feed(picture.update(dict(shown), (0, 0), sync=True).replace("\n", "\x1bD"))
        for row in shown:
            streams[1].feed(f"\x1b[{row + 1};1H\x1b[m")
            for text, style, _ in lines[row][0]:
                streams[1].feed(
                    f"\x1b[0;{Strip.render_ansi(style, ColorSystem.TRUECOLOR)}m{text}"
                    if style
                    else f"\x1b[m{text}"
                )
        found, expected = lean.display, stock.display  # rendered anew with each look
        for row in shown:
            assert found[row] == expected[row]


def test_what_has_not_changed_costs_nothing_and_a_letter_a_few_bytes() -> None:
    from rich.color import ColorSystem

    style = Style.parse("#d5dae3 on #0f131a")

    def lines(text: str) -> dict[int, Any]:
        strips = [
            Strip([Segment(text if row == 3 else f"line {row}", style)]).adjust_cell_length(60, style)
            for row in range(12)
        ]
        return {row: cells_of([strip], ColorSystem.TRUECOLOR) for row, strip in enumerate(strips)}

    picture = Picture(60, 12, erases=True)
    assert len(picture.update(lines("a"), (11, 0), sync=False)) < 500
    assert picture.update(lines("a"), (11, 0), sync=False) == ""
    assert len(picture.update(lines("ab"), (11, 0), sync=False)) < 20
