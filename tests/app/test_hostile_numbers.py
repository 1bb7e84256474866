"""Whatever numbers an engine sends within the protocol's range, what shows them shows something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec import structs

from tests.support.chat import ask, chat, outrider, text, until
from tests.support.exchanges import round_of
from tui import protocol
from tui.chat.meter import Meter
from tui.client import Item
from tui.protocol import Load, MemoryPlanned, MemoryUse, Statistics
from tui.protocol.terms import LIMIT
from tui.quantities import cells
from tui.screens.download_list import download_row
from tui.widgets.memory_bars import MemoryBars, _uses
from tui.widgets.sidebar import Sidebar

COUNTS = (0, 1, LIMIT - 1)
LABELS = ("Models", "Speed now", "acceptance rate", "Where the time went")
"""Of the sidebar: those with figures that cannot be too wide, so that they stand there always."""
TIMES = (0.0, -1e-320, 1e-320, -9e18, 9e18)


@pytest.mark.parametrize("share", [-1e300, -1.0, 0.0, 0.5, 1.0, 1e300])
def test_a_bar_has_as_many_cells_as_it_has(share: float) -> None:
    assert 0 <= cells(share, 10) <= 10


async def test_the_sidebar_takes_every_number(tmp_path: Path) -> None:
    app = outrider(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        sidebar = app.screen.query_one(Sidebar)
        for count in COUNTS:
            for seconds in TIMES:
                clock = iter(range(1000))
                meter = Meter(lambda clock=clock: float(next(clock)))  # type: ignore[misc]
                meter.begin(1)
                happened = structs.replace(round_of("x"),
                    drafted=count, accepted=count, looked_up=count, context_used=count, plain_seconds=seconds,
                    seconds=seconds, draft_seconds=seconds, verify_seconds=seconds,
                )  # fmt: skip
                for _ in range(2):
                    meter.add(happened)
                sidebar.show_reading(meter.sample(), meter.history)
                meter.finish(Statistics(tokens=count, rounds=1, drafted=count, seconds=seconds,
                                        time_to_first_token=seconds, tokens_per_second=seconds,
                                        plain_seconds=seconds, context_used=count))  # fmt: skip
                sidebar.show_reading(meter.sample(), meter.history)
                await pilot.pause()
                shown = text(app)
                assert [label for label in LABELS if label not in shown] == [], shown
                assert not re.search(r"\b(nan|inf|None)\b", shown), shown


@pytest.mark.parametrize("free", COUNTS)
@pytest.mark.parametrize("taken", COUNTS)
def test_the_bars_of_memory_take_every_number(free: int, taken: int) -> None:
    for width in (10, 200):
        (line,) = _uses([MemoryUse("GPU", free, free, taken, taken, taken, taken)], width, 14)
        assert line.plain.count("█") + line.plain.count("░") < 100


def test_a_plan_without_a_memory_is_shown_too() -> None:
    class Wide(MemoryBars):
        size = property(lambda self: type("Size", (), {"width": 100}))  # type: ignore[assignment]

    fit = Wide("fit")
    fit._asked, fit._planned = Load("m"), MemoryPlanned(-1, Load("m"), 4096, True, ())
    assert "context 4k" in fit.render().plain


@pytest.mark.parametrize(("done", "total"), [(LIMIT - 1, 1), (0, 0), (1, LIMIT - 1), (10**10, 1)])
def test_a_download_has_a_bar_of_its_length(done: int, total: int) -> None:
    item = Item("a/m", "m.gguf", done=done, total=total)
    assert sum(len(cell) for cell in download_row("m", item).cells) < 200


async def test_an_event_that_cannot_be_shown_ends_the_answer_and_not_the_chat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = outrider(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")

        def broken(self: Meter, event: protocol.TextRound) -> None:
            raise OverflowError("too much")

        with monkeypatch.context() as patch:
            patch.setattr(Meter, "add", broken)
            await ask(pilot, "one")
            await until(pilot, lambda: "cannot be shown" in text(app) and screen.phase == "ready")
        screen.panel.composer.clear()
        await ask(pilot, "two")
        await until(pilot, lambda: screen.phase == "ready" and len(screen.panel.transcript.messages) >= 4)
        last = screen.session.conversation.last
        assert last is not None and last.ending in ("stop", "length")
        assert last.text
