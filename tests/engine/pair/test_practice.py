"""What rounds cost, learned while the engine has nothing to do; and the caches stay as they were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import models
from tui.engine.backends import ModelError
from tui.engine.pair.practice import _PASSES, LIMIT, Practice
from tui.engine.session import Session
from tui.engine.speculation.estimates import Costs
from tui.engine.speculation.loop import Pick, Round
from tui.protocol import Event, Finished, Generate, Load, Loaded, Message, Sampling

TABLE = {1: 1.0, 2: 1.35, 3: 1.6, 4: 1.5, 5: 1.8, 6: 2.1, 8: 2.5, 12: 3.0, 17: 3.7}
"""Rows of a quantized model of 1.5 billion parameters on two cores, by one row. Three cost more than four."""
DRAFT_COST = 0.45
OFF = {1: 1.0, 2: 1.7, 4: 1.15}
"""The same measured once, on a bad day."""


class Machine:
    """The two models' clock. The speed wanders, and each call is off by up to a tenth."""

    def __init__(self, one: float, seed: int = 0) -> None:
        self.now, self._one, self._random, self._calls = 0.0, one, Random(seed), 0

    def pass_(self, ratio: float) -> None:
        self._calls += 1
        slow = 2.0 if self._calls // 40 % 3 == 1 else 1.0
        self.now += self._one * ratio * slow * self._random.uniform(0.9, 1.1)


class Model:
    def __init__(self, machine: Machine, table: dict[int, float], length: int = 0) -> None:
        self.capacity, self.length, self.sizes = 512, length, list[int]()
        self.vocabulary = SimpleNamespace(encode_start=lambda: [7], encode=lambda text: [8])
        self._machine, self._table, self.lowest = machine, table, length
        self.started, self.rewinds = False, "anywhere"

    def start(self, sampler: Any) -> None:
        self.started = True

    def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]:
        assert self.started and picks == len(tokens)
        self.length += len(tokens)
        assert self.length <= self.capacity
        self.sizes.append(len(tokens))
        self._machine.pass_(self._table[len(tokens)])
        return [Pick(1, 1.0)] * picks

    def rewind(self, length: int) -> None:
        if length > self.length:
            raise ValueError(f"cannot rewind {self.length} tokens to {length}")
        self.length = length
        self.lowest = min(length, self.lowest)


def practice(one: float = 0.05, held: int = 0, seed: int = 0) -> tuple[Any, Any, Costs, Practice]:
    machine = Machine(one, seed)
    main, draft = Model(machine, TABLE, held), Model(machine, {1: DRAFT_COST}, held)
    doubt = dict.fromkeys(OFF, 0.2) | {1: 0.1}
    costs = Costs({rows: one * each for rows, each in OFF.items()}, one * 0.3, one * 0.03, doubt=doubt)
    return main, draft, costs, Practice(main, draft, costs, lambda: machine.now)  # type: ignore[arg-type]


def shown_ratio(costs: Costs, rows: int) -> float:
    """By which a round of so many rows is thought dearer than plain decoding, as in the speed-up."""
    costs.pause()
    costs.learn(happened := Round((0,) * (rows - 1), 0, 0, Pick(1, 1.0), 0.0, 1.0, 99.0), 0, 0)
    return 1.0 / costs.plain_seconds(happened)


@pytest.mark.parametrize("seed", range(4))
def test_ratios_of_a_bad_day_come_right_without_an_answer(seed: int) -> None:
    _, _, costs, rounds = practice(seed=seed)
    assert rounds.run(lambda: True)
    for rows in (2, 3, 4, 5, 6, 8, 12, 17):
        assert costs.verify[rows - 1] / costs.verify[0] == pytest.approx(
            TABLE[rows], rel=0.1 if rows < 6 else 0.15
        ), rows
    assert costs.draft / costs.verify[0] == pytest.approx(DRAFT_COST, rel=0.08)
    for rows, ratio in {**TABLE, 7: 2.3, 10: 2.75}.items():
        assert shown_ratio(costs, rows) == pytest.approx(ratio, rel=0.2), rows


def test_what_is_known_is_not_practised_again() -> None:
    main, draft, costs, rounds = practice()
    rounds.run(lambda: True)
    main.sizes, draft.sizes = [], []
    assert not rounds.run(lambda: True)
    assert not main.sizes and not draft.sizes
    assert not Practice(main, draft, Costs.from_dict(costs.as_dict())).run(lambda: True), (
        "nor after a restart"
    )


def test_on_a_machine_where_nothing_becomes_sure_it_ends_all_the_same() -> None:
    main, _, _, rounds = practice(one=1e-6)
    machine, chance = main._machine, Random(1)

    def wild(ratio: float) -> None:
        machine.now += 1e-5 ** chance.uniform(0.8, 1.2)

    machine.pass_ = wild
    rounds.run(lambda: True)
    assert len(main.sizes) < 300


@pytest.mark.parametrize("after", [0, 1, 5])
def test_it_ends_when_somebody_asks_for_something(after: int) -> None:
    main, _, _, rounds = practice()
    looks = iter(range(1000))
    rounds.run(lambda: next(looks) < after)
    assert len(main.sizes) <= after


def test_it_runs_behind_what_the_caches_hold_and_leaves_that() -> None:
    main, draft, _, rounds = practice(held=490)
    rounds.run(lambda: True)
    for model in (main, draft):
        assert model.sizes and model.lowest == model.length == 490


