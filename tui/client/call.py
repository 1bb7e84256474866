"""A command on its way: the events that belong to it, the caller that waits for them, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from .. import protocol
from ..clean import clean_line
from ..errors import OutriderError

if TYPE_CHECKING:
    from ..protocol import Command, Event, Question, Reply

T = TypeVar("T")

_LAST = {
    "Load": "Loaded",
    "Unload": "Unloaded",
    "Generate": "Finished",
    "Inspect": "Inspected",
    "Count": "Counted",
    "ListModels": "ModelsListed",
    "DescribeModel": "ModelDescribed",
    "JudgeDrafts": "DraftsJudged",
    "PlanMemory": "MemoryPlanned",
    "ProposePairs": "PairsProposed",
    "CountStates": "StatesCounted",
    "ForgetStates": "StatesForgotten",
    "SurveyWorkers": "WorkersSurveyed",
    "Requantize": "Requantized",
    "SearchHub": "HubFound",
    "ListHub": "HubListed",
    "LookInside": "HubInside",
    "Download": "Downloaded",
}
"""The last event of each command."""


class EngineError(OutriderError):
    """A command that failed; the engine keeps working."""


class EngineDied(EngineError):
    """There is no engine any more. `EngineClient.start` makes a new one.

    `link`: the engine was on another machine, which may be reachable again soon.
    """

    def __init__(self, message: str, hint: str = "", *, link: bool = False) -> None:
        super().__init__(message, hint)
        self.link = link


class Call:
    """A command whose events a caller awaits. Events queue up: a slow reader loses none."""

    def __init__(self, id: int, last: type) -> None:  # noqa: A002
        self.id = id
        """The id of its events; 0 where they have none."""
        self.last = last
        """Return the kind of event that ends the command."""
        self.abandoned = False
        """Nobody waits for it any more; it continues to its end."""
        self.deadline: asyncio.TimerHandle | None = None
        """Runs out if a canceled command does not end in time."""
        self.length = 0
        """Length of the answer so far, in characters and tokens."""
        self.over = asyncio.Event()
        self._events: asyncio.Queue[Event | EngineError] = asyncio.Queue()

    def give(self, event: Event | EngineError) -> None:
        if isinstance(event, EngineError | self.last):
            self.over.set()
            if self.deadline is not None:
                self.deadline.cancel()
        if not self.abandoned:
            self._events.put_nowait(event)

    async def next(self) -> Event:
        """Return the next event; raise the error that ended the call."""
        event = await self._events.get()
        if isinstance(event, EngineError):
            raise event
        return event


class Questions:
    """The calls about the library. Any number of them run at once, beside the command of the engine."""

    def __init__(self) -> None:
        self._open: dict[int, Call] = {}
        self._latest = 0

    def open(self, question: Question) -> tuple[Question, Call]:
        """Return `question` with a new id, and its call."""
        self._latest -= 1
        self._open[self._latest] = call = Call(self._latest, end_of(question))
        return replace(question, id=self._latest), call

    def get(self, id: int) -> Call | None:  # noqa: A002
        return self._open.get(id)

    def close(self, call: Call) -> bool:
        """Stop waiting for `call`. Returns whether the engine still works on it."""
        return self._open.pop(call.id, None) is not None and not call.over.is_set()

    def fail(self, error: EngineError) -> None:
        """End every call with `error`."""
        for call in self._open.values():
            call.give(error)


async def last_reply(replies: AsyncGenerator[Reply, None], kind: type[T]) -> T:
    """Return the reply of this kind, which ends the question. Raises `EngineError`."""
    async with aclosing(replies):
        async for reply in replies:
            if isinstance(reply, kind):
                return reply
    raise EngineError("The engine gave no answer", "Try again.")


def end_of(command: Command) -> type:
    """Return the kind of event that ends the command."""
    last: type = getattr(protocol, _LAST[type(command).__name__])
    return last


def error_of(failed: protocol.Failed) -> EngineError:
    return EngineError(clean_line(failed.message, 500), clean_line(failed.hint))
