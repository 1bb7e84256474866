"""The leader of a ring: waits for the weights, compares the tokens, and names the worker that differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from tui.engine.backends import GivenUp, ModelError, Options
from tui.engine.machine.worker_link import WorkerLink
from tui.engine.machine.worker_messages import (
    BeginStage,
    Chosen,
    DropStage,
    FromWorker,
    LoadStage,
    StageFailed,
    StageReady,
)
from tui.engine.machine.worker_pool import FormedRing, WorkerPool
from tui.engine.pair.ring_leader import RingLeader
from tui.host import Host

OPTIONS = Options("main", 512, cache_type="q8_0")


@dataclass
class FakeLink:
    """Notes what it is sent."""

    host: Host
    sent: list[Any] = field(default_factory=list)
    listener: Callable[[FromWorker], None] = lambda message: None
    loss: object = None

    def send(self, *messages: object) -> None:
        self.sent += messages


class Ended(Exception):
    """Stands for the end of the process."""


class FakePool:
    def failed(self, links: object, words: str, hint: str) -> None:
        raise Ended(words)


@pytest.fixture
def links() -> list[FakeLink]:
    return [FakeLink(Host("gpu2", "gpu2")), FakeLink(Host("gpu3", "gpu3"))]


@pytest.fixture
def leader(links: list[FakeLink]) -> RingLeader:
    ring = FormedRing(tuple(cast("list[WorkerLink]", links)), object())
    return RingLeader(ring, [3, 2, 4], ["/a", "/b"], "both", cast(WorkerPool, FakePool()))


def test_each_worker_loads_its_share_and_all_begin_together(
    leader: RingLeader, links: list[FakeLink]
) -> None:
    leader.begin(OPTIONS)
    assert links[0].sent == [LoadStage("/a", 0, 3, 512, "q8_0", exact=False)]
    assert links[1].sent == [LoadStage("/b", 3, 5, 512, "q8_0", exact=False)]
    assert leader.own == range(5, 9)
    links[0].listener(StageReady())
    looks = 0

    def wanted() -> bool:
        nonlocal looks
        looks += 1
        assert BeginStage() not in links[0].sent
        links[1].listener(StageReady())
        return True

    leader.ready(wanted)
    assert looks == 1 and all(each.sent[-1] == BeginStage() for each in links)


def test_a_load_that_is_given_up_or_fails_is_dropped_everywhere(
    leader: RingLeader, links: list[FakeLink]
) -> None:
    leader.begin(OPTIONS)
    with pytest.raises(GivenUp):
        leader.ready(lambda: False)
    links[1].listener(StageFailed("the weights need 9 GiB"))
    with pytest.raises(ModelError, match="gpu3: the weights need 9 GiB"):
        leader.ready(lambda: True)
    leader.give_up()
    assert all(each.sent[-1] == DropStage() for each in links)
    leader.begin(OPTIONS)
    for each in links:
        each.listener(StageReady())
    leader.ready(lambda: True)  # the old fault is forgotten


def test_a_worker_that_fails_in_a_call_ends_the_process(leader: RingLeader, links: list[FakeLink]) -> None:
    leader.begin(OPTIONS)
    for each in links:
        each.listener(StageReady())
    with pytest.raises(Ended, match="gpu2: out of memory"):
        links[0].listener(StageFailed("out of memory"))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_a_difference_names_the_worker_whoever_is_first(
    leader: RingLeader, links: list[FakeLink], order: tuple[int, ...]
) -> None:
    def tell(tokens: tuple[int, ...], other: tuple[int, ...]) -> None:
        acts = [
            lambda: leader.expect(7, list(tokens)),
            lambda: links[0].listener(Chosen(7, tokens)),
            lambda: links[1].listener(Chosen(7, other)),
        ]
        for place in order:
            acts[place]()

    tell((4, 5), (4, 5))
    leader.check()
    tell((4, 5), (4, 6))
    with pytest.raises(ModelError, match="gpu3 chose another token") as raised:
        leader.check()
    assert "--workers" in raised.value.hint
    leader.check()  # told once
    tell((1,), (1,))
    leader.check()
