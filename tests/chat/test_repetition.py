"""An answer that repeats itself without end is noticed; one that is only alike is not."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.chat import ask, chat, outrider, text, until
from tui.chat.repetition import Repetition


def found(tokens: list[int]) -> bool:
    repetition = Repetition()
    for token in tokens:
        repetition.add([token])
    return repetition.found


@pytest.mark.parametrize("length", [1, 2, 7, 60, 250])
def test_the_same_over_and_over_is_found_behind_a_good_beginning(length: int) -> None:
    chance = random.Random(length)
    good = [chance.randrange(5000) for _ in range(500)]
    again = [chance.randrange(5000) for _ in range(length)]
    assert not found(good)
    assert found(good + again * (1600 // length))
    assert not found(good + again * 2 + good[:100])


def test_a_word_that_is_drawn_otherwise_now_and_then_hides_nothing() -> None:
    chance = random.Random(1)
    tokens = [number % 3 if chance.random() > 0.03 else 9 for number in range(900)]
    assert found(tokens)


def test_a_list_whose_lines_differ_is_none() -> None:
    rows = [[10, 11, 1000 + n, 12, 2000 + n, 13] for n in range(300)]
    assert not found([token for row in rows for token in row])


def test_a_short_line_of_dashes_is_none() -> None:
    assert not found([*range(300), *[7] * 150, *range(300)])


async def test_the_status_says_so_with_the_key_that_stops_it(tmp_path: Path) -> None:
    app = outrider(tmp_path, main="scripted:echo?rate=400", draft="lookup")
    async with app.run_test(size=(140, 40)) as pilot:
        screen = chat(app)
        await until(pilot, lambda: screen.phase == "ready")
        await ask(pilot, "Sun, " * 2000)
        await until(pilot, lambda: "the answer repeats itself: Esc stops it" in text(app))
        await pilot.press("escape")
        await until(pilot, lambda: screen.phase == "ready")
        await ask(pilot, "Something else.")
        await until(pilot, lambda: screen.phase == "ready" and "Something else" in text(app))
        assert "repeats itself" not in text(app)
