"""Threads on a machine that does other work too: simulated machines, and the seam to the models."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle, pairwise, product, repeat
from pathlib import Path

import pytest

from tests.support import models
from tui.engine.answer.answer import Answer
from tui.engine.answer.templates import TemplateRenderer
from tui.engine.backends import Options
from tui.engine.backends.selection import open_backend
from tui.engine.pair.pair import Pair, load_pair
from tui.engine.pair.reading import ContextReader
from tui.engine.pair.threads import (
    CallCost,
    Crew,
    Room,
    Threads,
    Usage,
    free_now,
    idle_now,
    running_now,
    usage_now,
)
from tui.engine.speculation.policy import FixedLength
from tui.protocol import Busy, Event, Generate, Load, Message, Prefill, Rounds

TOKEN = 0.07
"""Seconds of one row with one core's worth of threads, where the machine is quiet."""
ONE_ROW = repeat(1)
"""Plain decoding."""


@dataclass
class Machine:
    """Cores, other programs that keep some of them busy, and a model whose threads wait for one another."""

    cores: int = 2
    busy: Callable[[float], int] = lambda now: 0
    """How many other programs compute at a moment."""
    stall: float = 6.0
    """How many times as long a round takes when one of its threads shares a core."""
    tells_idle: bool = True
    noise: float = 0.03
    preempted: float = 60.0
    """Times a second that a thread which shares its core has to leave it."""
    now: float = 0.0
    rounds: list[tuple[float, int]] = field(default_factory=list)
    """When each round ended, and with how many threads it was computed."""
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def seconds(self, rows: int, threads: int) -> float:
        shared = max(0, threads + self.busy(self.now) - self.cores)
        alone = TOKEN * (1 + 0.15 * (rows - 1)) * (0.1 + 1.8 / threads)
        return alone * (self.stall if shared else 1.0) * self.chance.lognormvariate(0, self.noise)

    def compute(self, rows: int, threads: int) -> CallCost:
        others = self.busy(self.now)
        seconds = self.seconds(rows, threads)
        shared = max(0, threads + others - self.cores)
        lost = min(shared, threads) / 2
        idle = max(0, self.cores - threads - others) * seconds
        self.now += seconds
        self.rounds.append((self.now, threads))
        preempted = round(shared * self.preempted * seconds) + (self.chance.random() < seconds)
        return CallCost(
            rows, seconds, seconds, (threads - lost) * seconds, preempted, idle if self.tells_idle else None
        )

    def answer(self, threads: Threads, until: float, rows: Iterator[int] = ONE_ROW) -> float:
        """Rounds until a moment; how many there were in a second."""
        first, began = len(self.rounds), self.now
        while self.now < until:
            threads.observe(self.compute(next(rows), threads.count))
        return (len(self.rounds) - first) / (self.now - began)

    def counts(self, since: float) -> list[int]:
        return [count for now, count in self.rounds if now >= since]


def from_to(begin: float, end: float, others: int = 1) -> Callable[[float], int]:
    return lambda now: others if begin <= now < end else 0


def always(others: int) -> Callable[[float], int]:
    return lambda now: others


@pytest.mark.parametrize("cores", [2, 4, 16])
@pytest.mark.parametrize("tells_idle", [True, False])
def test_on_a_quiet_machine_nothing_changes(cores: int, tells_idle: bool) -> None:
    machine = Machine(cores, tells_idle=tells_idle)
    threads = Threads(cores)
    machine.answer(threads, 60, cycle((1, 4, 5, 2)))
    assert set(machine.counts(0)) == {cores}


@pytest.mark.parametrize("stall", [2.5, 6.0, 17.0])
@pytest.mark.parametrize("drafted", [False, True])
def test_beside_a_busy_program_it_is_nearly_as_fast_as_with_the_cores_that_are_left(
    stall: float, drafted: bool
) -> None:
    rows = (1, 4, 6, 2, 5) if drafted else (1,)
    best = Machine(busy=always(1), stall=stall).answer(Threads(1), 40, cycle(rows))
    paced = Machine(busy=always(1), stall=stall).answer(Threads(2), 40, cycle(rows))
    assert paced > 0.9 * best


def test_it_is_noticed_within_seconds_that_the_machine_becomes_busy_and_free_again() -> None:
    machine = Machine(busy=from_to(10, 30))
    threads = Threads(2)
    machine.answer(threads, 10)
    machine.answer(threads, 12)
    assert threads.settled == 1
    machine.answer(threads, 30)
    assert machine.counts(13).count(2) <= 1, "nothing to try while no core is idle"
    machine.answer(threads, 32)
    assert threads.settled == 2
    assert set(machine.counts(32)) <= {2}


