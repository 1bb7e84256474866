"""The speed-up that is shown: true, none where it cannot be known, the same while it comes and at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from random import Random
from typing import Any

import pytest
from msgspec import convert, structs

from tests.support import models
from tui.chat import formatting
from tui.chat.conversation import _joined
from tui.chat.meter import Meter, MeterReading
from tui.choices import AUTO, LOOKUP, DraftLength
from tui.engine.answer.answer import Answer
from tui.engine.answer.proposing import OverridableLength
from tui.engine.answer.templates import TemplateRenderer
from tui.engine.pair.pair import Pair, load_pair
from tui.engine.speculation import loop as speculation
from tui.engine.speculation.estimates import Costs
from tui.engine.speculation.loop import Pick, generate
from tui.engine.speculation.policy import AdaptiveLength
from tui.engine.speculation.proposers import DraftModel
from tui.engine.speculation.ratios import Ratios
from tui.engine.starter import NAME as STARTER
from tui.protocol import (
    Event,
    Finished,
    Generate,
    Load,
    Message,
    Rounds,
    Statistics,
    TextRound,
    decode_event,
    encode,
)

PAIRS = ("scripted", "made", "made, lookup alone", "starter", "scripted, shown")
SHOWN = ("starter", "scripted, shown")
"""Pairs that are there to show drafting: nothing was measured of them."""
LENGTHS = (AUTO, 0, 1, 4, 16)
PROMPTS = ("Repeat: one two three one two three one two", "What is a draft model?")
ENDS = ((1, 0), (2, 0), (40, 0), (40, 3), (40, 9))
"""Most tokens, and after how many rounds it is stopped; 0 for never."""


@pytest.fixture(scope="module")
def renderer() -> Iterator[TemplateRenderer]:
    made = TemplateRenderer()
    yield made
    made.close()


@pytest.fixture(scope="module")
def pair_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Pair]]:
    """Every pair, loaded once."""
    folder = tmp_path_factory.mktemp("made")
    toy = models.Toy(context_length=512)
    main = str(models.write_model(folder / "main.gguf", toy))
    draft = str(models.write_model(folder / "draft.gguf", replace(toy, layers=1)))
    loads = {
        "made": Load(main, draft, 512, threads=1),
        "made, lookup alone": Load(main, LOOKUP, 512, threads=1),
        "starter": Load(STARTER, STARTER, 512, threads=1),
        "scripted, shown": Load("scripted:sample?tokens=400", "scripted:draft?acceptance=0.6"),
    }
    pairs = {"scripted": scripted()}

    def pair(kind: str) -> Pair:
        if kind not in pairs:
            pairs[kind] = load_pair(loads[kind], lambda *_: True)
        return pairs[kind]

    yield pair
    for each in pairs.values():
        each.close()


def scripted() -> Pair:
    """Models without any cost, and a policy that measures."""
    shown = load_pair(Load("scripted:sample?tokens=400", "scripted:draft?acceptance=0.6"), lambda *_: True)
    return replace(shown, policy=AdaptiveLength(Costs({1: 2e-4, 4: 3e-4, 16: 6e-4}, draft=2e-5, read=1e-6)))


@dataclass
class Told:
    """An answer as the app hears it: a reading after each round, and one when it has ended."""

    rounds: list[TextRound]
    readings: list[MeterReading]
    last: MeterReading
    statistics: Statistics


def told(pair: Pair, renderer: TemplateRenderer, prompt: str, stop_after: int = 0, **settings: Any) -> Told:
    events: list[Event] = []
    request = Generate(1, (Message("user", prompt),), 11, ignore_eos=True, **settings)

    def stopped() -> bool:
        return stop_after > 0 and sum(isinstance(event, Rounds) for event in events) >= stop_after

    Answer(pair, request, events.append, stopped).run(renderer)
    meter = Meter(lambda: 0.0)
    meter.begin(11)
    rounds, readings = [], []
    for event in map(decode_event, map(encode, events)):
        if isinstance(event, Rounds):
            for each in event.rounds:
                meter.add(each)
                rounds.append(each)
                readings.append(meter.read())
    end = events[-1]
    assert isinstance(end, Finished)
    meter.finish(end.statistics)
    return Told(rounds, readings, meter.read(), end.statistics)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("kind", PAIRS)
def test_no_answer_shows_a_speed_up_that_cannot_be(
    pair_of: Callable[[str], Pair], renderer: TemplateRenderer, kind: str, length: DraftLength
) -> None:
    pair = pair_of(kind)  # 5 pairs, 5 lengths, 2 prompts, 5 ends: 250 answers
    for prompt in PROMPTS:
        for most, stop in ENDS:
            heard = told(pair, renderer, prompt, stop, max_tokens=most, draft_length=length)
            assert heard.readings
            for reading in (*heard.readings, heard.last):
                known = reading.drafted > 0 and kind not in SHOWN
                assert (reading.speed_up is not None) == known
                if reading.speed_up is not None:
                    assert reading.tokens_per_round is not None
                    assert 0 < reading.speed_up <= reading.tokens_per_round
            if heard.last.speed_up is not None:
                assert heard.readings[-1].speed_up == pytest.approx(heard.last.speed_up, rel=0.05)
            assert heard.statistics.speed_up == heard.last.speed_up
            assert ("speed-up" in formatting.finished("stop", heard.statistics)) == bool(heard.last.speed_up)


def test_rounds_add_up_to_their_answer(pair_of: Callable[[str], Pair], renderer: TemplateRenderer) -> None:
    heard = told(pair_of("made"), renderer, PROMPTS[0], max_tokens=40, draft_length=4)
    assert sum(each.seconds for each in heard.rounds) == pytest.approx(heard.statistics.seconds, abs=1e-3)
    assert heard.statistics.seconds > heard.statistics.draft_seconds + heard.statistics.verify_seconds


class Seconds(Costs):
    """A second for every token."""

    def plain_seconds(self, happened: speculation.Round) -> float:
        return float(len(happened.tokens))


def test_plain_decoding_would_have_stopped_within_a_round_too(renderer: TemplateRenderer) -> None:
    pair = replace(scripted(), policy=AdaptiveLength(Seconds({1: 1.0}, draft=1.0, read=1.0)))
    whole = told(pair, renderer, PROMPTS[1], max_tokens=40, draft_length=16)
    long = next(each for each in whole.rounds if len(each.tokens) > 3)
    stop = long.pieces[0][0].strip()
    heard = told(pair, renderer, PROMPTS[1], max_tokens=40, draft_length=16, stop=(stop,))
    last = heard.rounds[-1]
    assert len(last.tokens) < len(long.tokens)
    assert last.plain_seconds == pytest.approx(len(last.tokens), abs=0.5)
    pair.close()


# A machine whose times are known


class Machine:
    """Two models on a clock of their own; the draft is right in 3 of 4 places."""

    capacity = 4096

    def __init__(self, seed: int, busy: Callable[[int], float], noise: float) -> None:
        self.now = 0.0
        self.plain = 0.0
        """Seconds that plain decoding would have taken for what has come."""
        self._random = Random(seed)
        self._busy = busy
        self._noise = noise
        self.main, self.draft = Part(self, TABLE, right=True), Part(self, [0.1] * 64, right=False)

    def pass_(self, seconds: float, place: int) -> None:
        self.now += seconds * self._busy(place) * (1 + self._random.uniform(-self._noise, self._noise))

    def step(self, place: int) -> float:
        return TABLE[0] * self._busy(place)

    def disagrees(self) -> bool:
        return self._random.random() < 0.25


TABLE = [1.0, 1.3, 1.4, 1.5, 1.9, *[2.4] * 12]


class Part:
    """One model: its choice is the length of the text, or another where it is wrong."""

    def __init__(self, machine: Machine, table: Sequence[float], *, right: bool) -> None:
        self.length, self.capacity = 0, machine.capacity
        self._machine, self._table, self._right = machine, table, right

    def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]:
        self._machine.pass_(self._table[max(0, picks - 1)], self.length)
        self.length += len(tokens)
        wrong = not self._right and self._machine.disagrees()
        return [Pick(self.length - picks + 1 + place + 10_000 * wrong, 0.7) for place in range(picks)]

    def rewind(self, length: int) -> None:
        self.length = length


def quiet(place: int) -> float:
    return 1.0


def busy_half(place: int) -> float:
    """Something else takes most of the machine from the 100th token on."""
    return 3.0 if place > 100 else 1.0


def longer(place: int) -> float:
    """What a longer context costs."""
    return 1 + place / 400


@pytest.mark.parametrize("length", [AUTO, 2, 4, 8])
@pytest.mark.parametrize("busy", [quiet, busy_half, longer])
@pytest.mark.parametrize("at_load", [0.3, 1.0, 3.0])
def test_the_speed_up_is_true_on_a_machine_that_is_not_as_it_was_at_load(
    length: DraftLength, busy: Callable[[int], float], at_load: float
) -> None:
    costs = Costs({rows: TABLE[rows - 1] * at_load for rows in (1, 2, 3, 4, 5, 9, 16)}, 0.1 * at_load, 0.01)
    policy = AdaptiveLength(costs)
    for seed in range(3):
        machine = Machine(seed, busy, 0.1)
        context, plain, shown = [0], 0.0, 0.0
        rounds = generate(
            machine.main,
            DraftModel(machine.draft, ()),
            context,
            policy=OverridableLength(lambda: length, policy, 16),
            end_tokens=(),
            max_tokens=200,
            clock=lambda machine=machine: machine.now,
        )
        for happened in rounds:
            plain += len(happened.tokens) * machine.step(len(context))
            shown += costs.plain_seconds(happened)
        assert plain > 1.05 * machine.now or length == AUTO
        assert shown / machine.now == pytest.approx(plain / machine.now, rel=0.06)


def test_ratios_that_a_busy_load_measured_wrong_come_right() -> None:
    wrong = {rows: TABLE[rows - 1] * (2.5 if rows > 1 else 1.0) for rows in (1, 2, 3, 4, 5, 9, 16)}
    costs = Costs(wrong, 0.1, 0.01)
    machine = Machine(1, busy_half, 0.1)
    lengths = cycle((0, 4, 4))
    context = [0]
    plain = shown = 0.0
    rounds = generate(
        machine.main,
        DraftModel(machine.draft, ()),
        context,
        policy=OverridableLength(lambda: next(lengths), AdaptiveLength(costs), 16),
        end_tokens=(),
        max_tokens=600,
        clock=lambda: machine.now,
    )
    for happened in rounds:
        if len(context) > 200:
            plain += len(happened.tokens) * machine.step(len(context))
            shown += costs.plain_seconds(happened)
    assert shown == pytest.approx(plain, rel=0.05)


def test_a_fixed_length_keeps_what_the_pace_knows_true() -> None:
    costs = Costs({rows: TABLE[rows - 1] * 3 for rows in (1, 2, 3, 4, 5, 9, 16)}, 0.3, 0.01)
    machine = Machine(1, quiet, 0.05)
    for _ in generate(
        machine.main,
        DraftModel(machine.draft, ()),
        [0],
        policy=OverridableLength(lambda: 4, AdaptiveLength(costs), 16),
        end_tokens=(),
        max_tokens=800,
        clock=lambda: machine.now,
    ):
        pass
    assert costs.verify[0] == pytest.approx(TABLE[0], rel=0.15)
    assert costs.draft == pytest.approx(0.1, rel=0.1)


def test_an_answer_that_went_on_keeps_the_sum_of_both_parts() -> None:
    part = Statistics(tokens=20, rounds=10, drafted=20, seconds=2.0, plain_seconds=3.0)
    whole = _joined(part, structs.replace(part, seconds=1.0, plain_seconds=2.0))
    assert whole is not None
    assert whole.speed_up == pytest.approx(5 / 3)
    unknown = _joined(part, structs.replace(part, plain_seconds=None))
    assert unknown is not None
    assert unknown.speed_up is None


def test_a_round_of_an_older_record_has_no_plain_seconds() -> None:
    old = [[["a", 0]], [1], 0, 0, 0, 0.1, 0.0, 0.1, 9]
    assert convert(old, TextRound).plain_seconds is None
    assert convert([*old, 0.2, "of a newer one"], TextRound).plain_seconds == 0.2


@pytest.mark.parametrize(("practised", "ratio"), [(True, 1.5), (False, 1.4)])
def test_a_single_row_between_other_work_and_the_first_of_an_answer_are_no_plain_step(
    practised: bool, ratio: float
) -> None:
    """Both are dearer than plain decoding is, and would make the speed-up too high."""
    ratios = Ratios([1.0, 1.3, 1.4, 1.2], [0.0, 0.2, 0.2, 0.2])
    ratios.practised = practised
    for _ in range(40):
        ratios.pause()
        ratios.learn(0, 1.6, drafted=False)
        for place, seconds in ((3, 1.5), (0, 1.15), (0, 1.0), (3, 1.5), (0, 1.15), (3, 1.5)):
            ratios.learn(place, seconds, drafted=place > 0)
    assert ratios.of(3) == pytest.approx(ratio, rel=0.04)
