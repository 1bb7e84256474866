"""Seeing inside an answer: the tokens, what each was up against, the replay and the trace; by keys alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from textual.app import App, ComposeResult

from tests.support.chat import answered, chat, outrider, text, until
from tests.support.rest import at_rest
from tests.support.screens.inside import TEXTS, TURN, D, Engine, H, L, M, P, R, Screen, rounds
from tui.chat.trace import Tries, acceptance, as_json_lines, drafted_by_head, gained, tokens_of
from tui.client import EngineDied
from tui.config import Generation, History
from tui.protocol import TextRound, TokenInspection
from tui.screens.answer_figures import WIDTH, candidates, figures, token
from tui.screens.inspection import InspectionScreen
from tui.widgets.tokens import TokenView


def test_tokens_carry_their_origin_and_the_rejected_stand_where_they_were_rejected() -> None:
    found = tokens_of(rounds(), TEXTS)
    assert [each.text for each in found] == ["a", "b\n", " no", " nor", "c", "d", "e"]
    assert [each.origin for each in found] == [L, D, R, R, M, P, D]
    assert [each.place for each in found] == [0, 1, None, None, 2, 3, 4]
    assert [each.round for each in found] == [0, 0, 0, 0, 0, 1, 2]
    unknown = tokens_of(rounds())
    assert [each.text for each in unknown] == ["a", "b\n", " no", " nor", "c", "d", "e"]
    assert not any(each.id for each in unknown)


def test_the_tokens_of_a_head_are_told_from_those_of_a_draft_model() -> None:
    """The texts of single tokens come later, without an origin. The pieces of the answer tell who drafted."""
    headed = tuple(
        replace(each, pieces=tuple((text, H if by == D else by) for text, by in each.pieces))
        for each in rounds()
    )
    assert drafted_by_head(headed) and not drafted_by_head(rounds())
    for texts in ((), TEXTS):
        assert [each.origin for each in tokens_of(headed, texts)] == [L, H, R, R, M, P, H]
    for record in as_json_lines(TURN, headed, TEXTS, {}).splitlines()[1:]:
        assert '"origin": "draft"' not in record
    assert "main model's head" in token(tokens_of(headed, TEXTS)[1], 5).plain
    for shown, tone in ((headed, "$token-head"), (rounds(), "$token-draft")):
        assert {str(span.style) for span in figures(shown).spans} & {"$token-head", "$token-draft"} == {tone}


def test_of_a_place_that_was_not_reached_nothing_is_counted() -> None:
    counts = [(each.drafted, each.accepted) for each in rounds()]
    assert acceptance(counts) == [Tries(2, 2), Tries(1, 1), Tries(1, 0), Tries(0, 0)]
    assert gained(rounds(), 10) == [3.0, 1.0, 1.0]
    assert gained(rounds(), 1) == [pytest.approx(5 / 3)]
    assert gained((), 5) == []
    assert all(line.cell_length <= WIDTH for line in figures(rounds()).split("\n"))


class Alone(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.view = TokenView()

    def compose(self) -> ComposeResult:
        yield self.view

    def get_theme_variable_defaults(self) -> dict[str, str]:
        names = ("draft", "head", "lookup", "main", "rejected")
        return {f"token-{name}": "red" for name in names} | {"line": "grey", "quiet": "grey"}


async def test_tokens_wrap_whole_and_the_cursor_goes_by_token_line_round_and_rejection() -> None:
    app = Alone()
    async with app.run_test(size=(14, 12)) as pilot:
        view = app.view
        view.show(tokens_of(rounds(), TEXTS))
        await pilot.pause()
        lines = ["".join(part for _, part in line) for line in view._lines]
        assert lines == ["ab↵", " no norcde"]
        view.move(2)
        assert view.current and view.current.text == " no"
        view.show_rejected = False
        assert view.current and view.current.text == "c", "a cursor on what is hidden moves on"
        view.move_line(-1)
        assert view.current and view.current.text == "a"
        view.move_line(1)
        assert view.current and view.current.text == "c"
        view.move_round(1)
        assert view.current and view.current.text == "d"
        view.move_rejected(-1)
        assert view.current and view.current.text == " nor" and view.show_rejected
        view.move(-99)
        view.move_line(-1)
        view.move_round(-1)
        assert view.cursor == 0
        view.show([])
        for move in (view.move, view.move_line, view.move_round, view.move_rejected):
            move(1)
        assert view.current is None


async def test_a_token_wider_than_the_screen_and_one_that_would_control_it_are_harmless() -> None:
    app = Alone()
    async with app.run_test(size=(14, 8)) as pilot:
        hostile = ("x" * 40, "\x1b]52;c;aGk=\x07", "")
        record = TextRound((), (1, 2, 3), 0, 0, 0, 0.1, 0.0, 0.1, 3)
        app.view.show(tokens_of((record,), hostile))
        await pilot.pause()
        shown = "".join(part for line in app.view._lines for _, part in line)
        assert shown == "x" * 40 + "\ufffd]52;c;aGk=\ufffd" + "∅"


async def test_the_cursor_asks_once_for_what_the_models_thought(tmp_path: Path) -> None:
    app = Screen(Engine(), tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "75.0 % by itself, 90.0 % as sampled" in app.shown)
        assert [(each.begin, each.count) for each in app.engine.asked] == [(0, 0), (0, 5)]
        assert len({each.id for each in app.engine.asked}) == 2
        await pilot.press("right")
        await until(pilot, lambda: "token 2 of 5" in app.shown and "id 2" in app.shown)
        assert "▸“b”" in app.shown and "“else”" in app.shown
        assert "round 1 of 3" in app.shown and "4 drafted, 2 accepted, 1 looked up" in app.shown
        assert "20.0 ms: draft 5.0, verify 14.0" in app.shown
        assert len(app.engine.asked) == 2, "it was told already"
        await pilot.press("n")
        await pilot.pause()
        assert app.current == " no" and "proposed; the main model chose another" in app.shown
        await pilot.press("escape")
        assert app.result is None


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
@pytest.mark.parametrize(
    ("lead", "words"),
    [(0.02, "two best 0.02 apart, rounding 0.08"), (0.5, ""), (0.0, "")],
    ids=["close", "far", "not known"],
)
async def test_where_two_texts_can_part_it_says_how_close_it_was(
    tmp_path: Path, size: tuple[int, int], lead: float, words: str
) -> None:
    app = Screen(Engine(lead=lead), tmp_path)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: "75.0 %" in app.shown)
        told = [line for line in app.shown.splitlines() if " apart, rounding" in line]
        assert len(told) == bool(words)
        assert all(words in line for line in told)
        assert "20.0 ms: draft 5.0" in app.shown, "and what stands below is still on the screen"


def test_how_close_a_choice_was_takes_one_line_whatever_the_numbers_are() -> None:
    token = tokens_of(rounds(), TEXTS)[0]
    for lead, rounding in ((1.234e-05, 9.876e-05), (-0.01234, 0.08), (12.34, 4.567)):
        line = candidates(
            token, TokenInspection(0.5, 0.5, True, (), lead=lead, rounding=rounding), token
        ).split("\n")[-1]
        assert "apart" in line.plain and line.cell_length <= WIDTH


async def test_without_the_model_that_answered_the_record_is_shown_and_why_no_more(tmp_path: Path) -> None:
    app = Screen(Engine(), tmp_path, request=None)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "Load Big to see its probabilities." in app.shown)
        assert app.engine.asked == []
        await pilot.press("right", "right", "right", "right", "right")
        assert app.current == "d"
        assert "part of the answer" in app.shown or "nothing was drafted" in app.shown


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (Engine(mute=True), "This model tells no probabilities."),
        (Engine(fault=True), "The engine was killed"),
    ],
)
async def test_models_that_tell_nothing_are_asked_no_more(tmp_path: Path, engine: Engine, words: str) -> None:
    app = Screen(engine, tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: words in app.shown)
        before = len(engine.asked)
        await pilot.press("right", "right", "right")
        await at_rest(pilot)
        assert len(engine.asked) == before
        await pilot.press("escape")
        assert isinstance(app.result, EngineDied) is engine.fault


async def test_the_replay_goes_round_by_round_at_the_pace_that_is_wished(tmp_path: Path) -> None:
    app = Screen(Engine(), tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "token 1 of 5" in app.shown)
        await pilot.press("minus", "minus", "minus", "space")
        assert app.inside._tokens.later_is_faint
        assert "▶ 0.02 of 0.06 s, replay at 0.10 ×" in app.shown
        app.now += 0.1
        await pilot.pause()
        assert app.current == "a", "a tenth of the pace: 10 ms of the 20"
        app.now += 0.11
        await until(pilot, lambda: app.current == "d")
        app.now += 0.3
        await until(pilot, lambda: app.current == "e" and not app.inside._tokens.later_is_faint)
        await pilot.press("space")
        assert app.current == "a", "at the end it begins anew"
        await pilot.press("right")
        assert not app.inside._tokens.later_is_faint, "an arrow takes over"


async def test_the_trace_is_written_as_json_lines(tmp_path: Path) -> None:
    app = Screen(Engine(), tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "75.0 %" in app.shown)
        await pilot.press("ctrl+e")
        await pilot.pause()
    (path,) = tmp_path.glob("*.jsonl")
    head, *records = (json.loads(line) for line in path.read_text().splitlines())
    assert head["main"] == "Big" and head["settings"] == {"seed": 7}
    assert [each["accepted"] for each in records] == [2, 0, 1]
    assert records[0]["rejected"] == [" no", " nor"]
    assert [token["origin"] for token in records[0]["tokens"]] == ["lookup", "draft", "main"]
    assert records[2]["tokens"][0]["id"] == 5 and records[2]["tokens"][0]["probability"] == 0.75
    assert records[2]["begun"] == pytest.approx(0.04)


@pytest.mark.parametrize("kept", [True, False])
async def test_from_the_chat_with_real_models_any_answer_can_be_seen_into(tmp_path: Path, kept: bool) -> None:
    generation = Generation(seed=7, max_tokens=24)
    app = outrider(tmp_path, "starter", "starter", generation=generation, history=History(keep=kept))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("ctrl+g")
        await pilot.pause()
        assert not isinstance(app.screen, InspectionScreen), "there is no answer yet"
        await answered(pilot, "What is a draft model?")
        await answered(pilot, "What is a seed?")
        said = [chat(app).panel.transcript.writer.text_of(number) for number in (1, 3)]
        for keys, answer in ((("ctrl+g",), said[1]), (("tab", "up", "up", "i"), said[0])):
            await pilot.press(*keys)
            await until(pilot, lambda: isinstance(app.screen, InspectionScreen))
            screen: Any = app.screen
            await until(pilot, lambda screen=screen: screen._places)
            assert "".join(screen._texts).startswith(answer)
            assert all(place.chosen for place in screen._places.values())
            assert "main model" in text(app) and "draft model" in text(app)
            await pilot.press("escape")
            await until(pilot, lambda: not isinstance(app.screen, InspectionScreen))
            await pilot.press("escape")
        again = [each.source for each in chat(app).panel.transcript.messages]
        await answered(pilot, "What is a seed?")
        assert [each.source for each in chat(app).panel.transcript.messages][:4] == again