@pytest.mark.parametrize("rows", [(1,), (5, 6, 5, 6, 1)])
def test_a_program_of_a_second_takes_its_core_for_little_longer(rows: tuple[int, ...]) -> None:
    """Also where the first trial with fewer threads had failed: its pause is for trials of that kind."""
    for stall, begin in product((2.5, 3.0, 4.0, 6.0), (2.0, 2.05, 2.1, 2.15, 2.3)):
        machine, threads, end = Machine(busy=from_to(begin, begin + 1), stall=stall), Threads(2), begin + 1
        machine.answer(threads, 12, cycle(rows))
        assert max(now for now, count in machine.rounds if count == 1 or now < end) < end + 1.5, (
            stall,
            begin,
        )


def test_where_the_system_tells_of_no_idle_cores_they_are_found_within_5_seconds() -> None:
    machine = Machine(busy=from_to(0, 60), tells_idle=False)
    threads = Threads(2)
    paced = machine.answer(threads, 60)
    assert paced > 0.75 * Machine(busy=always(1)).answer(Threads(1), 60)
    machine.answer(threads, 65)
    assert threads.settled == 2


@pytest.mark.parametrize("others", [1, 3, 8, 12])
def test_many_cores_and_several_programs(others: int) -> None:
    best = max(Machine(16, always(others)).answer(Threads(n), 60) for n in range(1, 17))
    machine = Machine(16, always(others))
    assert machine.answer(Threads(16), 60) > 0.85 * best
    assert set(machine.counts(50)) == {16 - others}


def test_where_every_core_is_taken_one_thread_is_left() -> None:
    machine = Machine(2, always(4))
    machine.answer(threads := Threads(2), 30)
    assert threads.settled >= 1


@dataclass
class Alarming(Machine):
    """Threads lose a part of their cores all the time, and fewer of them would be no faster."""

    def compute(self, rows: int, threads: int) -> CallCost:
        spent = super().compute(rows, threads)
        lost = 0.4 * spent.seconds
        return spent._replace(preempted=spent.preempted + round(100 * spent.seconds), cpu=spent.cpu - lost)


def test_a_false_alarm_costs_next_to_nothing() -> None:
    """In one long answer, and in many short ones."""
    calm = Machine().answer(Threads(2), 600)
    alarm, threads = Alarming(), Threads(2)
    assert alarm.answer(threads, 300) > 0.99 * calm
    assert 1 in alarm.counts(0), "it was tried"
    alarm, threads = Alarming(), Threads(2)
    for _ in range(30):
        threads.start()
        alarm.answer(threads, alarm.now + 10)
    assert len(alarm.rounds) / alarm.now > 0.99 * calm


def test_after_many_false_alarms_a_true_one_is_heard() -> None:
    machine = Alarming(busy=from_to(200, 300))
    machine.answer(threads := Threads(2), 200)
    assert threads.settled == 2
    machine.answer(threads, 203)
    assert threads.settled == 1


def test_who_takes_a_core_for_moments_only_is_no_reason_to_try() -> None:
    machine = Machine()
    compute = machine.compute
    machine.compute = lambda rows, threads: compute(rows, threads)._replace(preempted=100)  # type: ignore[method-assign]
    machine.answer(Threads(2), 100)
    assert set(machine.counts(0)) == {2}


def test_fewer_threads_that_are_no_faster_are_not_kept() -> None:
    """Threads that only wait for memory: one less makes no difference."""
    machine, threads, settled = Alarming(4), Threads(4), set()
    machine.seconds = lambda rows, threads: TOKEN * machine.chance.lognormvariate(0, 0.03)  # type: ignore[method-assign]
    while machine.now < 100:
        machine.answer(threads, machine.now + 0.01)
        settled.add(threads.settled)
    assert settled == {4}
    assert 3 in machine.counts(0), "it was tried"


def test_an_answer_begins_with_what_was_good_and_looks_again_at_once() -> None:
    machine = Machine(busy=from_to(0, 20))
    threads = Threads(2)
    machine.answer(threads, 20)
    assert threads.settled == 1
    machine.now = 1000
    threads.start()
    assert threads.count == 1
    machine.answer(threads, 1001)
    assert threads.settled == 2


@pytest.mark.parametrize(
    ("room", "count"), [(None, 4), (4.0, 4), (3.8, 4), (3.5, 3), (1.9, 2), (1.0, 1), (0.0, 1), (64.0, 4)]
)
def test_an_answer_begins_with_the_cores_that_others_left_before_it(room: float | None, count: int) -> None:
    threads = Threads(4)
    threads.start(room)
    assert (threads.count, threads.settled) == (count, count)


