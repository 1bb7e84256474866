"""The queue of downloads: one at a time, paused and resumed, and honest about its speed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from tui.client import Downloads, EngineError, Item
from tui.protocol import Download, Downloaded, Downloading, Question, Reply


class Engine:
    """Stands for the client: each download waits for `steps`, and then says how far it is."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.left: list[str] = []
        self.fault = ""
        self.step = asyncio.Event()

    async def ask(self, question: Question) -> AsyncGenerator[Reply, None]:
        assert isinstance(question, Download)
        self.asked.append(question.repository)
        try:
            yield Downloading(-1, "m-Q4.gguf", 25, 100)
            await self.step.wait()
            if self.fault:
                raise EngineError(self.fault, "Try again.")
            yield Downloaded(-1, f"/models/{question.repository}", 100)
        finally:
            self.left.append(question.repository)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


def queue() -> tuple[Engine, Downloads, list[tuple[str, str]]]:
    engine = Engine()
    downloads = Downloads(engine)  # type: ignore[arg-type]
    seen: list[tuple[str, str]] = []
    downloads.on_change = lambda item: seen.append((item.repository, item.state))
    return engine, downloads, seen


async def test_one_comes_after_the_other() -> None:
    engine, downloads, seen = queue()
    first, second = downloads.add("a/a", "Q4"), downloads.add("b/b", "Q4")
    await until(lambda: first.done == 25)
    assert (first.state, second.state) == ("running", "waiting")
    assert engine.asked == ["a/a"]
    assert first.name == "m-Q4.gguf"
    engine.step.set()
    await until(lambda: second.state == "done")
    assert (first.path, second.path) == ("/models/a/a", "/models/b/b")
    assert engine.asked == engine.left == ["a/a", "b/b"]
    assert seen[-1] == ("b/b", "done")


async def test_a_pause_lets_the_next_one_in_and_a_resume_asks_again() -> None:
    engine, downloads, _ = queue()
    first, second = downloads.add("a/a", ""), downloads.add("b/b", "")
    await until(lambda: first.state == "running")
    downloads.pause(first)
    await until(lambda: second.state == "running")
    assert first.state == "paused"
    assert engine.left == ["a/a"]
    downloads.resume(first)
    assert first.state == "waiting"
    engine.step.set()
    await until(lambda: first.state == "done")
    assert engine.asked == ["a/a", "b/b", "a/a"]


async def test_one_that_waits_is_paused_without_being_asked_for() -> None:
    engine, downloads, _ = queue()
    downloads.add("a/a", "")
    second = downloads.add("b/b", "")
    downloads.pause(second)
    engine.step.set()
    await until(lambda: engine.left == ["a/a"])
    await asyncio.sleep(0.01)
    assert engine.asked == ["a/a"]
    assert second.state == "paused"


async def test_a_fault_is_kept_and_the_same_model_tries_again() -> None:
    engine, downloads, _ = queue()
    engine.fault = "The disk has no room"
    engine.step.set()
    item = downloads.add("a/a", "")
    await until(lambda: item.state == "failed")
    assert item.fault is not None
    assert item.fault.message == "The disk has no room"
    engine.fault = ""
    assert downloads.add("a/a", item.file, "a head") is item
    assert item.note == "a head"
    await until(lambda: item.state == "done")
    assert item.fault is None


async def test_what_is_removed_is_gone_and_stopped() -> None:
    engine, downloads, _ = queue()
    item = downloads.add("a/a", "")
    await until(lambda: item.state == "running")
    downloads.remove(item)
    await until(lambda: engine.left == ["a/a"])
    assert downloads.items == []


async def test_why_nothing_comes_is_kept_as_long_as_it_is_so() -> None:
    class Busy(Engine):
        async def ask(self, question: Question) -> AsyncGenerator[Reply, None]:
            yield Downloading(-1, "Q4", 0, 0, "the hub asks to wait 9 s\x1b[2J")
            await self.step.wait()
            yield Downloading(-1, "m-Q4.gguf", 25, 100)
            self.step.clear()
            await self.step.wait()
            yield Downloading(-1, "m-Q4.gguf", 25, 100, "it is busy")
            raise EngineError("The disk has no room")

    engine = Busy()
    downloads = Downloads(engine)  # type: ignore[arg-type]
    item = downloads.add("a/a", "Q4")
    await until(lambda: item.reason)
    assert item.reason.startswith("the hub asks to wait 9 s")
    assert "\x1b" not in item.reason
    assert (item.state, item.speed) == ("running", None)
    engine.step.set()
    await until(lambda: item.done == 25)
    assert item.reason == ""
    await until(lambda: not engine.step.is_set())
    engine.step.set()
    await until(lambda: item.state == "failed")
    assert item.reason == ""


def test_speed_is_that_of_the_last_seconds() -> None:
    item = Item("a/a", "m", "running")
    assert item.speed is None
    for second in range(10):
        item.see(float(second), 10 * second, 1000)
    assert item.speed == 10
    for second in range(10, 16):
        item.see(float(second), 90 + 100 * (second - 9), 1000)
    assert item.speed == 100
    assert item.seconds_left == (1000 - 690) / 100
    item.state = "paused"
    assert item.speed is None
    assert item.seconds_left is None