@pytest.mark.parametrize("which", [0, 1])
def test_a_cache_that_cannot_be_cut_anywhere_is_practised_with_only_while_it_is_empty(which: int) -> None:
    main, draft, _, rounds = practice(held=20)
    (main, draft)[which].rewinds = "round"
    assert not rounds.run(lambda: True) and not main.sizes and not draft.sizes
    main.length = draft.length = 0
    assert rounds.run(lambda: True) and main.sizes


def test_full_caches_and_slow_models_are_left_alone_in_time() -> None:
    main, draft, _, rounds = practice(held=511)
    assert not rounds.run(lambda: True) and not main.sizes and not draft.sizes
    main, _, _, rounds = practice(one=4.0)
    rounds.run(lambda: True)
    assert main._machine.now < 2 * LIMIT


@pytest.mark.parametrize(("one", "longest"), [(0.01, 17), (0.2, 6), (1.0, 6)])
def test_nobody_waits_long_for_a_call_to_end(one: float, longest: int) -> None:
    """A call that takes more than half a second, and more than two steps, is not made twice."""
    main, _, _, rounds = practice(one)
    rounds.run(lambda: True)
    assert max(main.sizes) >= 4
    assert all(main.sizes.count(size) <= 1 for size in main.sizes if size > longest)


def test_a_model_that_fails_leaves_its_cache_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    main, draft, _, rounds = practice(held=20)
    run = main.extend

    def fail(tokens: Sequence[int], picks: int) -> list[Pick]:
        run(tokens, picks)
        raise ModelError("out of memory")

    main.extend = fail
    with pytest.raises(ModelError):
        rounds.run(lambda: True)
    assert main.length == draft.length == 20


def test_a_model_that_fails_may_have_emptied_its_cache() -> None:
    main, _, _, rounds = practice(held=20)

    def fail(tokens: Sequence[int], picks: int) -> list[Pick]:
        main.length = 0
        raise ModelError("out of memory")

    main.extend = fail
    with pytest.raises(ModelError):
        rounds.run(lambda: True)


# In the engine


@pytest.fixture
def loaded(tmp_path: Path) -> Any:
    """A session with models of files, and a switch that says whether it is idle."""
    toy = models.Toy(context_length=512)
    main = str(models.write_model(tmp_path / "main.gguf", toy))
    draft = str(models.write_model(tmp_path / "draft.gguf", replace(toy, layers=1)))
    events: list[Event] = []
    idle = [False]
    session = Session(events.append, lambda _: False, idle=lambda: idle[0])
    session.do(Load(main, draft, 512, threads=1))
    assert isinstance(events[-1], Loaded)
    yield session, events, idle
    session.close()


def question(number: int, said: tuple[Message, ...] = ()) -> Generate:
    messages = (*said, Message("user", "one two three"))
    return Generate(number, messages, 5, sampling=Sampling(temperature=0.8), max_tokens=24, ignore_eos=True)


def test_an_idle_engine_practises_and_keeps_the_chat_in_its_cache(
    loaded: Any, answered: Callable[[list[Event]], list[int]]
) -> None:
    session, events, idle = loaded
    session.do(question(1))
    tokens, practised = answered(events), session._loaded.practice
    assert practised._passes == _PASSES, "nobody was idle yet"
    held = list(session._loaded.main.tokens)
    idle[0] = True
    session.do(question(2))
    assert answered(events)[-24:] == tokens[-24:]
    assert practised._passes < _PASSES
    assert list(session._loaded.main.tokens)[: len(held) - 1] == held[:-1]
    idle[0] = False
    session.do(question(3))
    assert answered(events)[-24:] == tokens[-24:], "practice changed the text"
    end = events[-1]
    assert isinstance(end, Finished) and end.statistics.prompt_reused == end.statistics.prompt_tokens - 1


@pytest.mark.parametrize("architecture", ["mamba", "lfm2", "gemma3"])
def test_practice_leaves_the_answer_in_every_kind_of_cache(tmp_path: Path, architecture: Any) -> None:
    """A lost recurrent state would be computed again in each round of practice and for the next prompt."""
    toy = models.Toy(architecture, context_length=512)
    path = str(models.write_model(tmp_path / "main.gguf", toy))
    idle = [True]
    session = Session(lambda _: None, lambda _: False, idle=lambda: idle[0])
    session.do(Load(path, path, 512, threads=1))
    pair = session._loaded
    assert pair.draft and pair.practice
    assert pair.practice._passes < _PASSES, "the caches were empty"
    idle[0] = False
    session.do(question(1))
    held = [(list(model.tokens), model.reach(model.length)) for model in pair.models]
    idle[0], pair.practice._passes = True, _PASSES
    session._practise()
    assert [(list(model.tokens), model.reach(model.length)) for model in pair.models] == held
    session.close()


@pytest.fixture
def answered() -> Callable[[list[Event]], list[int]]:
    def tokens(events: list[Event]) -> list[int]:
        found: list[int] = []
        for event in events:
            for each in getattr(event, "rounds", ()):
                found += each.tokens
        return found

    return tokens


@pytest.mark.parametrize("one", [0.05, 0.4])
def test_a_call_that_was_timed_once_in_a_busy_moment_is_practiced_all_the_same(one: float) -> None:
    """Its wrong time is longer than a person should wait for, but its true time need not be."""
    main, draft, costs, _ = practice(one)
    wrong = {1: one, 2: 1.35 * one, 4: 3.8 * one}
    costs = Costs(wrong, one * 0.3, one * 0.03, doubt=dict.fromkeys(wrong, 0.2) | {1: 0.1})
    assert Practice(main, draft, costs, lambda: main._machine.now).run(lambda: True)
    assert costs.verify[3] / costs.verify[0] < 2.2, "1.5 in truth"
    assert costs.verify[3] / costs.verify[0] == pytest.approx(1.5, rel=0.45)