def test_a_core_that_was_thought_to_be_taken_is_taken_back_at_once() -> None:
    machine = Machine(2)
    threads = Threads(2)
    threads.start(0.0)
    machine.answer(threads, 1)
    assert threads.settled == 2


def test_trials_that_take_long_are_rare() -> None:
    machine = Machine(busy=always(1), stall=100, tells_idle=False)
    threads = Threads(2)
    threads.start(1.0)
    machine.answer(threads, 2000)
    tried = sum(now - before for (before, _), (now, count) in pairwise(machine.rounds) if count == 2)
    assert 0 < tried < 0.11 * machine.now


def test_a_trial_that_an_answer_ended_in_is_taken_back() -> None:
    machine = Machine(busy=always(1))
    threads = Threads(2)
    while threads.count == 2:
        threads.observe(machine.compute(1, threads.count))
    assert (threads.count, threads.settled) == (1, 2)
    threads.start()
    assert (threads.count, threads.settled) == (2, 2)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_a_duration_that_is_none_counts_for_nothing(seconds: float) -> None:
    threads = Threads(2)
    threads.observe(CallCost(1, seconds, seconds, 0.0, 1000, 0.0))
    assert threads.count == 2
    machine = Machine(busy=always(1))
    machine.answer(threads, 5)
    assert threads.settled == 1


