"""Ratios of turns, and a file of them that can be gone on with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tools.bench.turns import Took, Turn, add, is_done, ratio, read, table


def turn(prompt: str, run: int = 0, **rates: float) -> Turn:
    """At a hundred tokens, and with half the speed on the wall's clock."""
    took = {way: Took(100, 100 / rate, 200 / rate, 9) for way, rate in rates.items()}
    return Turn("main", "draft", 0.0, prompt, run, 100, took)


def test_of_a_prompts_turns_the_median_counts_and_over_prompts_the_geometric_mean() -> None:
    turns = [turn("a", run, plain=10, auto=rate) for run, rate in enumerate((20, 90, 10))]
    turns.append(turn("b", plain=10, auto=5))
    found = ratio(turns, "auto", "plain")
    assert found is not None
    assert found.mean == pytest.approx(1.0)  # of 2 and 1/2
    assert (found.worst, found.prompt) == (pytest.approx(0.5), "b")


def test_a_ratio_is_taken_within_a_turn() -> None:
    turns = [turn("a", plain=10, auto=20), turn("a", 1, plain=1, auto=2), turn("a", 2, plain=100)]
    found = ratio(turns, "auto", "plain")
    assert found is not None
    assert found.mean == pytest.approx(2.0)
    assert ratio(turns, "auto", "server") is None


def test_the_whole_time_has_a_ratio_of_its_own() -> None:
    slow = replace(turn("a", plain=10), took={"plain": Took(10, 1.0, 2.0, 9), "auto": Took(10, 0.5, 4.0, 9)})
    assert slow.ratio("auto", "plain") == pytest.approx(2.0)
    assert slow.ratio("auto", "plain", wall=True) == pytest.approx(0.5)


def test_a_file_of_turns_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "turns.jsonl"
    assert read(path) == []
    turns = [turn("a", plain=10, auto=20), turn("b", plain=10)]
    for each in turns:
        add(path, each)
    assert read(path) == turns


def test_a_line_that_was_broken_off_is_no_turn(tmp_path: Path) -> None:
    path = tmp_path / "turns.jsonl"
    add(path, turn("a", plain=10))
    with path.open("a") as file:
        file.write(json.dumps({"main": "main"})[:-3])
    assert read(path) == [turn("a", plain=10)]
    add(path, turn("b", plain=10))
    assert [each.prompt for each in read(path)] == ["a", "b"]


def test_a_turn_is_done_when_one_of_its_case_has_all_the_ways() -> None:
    done = [turn("a", plain=10, auto=20)]
    assert is_done(done, turn("a"), ["plain", "auto"])
    assert not is_done(done, turn("a"), ["plain", "server"])
    assert not is_done(done, turn("a", 1), ["plain"])
    assert not is_done(done, replace(turn("a"), limit=50), ["plain"])


def test_the_table_says_ratios_acceptance_and_texts() -> None:
    took = {
        "plain": Took(100, 10, 11, 9, text=5),
        "auto": Took(100, 5, 6, 9, 80, 60, text=5),
        "server": Took(100, 8, 9, 9, 90, 45),
        "server-4": Took(100, 4, 5, 10, 90, 45),
    }
    told = "\n".join(table([replace(turn("a"), took=took)]))
    assert "| plain | 10.00 tokens/s |" in told
    assert "| auto / plain | 2.00 × | 2.00 × 'a' | 75% | 1 of 1 |" in told
    assert "| server / plain | 1.25 × | 1.25 × 'a' | 50% |  |" in told
    assert "| auto / server | 1.60 × |" in told
    assert "| auto / server-4 | 0.80 × |" in told
    assert "| auto / server, prompt included | 1.50 × |" in told
    assert "In 1 turns the programs read prompts of different lengths." in told


def test_the_table_counts_the_turns_in_which_other_programs_took_cores() -> None:
    disturbed = replace(turn("b", plain=10), took={"plain": Took(10, 1.0, 2.0, 9, threads=1)})
    assert "In 1 of 2 turns Outrider used fewer threads" in "\n".join(table([turn("a", plain=10), disturbed]))
    assert "threads" not in "\n".join(table([turn("a", plain=10)]))
