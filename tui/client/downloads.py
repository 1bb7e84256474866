"""Downloads on the engine's machine, one at a time, in the order of the requests.

A download that is paused, fails or loses its engine keeps its bytes, and continues there when it is asked for
again. `on_change` reports every change; this module shows nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Literal

from .. import protocol
from ..clean import clean_line
from .call import EngineError
from .hub import HubClient

State = Literal["waiting", "running", "paused", "done", "failed"]

WINDOW = 5.0
"""Seconds over which a speed is measured."""


@dataclass(eq=False)
class Item:
    """One model to download."""

    repository: str
    file: str
    """As in `Download.file`; as `HubFile.name` once that is known."""
    state: State = "waiting"
    done: int = 0
    total: int = 0
    """Bytes; 0 if not known yet."""
    fault: EngineError | None = None
    reason: str = ""
    """The reason why a running download receives nothing at the moment."""
    path: str = ""
    """The path to load, once the download is complete."""
    note: str = ""
    """A remark for the person about its part in a pair; may be empty."""
    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def name(self) -> str:
        """The name to show: the file's name once that is known."""
        if self.file.endswith(".gguf"):
            return self.file.rpartition("/")[2]
        return f"{self.repository.rpartition('/')[2]} {self.file}".strip()

    @property
    def speed(self) -> float | None:
        """Recent bytes per second; None if unknown."""
        if self.state != "running" or self.reason or len(self._seen) < 2:
            return None
        (began, first), (now, last) = self._seen[0], self._seen[-1]
        return (last - first) / (now - began) if now > began else None

    @property
    def seconds_left(self) -> float | None:
        return (self.total - self.done) / self.speed if self.speed else None

    def see(self, now: float, done: int, total: int) -> None:
        self.done, self.total = done, total
        self._seen.append((now, done))
        while self._seen[0][0] < now - WINDOW:
            self._seen.popleft()

    def wait(self, reason: str) -> None:
        """Note that nothing comes for `reason`; empty if bytes come."""
        if reason or self.reason:
            self.forget_pace()
        self.reason = reason

    def forget_pace(self) -> None:
        self.reason = ""
        self._seen.clear()


class Downloads:
    """The queue of downloads."""

    def __init__(self, client: HubClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._turn: asyncio.Task[None] | None = None
        self.items: list[Item] = []
        self.on_change: Callable[[Item], None] = lambda item: None
        """Called at every change, progress included."""

    def add(self, repository: str, file: str, note: str = "") -> Item:
        """Add a model to the queue, or continue one that is in it. `note` is `Item.note`."""
        for item in self.items:
            if (item.repository, item.file) == (repository, file):
                item.note = note or item.note
                self.resume(item)
                return item
        self.items.append(item := Item(repository, file, note=note))
        self._changed(item, "waiting")
        return item

    def pause(self, item: Item) -> None:
        """Stop a download and keep its bytes."""
        if item.state == "running" and self._turn:
            self._turn.cancel()
        elif item.state == "waiting":
            self._changed(item, "paused")

    def resume(self, item: Item) -> None:
        if item.state in ("paused", "failed"):
            self._changed(item, "waiting")

    def remove(self, item: Item) -> None:
        """Remove a download from the queue. Its bytes stay on the disk, for another time."""
        self.pause(item)
        self.items.remove(item)
        self.on_change(item)

    def _changed(self, item: Item, state: State) -> None:
        item.state = state
        item.forget_pace()
        self.on_change(item)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        """Download the waiting models, one after the other."""
        while item := next((each for each in self.items if each.state == "waiting"), None):
            self._turn = asyncio.create_task(self._fetch(item))
            await asyncio.wait([self._turn])

    async def _fetch(self, item: Item) -> None:
        item.state, item.fault = "running", None
        self.on_change(item)
        try:
            async with aclosing(
                self._client.ask(protocol.Download(0, item.repository, item.file))
            ) as replies:
                async for reply in replies:
                    self._take(item, reply)
        except EngineError as error:
            item.state, item.fault = "failed", error
        except asyncio.CancelledError:
            item.state = "paused"
        item.reason = ""
        self.on_change(item)

    def _take(self, item: Item, reply: object) -> None:
        match reply:
            case protocol.Downloading():
                item.file = reply.file
                item.wait(clean_line(reply.reason))
                item.see(self._clock(), reply.done, reply.total)
                self.on_change(item)
            case protocol.Downloaded():
                item.see(self._clock(), reply.size, reply.size)
                item.state, item.path = "done", reply.path