class Engine:
    """A model whose threads can be set."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.told: list[int] = []

    def set_threads(self, count: int) -> None:
        self.told.append(count)

    @property
    def now(self) -> int:
        return self.told[-1]


def crew_of(machine: Machine, *models: Engine) -> Callable[[], bool]:
    """Computes a round of one row with the crew of these models; whether its number changed."""
    spent = {"cpu": 0.0, "preempted": 0, "idle": 0.0}
    crew = Crew(
        models,
        None,
        lambda: Usage(machine.now, spent["cpu"], int(spent["preempted"])),
        lambda: spent["idle"],
        lambda cores: 0,
    )
    crew.start()

    def step() -> bool:
        took = machine.compute(1, models[0].now)
        spent["cpu"] += took.cpu
        spent["preempted"] += took.preempted
        spent["idle"] += took.idle or 0.0
        return crew.passed(1, took.seconds)

    return step


def test_main_and_draft_go_together_each_within_its_own_number() -> None:
    machine = Machine(4, from_to(0, 10, others=3))
    main, draft = Engine(4), Engine(2)
    step = crew_of(machine, main, draft)
    changes = 0
    while machine.now < 10:
        changes += step()
    assert (main.now, draft.now) == (1, 1)
    while machine.now < 20:
        changes += step()
    assert (main.now, draft.now) == (4, 2)
    assert changes <= 8
    assert max(main.told) <= 4 and max(draft.told) <= 2


def test_a_crew_knows_what_others_took_between_two_answers() -> None:
    counted = {"clock": 100.0, "cpu": 7.0, "idle": 50.0}
    main = Engine(2)
    usage = lambda: Usage(counted["clock"], counted["cpu"], 0)  # noqa: E731
    crew = Crew([main], None, usage, lambda: counted["idle"], lambda cores: 0)
    for idle, cpu, threads in ((10.0, 0.0, 1), (20.0, 0.0, 2), (0.0, 9.0, 1), (19.0, 0.0, 2), (10.0, 9.0, 2)):
        crew.rest()
        counted["clock"] += 10
        counted["idle"] += idle
        counted["cpu"] += cpu
        crew.start()
        assert (crew.count, main.now) == (threads, threads)
    crew.rest()
    counted["clock"] += 0.1
    main.set_threads(1)  # somebody else's doing
    crew.start()
    assert main.now == 2
    assert crew.count == 2, "that was too short to tell"


@pytest.mark.parametrize(("free", "threads"), [(0, 1), (1, 1), (2, 2), (3, 3), (4, 4)])
def test_a_program_that_has_just_ended_takes_no_thread_from_the_next_answer(free: int, threads: int) -> None:
    counted = {"clock": 0.0, "idle": 0.0}
    crew = Crew([Engine(4)], None, lambda: Usage(counted["clock"], 0, 0), lambda: counted["idle"],
                lambda cores: free)  # fmt: skip
    crew.rest()
    counted["clock"] += 10
    counted["idle"] += 10  # one core of four was left
    crew.start()
    assert crew.count == threads


@pytest.mark.parametrize(
    ("running", "free"),
    [
        ([1], 4),
        ([9, 3, 9], 2),
        ([5, 5, 5, 1], 4),  # others woke and slept again
        ([3], 2),
        ([8], 0),
        ([None], 0),
    ],
)
def test_a_core_is_free_if_nobody_used_it_at_one_of_several_looks(
    running: list[int | None], free: int
) -> None:
    seen = iter(running)
    assert free_now(4, lambda: next(seen, running[-1])) == free


def test_the_system_counts_at_least_the_thread_that_asks() -> None:
    running = running_now()
    assert running is None or running >= 1


def test_a_crew_is_only_where_there_are_threads_to_choose() -> None:
    room = Room()
    assert Crew.of(room, Engine(1)) is None
    assert Crew.of(room, object()) is None
    assert Crew.of(room, object(), Engine(4)) is None, "a draft alone is none"
    crew = Crew.of(room, Engine(2), None)
    assert crew is not None and (crew.count, crew.most) == (2, 2)


def test_what_the_system_counts_goes_up() -> None:
    before, idle = usage_now(), idle_now()
    sum(range(100_000))
    after = usage_now()
    assert after.clock > before.clock
    assert after.cpu > before.cpu
    assert after.preempted >= before.preempted
    assert idle is None or 0 <= idle <= (idle_now() or 0)


class Told(Crew):
    """A crew that is told when to change its number, and keeps what it heard."""

    def __init__(self, counts: dict[int, int], begin: int = 2) -> None:
        """`counts` by how many rounds and chunks are over."""
        super().__init__([Engine(2)])
        self._counts = counts
        self._now = begin
        self.heard: list[tuple[int, float]] = []
        self.rests = 0

    def rest(self) -> None:
        self.rests += 1

    @property
    def count(self) -> int:
        return self._now

    def passed(self, rows: int, seconds: float) -> bool:
        self.heard.append((rows, seconds))
        before, self._now = self._now, self._counts.get(len(self.heard), self._now)
        return before != self._now


def events_of(crew: Crew | None) -> list[Event]:
    """Of a scripted answer with a prompt of more than two chunks."""
    backend = open_backend("scripted:sample")
    main = backend.load("scripted:sample", Options("main", 4096), lambda _: True)
    draft = backend.load("scripted:draft?acceptance=0.6", Options("draft", 4096), lambda _: True)
    pair = Pair(backend, main, draft, None, None, FixedLength(4), ContextReader(main), None, crew=crew)
    events: list[Event] = []
    command = Generate(7, (Message("user", "word " * 1100),), seed=1, raw=True, max_tokens=40, lookup=False)
    renderer = TemplateRenderer()
    Answer(pair, command, events.append, lambda: False).run(renderer)
    renderer.close()
    return events


def test_every_round_and_every_chunk_of_the_prompt_is_told_to_the_crew() -> None:
    crew = Told({})
    events = events_of(crew)
    chunks = [event.done for event in events if isinstance(event, Prefill)]
    read = [after - before for before, after in pairwise(chunks)]
    assert len(read) > 2
    rounds = [each for event in events if isinstance(event, Rounds) for each in event.rounds]
    rows = [each.drafted + 1 for each in rounds[:-1]]
    assert [heard for heard, _ in crew.heard] == [*read, *rows], (
        "behind the last round nothing is to be chosen"
    )
    assert all(seconds > 0 for _, seconds in crew.heard)
    assert not any(isinstance(event, Busy) for event in events)
    assert crew.rests == 1


def test_the_app_hears_when_the_machine_is_busy_and_when_it_is_free_again() -> None:
    events = events_of(Told({1: 1, 6: 2}))
    kinds = [event for event in events if isinstance(event, Busy | Rounds)]
    assert [event for event in kinds if isinstance(event, Busy)] == [Busy(7, 1, 2), Busy(7, 2, 2)]
    assert isinstance(kinds[0], Busy), "while the prompt is read"
    assert isinstance(kinds[kinds.index(Busy(7, 2, 2)) - 1], Rounds)


def test_an_answer_that_begins_with_fewer_threads_says_so() -> None:
    events = events_of(Told({}, begin=1))
    assert [event for event in events if isinstance(event, Busy)] == [Busy(7, 1, 2)]


def test_without_a_crew_nothing_is_told() -> None:
    assert not any(isinstance(event, Busy) for event in events_of(None))


def test_a_pair_on_the_processor_has_a_crew_and_others_have_none(tmp_path: Path) -> None:
    path = str(models.write_model(tmp_path / "toy.gguf"))
    pair = load_pair(Load(path, path, 256, threads=2), lambda stage, fraction: True)
    assert pair.crew is not None and pair.crew.most == 2
    pair.close()
    pair = load_pair(Load("scripted:sample", "scripted:draft"), lambda stage, fraction: True)
    assert pair.crew is None
    pair.close()
