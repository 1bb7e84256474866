"""The race of the last prompt: plain against drafted, the same text, and what it brought."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.chat import answered, chat, outrider, text, until
from tests.support.screens.race import WORDS, Alone, Engine
from tui.client import EngineDied
from tui.screens.race import RaceScreen


@pytest.mark.parametrize("size", [(120, 40), (80, 24)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_race_looks_as_it_should(
    snap_compare: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, size: tuple[int, int]
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    app = Alone(Engine(), tmp_path)

    async def settle(pilot: Any) -> None:
        await until(pilot, lambda: "as fast" in app.shown)
        app.now = 99.0
        await until(pilot, lambda: [len(lane.split()) for lane in app.lanes] == [len(WORDS)] * 2)

    assert snap_compare(app, terminal_size=size, run_before=settle)


async def test_both_are_asked_with_one_seed_from_empty_caches(tmp_path: Path) -> None:
    app = Alone(Engine(), tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "as fast" in app.shown)
        assert "2.25 × as fast, the same 18 tokens, 75 % of drafts accepted" in app.shown
    plain, drafted = app.engine.asked
    assert (plain.draft_length, plain.lookup, drafted.draft_length, drafted.lookup) == (
        0,
        False,
        "auto",
        True,
    )
    assert plain.seed == drafted.seed == 7
    assert plain.fresh
    assert drafted.fresh
    assert {plain.id, drafted.id} == {5, 6}


async def test_the_replay_keeps_the_pace_that_was_measured(tmp_path: Path) -> None:
    app = Alone(Engine(), tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "as fast" in app.shown)
        await pilot.pause()
        assert app.lanes == ["", ""]
        app.now = 0.0601
        await until(pilot, lambda: app.lanes[0])
        await until(pilot, lambda: [len(lane.split()) for lane in app.lanes] == [4, 9])
        app.now = 9.0
        await until(pilot, lambda: [len(lane.split()) for lane in app.lanes] == [len(WORDS)] * 2)
        await pilot.press("enter")
        await until(pilot, lambda: app.lanes == ["", ""])


async def test_texts_that_differ_are_not_called_the_same(tmp_path: Path) -> None:
    app = Alone(Engine(differ=10), tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "parted by rounding at token 11" in " ".join(app.shown.split()))
        assert "the same" not in app.shown
    asked = app.engine.inspected[0]
    assert (asked.begin, asked.count) == (10, 1)
    assert asked.request.resume == tuple(range(len(WORDS)))
    assert asked.id not in {each.id for each in app.engine.asked}


async def test_the_card_is_written_as_picture_and_text(tmp_path: Path) -> None:
    app = Alone(Engine(), tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("ctrl+e")
        await until(pilot, lambda: "as fast" in app.shown)
        assert list(tmp_path.iterdir()) == [] or (tmp_path / "outrider-race.txt").exists()
        app.now = 9.0
        await pilot.press("ctrl+e")
        await until(pilot, (tmp_path / "outrider-race.txt").exists)
    lines = (tmp_path / "outrider-race.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["plain", "with", "2.25", "From"]
    assert "<svg" in (tmp_path / "outrider-race.svg").read_text()


async def test_an_engine_that_dies_is_said_and_told_to_the_chat(tmp_path: Path) -> None:
    app = Alone(Engine(fault=True), tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "The engine was killed" in app.shown)
        await pilot.press("escape")
        await until(pilot, lambda: app.ended)
    assert isinstance(app.ended[0], EngineDied)


async def test_esc_stops_what_is_coming(tmp_path: Path) -> None:
    engine = Engine()
    engine.hold.clear()
    app = Alone(engine, tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: engine.asked)
        await pilot.press("escape")
        await until(pilot, lambda: app.ended)
    assert engine.cancelled == [6]
    assert app.ended == [None]


async def test_the_chat_races_its_last_prompt_and_goes_on(tmp_path: Path) -> None:
    app = outrider(tmp_path, main="scripted:sample?rate=400&tokens=80")
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: chat(app).phase == "ready")
        await pilot.press("ctrl+r")
        await pilot.pause()
        assert not isinstance(app.screen, RaceScreen), "there is no prompt yet"
        await answered(pilot, "hello")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: isinstance(app.screen, RaceScreen))
        await until(pilot, lambda: "as fast, the same" in text(app))
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is chat(app))
        await answered(pilot, "and on")
        assert len(chat(app).panel.transcript.messages) == 4


async def test_times_speeds_bars_and_ratio_are_of_one_span_which_is_named(tmp_path: Path) -> None:
    app = Alone(Engine(), tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "as fast" in app.shown)
        assert isinstance(app.screen, RaceScreen)
        *bars, words, span = app.screen.lines()
    seconds, speeds = (
        [float(value) for value in column] for column in zip(*map(_figures, bars), strict=True)
    )
    assert [len(WORDS) / each for each in seconds] == pytest.approx(speeds, rel=0.01)
    assert float(words.split()[0]) == pytest.approx(seconds[0] / seconds[1], rel=0.01)
    drawn = [bar.count("━") for bar in bars]
    assert drawn[0] / drawn[1] == pytest.approx(seconds[0] / seconds[1], rel=0.06)
    assert "From the first token to the last" in span


async def test_a_plain_run_on_a_busier_machine_is_no_merit_of_the_draft(tmp_path: Path) -> None:
    app = Alone(Engine(plain=0.03), tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "at most 3.00 × as fast, the same 18 tokens" in app.shown)
        assert "busier while it decoded plainly" in app.shown
        assert "4.50" not in app.shown


def _figures(bar: str) -> tuple[str, str]:
    """Seconds and tokens per second."""
    found = re.search(r"([\d.]+) s +([\d.]+) tok/s", bar)
    assert found
    return found[1], found[2]
