"""The meter's numbers, by a clock that the test sets."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tui.chat import formatting
from tui.chat.meter import HISTORY, Meter, MeterReading
from tui.protocol import Loaded, ModelFacts, Statistics, TextRound
from tui.quantities import named, number


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def a_round(
    tokens: int, drafted: int = 4, accepted: int = 3, seconds: float = 0.1, used: int = 50
) -> TextRound:
    return TextRound(
        (), tuple(range(tokens)), drafted, 0, accepted, seconds, seconds * 0.2, seconds * 0.7, used
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meter(clock: Clock) -> Meter:
    return Meter(clock)


def stream(
    meter: Meter, clock: Clock, rounds: int, tokens: int = 4, seconds: float = 0.1, plain: float | None = None
) -> None:
    """`plain` is what plain decoding would have taken for the tokens of each round."""
    for _ in range(rounds):
        clock.now += seconds
        meter.add(replace(a_round(tokens, seconds=seconds), plain_seconds=plain))


def test_nothing_is_known_before_anything_is_measured(meter: Meter) -> None:
    assert meter.read() == MeterReading()


def test_a_prompt_alone_is_no_speed(meter: Meter, clock: Clock) -> None:
    meter.begin(7)
    clock.now += 3
    assert meter.read() == MeterReading(seed=7)


def test_the_time_to_the_first_token_counts_from_the_prompt(meter: Meter, clock: Clock) -> None:
    meter.begin(7)
    clock.now += 0.9
    stream(meter, clock, 1)
    assert meter.read().first_token == pytest.approx(1.0)


def test_speeds_of_a_steady_stream(meter: Meter, clock: Clock) -> None:
    meter.begin(7)
    clock.now += 5
    stream(meter, clock, 30)
    reading = meter.read()
    assert reading.speed == pytest.approx(40)
    assert reading.speed_now == pytest.approx(40)


def test_the_speed_of_the_moment_forgets_and_the_answers_does_not(meter: Meter, clock: Clock) -> None:
    meter.begin(7)
    stream(meter, clock, 40, tokens=4)
    stream(meter, clock, 40, tokens=1)
    assert meter.read().speed_now == pytest.approx(10)
    assert meter.read().speed == pytest.approx(25)


def test_the_speed_of_the_moment_is_no_zero_between_slow_rounds(meter: Meter, clock: Clock) -> None:
    meter.begin(7)
    seen = []
    for _ in range(10):  # a round of 2.5 s brings 5 tokens
        for _ in range(9):
            clock.now += 0.25
            seen.append(meter.read().speed_now)
        clock.now += 0.25
        meter.add(a_round(5, seconds=2.5))
        seen.append(meter.read().speed_now)
    assert seen[:9] == [None] * 9
    assert seen[9:] == pytest.approx([2.0] * len(seen[9:]))


def test_the_speed_of_the_moment_is_calm_where_rounds_are_not(meter: Meter, clock: Clock) -> None:
    meter.begin(7)
    seen = []
    for place in range(40):
        stream(meter, clock, 1, tokens=1, seconds=0.1 if place % 2 else 0.5)
        seen.append(meter.read().speed_now or 0)
    assert all(3.0 < speed < 3.7 for speed in seen[8:]), seen


def test_the_speed_of_the_moment_falls_when_nothing_comes_any_more(meter: Meter, clock: Clock) -> None:
    meter.begin(7)
    stream(meter, clock, 40, tokens=1)
    clock.now += 27.1
    assert meter.read().speed_now == pytest.approx(1, rel=0.05)


def test_one_round_has_no_speed_before_a_tenth_of_a_second(meter: Meter, clock: Clock) -> None:
    meter.begin(7)
    stream(meter, clock, 1, seconds=0.01)
    assert (meter.read().speed_now, meter.read().speed) == (None, None)


def test_drafts_time_and_context(meter: Meter, clock: Clock) -> None:
    meter.begin(7)
    stream(meter, clock, 10)
    reading = meter.read()
    assert (reading.drafted, reading.accepted, reading.tokens) == (40, 30, 40)
    assert reading.acceptance == pytest.approx(0.75)
    assert reading.tokens_per_round == pytest.approx(4)
    assert reading.drafted_per_round == 4
    assert reading.draft_share == pytest.approx(0.2)
    assert reading.verify_share == pytest.approx(0.7)
    assert reading.context_used == 50


def test_plain_decoding_has_no_acceptance_rate(meter: Meter, clock: Clock) -> None:
    meter.begin(7)
    clock.now += 0.1
    meter.add(a_round(1, drafted=0, accepted=0))
    assert meter.read().acceptance is None


def test_the_speed_up_needs_what_plain_decoding_takes(meter: Meter, clock: Clock) -> None:
    meter.begin(7)
    stream(meter, clock, 10)
    assert meter.read().speed_up is None
    meter.begin(8)
    stream(meter, clock, 10, plain=0.2)
    assert meter.read().speed_up == pytest.approx(2)


def test_the_speed_up_is_one_number_while_an_answer_comes_and_when_it_ended(
    meter: Meter, clock: Clock
) -> None:
    meter.begin(7)
    stream(meter, clock, 10, plain=0.2)
    clock.now += 5  # the app was busy: that is no part of the answer
    live = meter.read().speed_up
    meter.finish(Statistics(tokens=40, rounds=10, drafted=40, seconds=1.0, plain_seconds=2.0))
    assert meter.read().speed_up == pytest.approx(live) == 2.0


@pytest.mark.parametrize(
    "done",
    [
        Statistics(tokens=40, rounds=40, seconds=1.0, plain_seconds=1.0),
        Statistics(tokens=40, rounds=10, drafted=40, seconds=1.0),
        Statistics(tokens=40, rounds=10, drafted=40, plain_seconds=1.0),
        Statistics(),
    ],
    ids=["no drafts", "not known", "no time", "nothing"],
)
def test_an_answer_without_drafts_or_measurements_has_no_speed_up(done: Statistics) -> None:
    assert done.speed_up is None
    assert "speed-up" not in formatting.finished("stop", done)


def test_a_speed_up_is_at_most_the_tokens_per_round() -> None:
    done = Statistics(tokens=12, rounds=10, drafted=40, seconds=1.0, plain_seconds=1.33)
    assert done.speed_up == pytest.approx(1.2)
    assert formatting.finished("stop", done) == "12 tokens · 0 % of drafts accepted · speed-up 1.20 ×"


def test_the_engines_account_replaces_ours_when_the_answer_ended(meter: Meter, clock: Clock) -> None:
    meter.begin(7)
    stream(meter, clock, 10)
    waited = meter.read().first_token  # it stays: the engine does not know how long the person waited
    final = Statistics(time_to_first_token=0.5, tokens_per_second=33.0, context_used=77)
    meter.finish(final)
    clock.now += 60
    reading = meter.read()
    assert (reading.speed_now, reading.speed, reading.first_token) == (None, 33.0, waited)
    assert reading.context_used == 77


def test_an_answer_that_broke_off_keeps_its_speed(meter: Meter, clock: Clock) -> None:
    meter.begin(7)
    stream(meter, clock, 10)
    meter.finish()
    clock.now += 60
    assert meter.read().speed == pytest.approx(40)
    assert meter.read().speed_now is None


def test_the_next_answer_starts_from_nothing_but_the_context_stays(meter: Meter, clock: Clock) -> None:
    meter.begin(7)
    stream(meter, clock, 10)
    meter.begin(8)
    assert meter.read() == MeterReading(seed=8, context_used=50)
    meter.forget()
    assert meter.read() == MeterReading()


def test_another_conversation_has_no_speeds_behind_it(meter: Meter, clock: Clock) -> None:
    meter.begin(7)
    stream(meter, clock, 10)
    meter.sample()
    assert max(meter.history) > 0
    meter.forget()
    assert list(meter.history) == []


def test_samples_go_into_a_history_of_fixed_length_while_an_answer_comes(meter: Meter, clock: Clock) -> None:
    meter.begin(7)
    stream(meter, clock, 10)
    for _ in range(HISTORY + 5):
        meter.sample()
    assert list(meter.history) == pytest.approx([40] * HISTORY)
    meter.finish()
    meter.sample()
    assert len(meter.history) == HISTORY


def test_what_is_not_known_is_a_dash() -> None:
    assert number(None, "tok/s") == "–"
    assert number(1234.56, "tok/s") == "1,234.6 tok/s"
    assert number(0.0, "s", 2) == "0.00 s"


def test_a_demo_is_called_a_demo_once() -> None:
    model = ModelFacts("Tiny", "", "llama", 1, "F32", 1, 1, 1, demo=True)
    assert named(model) == "Tiny (demo)"
    assert named(ModelFacts("Tiny (demo)", "", "llama", 1, "F32", 1, 1, 1, demo=True)) == "Tiny (demo)"
    assert named(ModelFacts("Tiny", "", "llama", 1, "F32", 1, 1, 1)) == "Tiny"


def test_the_status_line_names_the_pair() -> None:
    main, draft = (ModelFacts(name, "/m", "llama", 1, "Q8_0", 1, 4096, 300) for name in ("Main", "Draft"))
    loaded = Loaded(main, draft, None, "llama.cpp", "CPU", 4096, 10.0, 0.1)
    assert formatting.pair(loaded) == ["Main", "Draft"]
    assert formatting.pair(replace(loaded, draft=None)) == ["Main"]


def test_a_prompt_that_came_from_the_disk_is_told(meter: Meter, clock: Clock) -> None:
    meter.begin(1)
    assert not meter.read().restored
    meter.finish(Statistics(prompt_tokens=90, prompt_reused=80, prompt_restored=80))
    assert meter.read().restored
    meter.begin(2)
    assert not meter.read().restored
    meter.finish(Statistics(prompt_tokens=90, prompt_reused=80))
    assert not meter.read().restored
