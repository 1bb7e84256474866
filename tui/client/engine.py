"""The engine's client: sends one command at a time, passes on the events, reports the death of the engine.

Callbacks handle all input when it arrives: there is no thread, no polling and no reader task that could
lag.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from tui.choices import DraftLength

from .. import protocol
from ..clean import clean_line
from ..host import Host
from .call import Call, EngineDied, Questions, end_of, error_of
from .child import Child, EngineLog, engine_environment
from .event_reader import EventReader
from .heartbeat import Heartbeat

if TYPE_CHECKING:
    from ..protocol import Command, Event, Question, Reply

AnswerEvent: TypeAlias = (
    "protocol.Prefill | protocol.TextRound | protocol.Notice | protocol.Busy | protocol.NotDrafting"
    " | protocol.Finished"
)
"""The events of an answer."""
State = Literal["stopped", "starting", "idle", "loading", "answering", "dead"]

START = 20.0
"""Seconds in which an engine must greet."""
PATIENCE = 2.0
"""Seconds in which an engine must end by itself, and then again after SIGTERM."""
SUSPENDED = 3600.0
"""Seconds that an engine waits for a suspended app. Then it ends itself, and its memory is free."""
LONGEST_ANSWER = 8 << 20
"""Characters and tokens of an answer, at most: a context of a million tokens needs fewer."""
STUBBORN = 8
"""Heartbeats in which a canceled answer must end."""


class EngineClient:
    """Starts an engine, gives it commands and passes on its events.

    Commands queue up behind one another. Every death of the engine becomes one `EngineDied`: raised by the
    call that waits for the engine, or else given to `on_death`. Then `start` makes a new engine.
    """

    def __init__(
        self,
        command: Sequence[str],
        log_path: Path,
        environment: Mapping[str, str] | None = None,
        heartbeat: float = 5.0,
        on_death: Callable[[EngineDied], None] | None = None,
        host: Host | None = None,
        agent: bool = False,
    ) -> None:
        """`command` runs an engine, here or on `host`. It gets only the variables that it needs.

        `agent`: it may ask the agent for the keys of ssh, to reach workers.
        `heartbeat` is in seconds. After `heartbeat.MISSED` of them without a reply the engine counts as
        dead.
        """
        self._command = tuple(command)
        self.host = host
        """The machine of the engine; None for this one."""
        self._log_path = log_path
        self._given = dict(os.environ if environment is None else environment)
        self._uses_agent = agent
        self.heartbeat = Heartbeat(heartbeat, lambda: self._send(protocol.Ping()), self._fell_silent)
        self._on_death = on_death
        self.state: State = "stopped"
        self._child: Child | None = None
        self._reader = EventReader()
        self._call: Call | None = None
        self._questions = Questions()
        self._hello: protocol.Hello | None = None
        self._death = EngineDied("There is no engine running", "Try again: a new engine starts.")
        """The reason why there is no engine, while there is none."""
        self._started = asyncio.Event()
        """Set except while an engine is about to greet."""

    async def move(self, command: Sequence[str], host: Host | None) -> None:
        """End the running engine. The next one is started by `command`, on `host`."""
        await self.close()
        self.heartbeat.forget()
        self._command, self.host = tuple(command), host

    async def start(self, timeout: float | None = None) -> protocol.Hello:
        """Return the greeting of the running engine, or start a new one.

        Raises `EngineDied` if no engine greets within `timeout` seconds. None means `START`, and twice that
        on another machine.
        """
        if self._hello is not None and self.state not in ("stopped", "dead"):
            return self._hello
        if self.state == "starting":
            raise RuntimeError("the engine is starting already")
        self.state, self._hello = "starting", None
        self._started.clear()
        if self._child is not None:  # only when the last engine is gone, its memory is free
            await self._child.wait(PATIENCE)
        self._reader = EventReader()
        self._call = call = Call(0, protocol.Hello)
        self._child = child = Child(EngineLog(self._log_path), self._received, self._ended)
        seconds = timeout or START * (2 if self.host else 1)
        environment = engine_environment(self._given, remote=self.host is not None or self._uses_agent)
        try:
            async with asyncio.timeout(seconds):
                await child.spawn(self._command, environment)
                hello = cast(protocol.Hello, await call.next())
        except TimeoutError:
            late = f"The engine did not start within {seconds:g} seconds"
            raise self._die(EngineDied(late, link=self.host is not None)) from None
        except OSError as error:
            why = clean_line(f"{self._command[0]}: {error.strerror}")
            raise self._die(EngineDied(f"The engine cannot be started: {why}")) from None
        except asyncio.CancelledError:
            self._stop("stopped")
            raise
        except EngineDied:
            child.end()  # if it was closed during the spawn, nobody else ends it
            raise
        finally:
            self._started.set()
        self._hello = hello
        self.heartbeat.start()
        return hello

    async def load(
        self, command: protocol.Load, on_progress: Callable[[protocol.Loading], None]
    ) -> protocol.Loaded:
        """Load a pair of models. Raises `EngineError` if that fails; the pair before is then gone.

        Cancelling the task cancels the load.
        """
        return cast(protocol.Loaded, await self._outcome(command, "loading", 0, on_progress))

    async def generate(self, command: protocol.Generate) -> AsyncGenerator[AnswerEvent, None]:
        """Give the events of an answer as they come, Finished last. `command.id` must be new.

        Raises `EngineError` if the answer fails. Closing the iterator early cancels the answer. Its remaining
        events are dropped, and the next command waits for its end.
        """
        call = await self._begin(command, "answering", command.id)
        try:
            while True:
                event = await call.next()
                if isinstance(event, protocol.Rounds):
                    for each in event.rounds:
                        yield each
                else:
                    yield cast(AnswerEvent, event)
                if isinstance(event, protocol.Finished):
                    return
        finally:
            self._abandon(call)

    async def inspect(self, command: protocol.Inspect) -> protocol.Inspected:
        """Return the probabilities at places of an answer. `command.id` and errors are as in `generate`."""
        return cast(protocol.Inspected, await self._outcome(command, "answering", command.id))

    async def count(self, command: protocol.Count) -> int:
        """Count the tokens of a text. `command.id` and errors are as in `generate`."""
        return cast(protocol.Counted, await self._outcome(command, "answering", command.id)).tokens

    async def _outcome(
        self, command: Command, doing: State, id: int,  # noqa: A002
        on_progress: Callable[[protocol.Loading], None] = lambda event: None,
    ) -> Event:  # fmt: skip
        """Send a command and return its last event."""
        call = await self._begin(command, doing, id)
        try:
            while not isinstance(event := await call.next(), call.last):
                if isinstance(event, protocol.Loading):
                    on_progress(event)
            return event
        finally:
            self._abandon(call)

    async def cancel(self, id: int) -> None:  # noqa: A002 - the protocol's name for it
        """Cancel the answer `id`, or the load for 0. Its `Finished` says "cancelled" then.

        Does nothing if it is over.
        """
        if self._call is not None and self._call.id == id:
            self._cancel(self._call)

    def set_draft_length(self, id: int, draft_length: DraftLength) -> None:  # noqa: A002
        """Change the draft length of the answer `id` from its next round on. Does nothing if it is over."""
        if self._call is not None and self._call.id == id and self.state == "answering":
            self._send(protocol.SetDraftLength(id, draft_length))

    async def ask(self, question: Question) -> AsyncGenerator[Reply, None]:
        """Ask about the library and give the replies, beside all other work of the engine.

        If the engine is starting, wait for it. The question's id is replaced. Raises `EngineError` if there
        is no reply or no engine. Closing the iterator early cancels the question.
        """
        if self.state == "starting":
            await self._started.wait()
        if self._hello is None or self.state in ("stopped", "dead"):
            raise EngineDied(self._death.message, self._death.hint)
        numbered, call = self._questions.open(question)
        self._send(numbered)
        try:
            while not isinstance(event := await call.next(), call.last):
                yield cast("Reply", event)
            yield cast("Reply", event)
        finally:
            if self._questions.close(call):
                self._send(protocol.Cancel(call.id))

    def sleep(self) -> None:
        """Prepare for the suspension of this process: the engine keeps working, and waits for the app."""
        if self.state not in ("stopped", "dead"):
            self._send(protocol.Ping(SUSPENDED))

    async def close(self) -> None:
        """End the engine: by a command, then by SIGTERM, then by SIGKILL. May be called in any state."""
        if self._child is not None and self.state not in ("stopped", "dead"):
            call, self._call = self._call, None
            if call is not None:
                call.give(EngineDied("The engine was stopped"))
            self.state = "stopped"
            self._send(protocol.Quit())
            if not await self._child.wait(PATIENCE):
                self._child.signal(signal.SIGTERM)
                await self._child.wait(PATIENCE)
        self._stop("stopped")
        if self._child is not None:
            await self._child.wait(PATIENCE)

    async def _begin(self, command: Command, doing: State, id: int) -> Call:  # noqa: A002
        """Send a command once the one before it is over."""
        while self._call is not None:
            await self._call.over.wait()
        if self.state != "idle":
            raise EngineDied(self._death.message, self._death.hint)
        self._call = Call(id, end_of(command))
        self.state = doing
        self._send(command)
        return self._call

    def _cancel(self, call: Call) -> None:
        if self._call is not call or self.state not in ("loading", "answering"):
            return
        self._send(protocol.Cancel(call.id))
        if call.deadline is None:
            seconds = STUBBORN * self.heartbeat.interval
            call.deadline = asyncio.get_running_loop().call_later(seconds, self._give_up, call)

    def _abandon(self, call: Call) -> None:
        """Cancel a call that nobody waits for. The next command waits for its end."""
        call.abandoned = True
        self._cancel(call)

    def _send(self, command: Command) -> None:
        if self._child is not None:
            self._child.write(protocol.encode(command))

    def _received(self, data: bytes) -> None:
        self.heartbeat.hear()
        if self.state in ("stopped", "dead"):
            return
        try:
            for event in self._reader.feed(data):
                if self.state == "starting" and (fault := _other_protocol(event, self.host)):
                    self._die(fault)
                    return
                self._dispatch(event)
        except protocol.ProtocolError as error:
            did = "printed too much before it started" if self.state == "starting" else "sent garbage"
            self._die(EngineDied(clean_line(f"The engine {did}: {error}"), "Another try may work."))

    def _dispatch(self, event: Event) -> None:
        """Give an event to its call. An event without a call came too late and is dropped."""
        number: int | None = getattr(event, "id", None)
        if number is not None and (question := self._questions.get(number)):
            question.give(error_of(event) if isinstance(event, protocol.Failed) else event)
            return
        if isinstance(event, protocol.Pong):
            self.heartbeat.answered()
            return
        call = self._call
        if call is None or (number is not None and number != call.id and not _of_none(event)):
            return
        if isinstance(event, (protocol.Failed, call.last)):
            self._call, self.state = None, "idle"
            call.give(error_of(event) if isinstance(event, protocol.Failed) else event)
        elif not isinstance(event, protocol.Hello | protocol.Loaded | protocol.Unloaded):
            if isinstance(event, protocol.Rounds):
                call.length += _length(event)
                if call.length > LONGEST_ANSWER:
                    raise protocol.ProtocolError(f"an answer of more than {LONGEST_ANSWER:,} characters")
            call.give(event)

    def _fell_silent(self, seconds: float) -> None:
        silent = f"The engine has not answered for {seconds:g} seconds"
        self._die(EngineDied(silent, "Try again.", link=self.host is not None))

    def _give_up(self, call: Call) -> None:
        """End an engine whose native code hangs while its thread still answers pings."""
        if self._call is call:
            self._die(EngineDied("The engine does not stop answering", "Try again: a new engine starts."))

    def _ended(self) -> None:
        if self._child is not None and self.state not in ("stopped", "dead"):
            from .exit_reason import death

            self._die(death(self._child.status, self._child.log.tail, self.state, self.host))

    def _die(self, error: EngineDied) -> EngineDied:
        call = self._call
        self._death = error
        self._stop("dead")
        if call is not None and not call.abandoned:
            call.give(error)
        elif self._on_death is not None:
            self._on_death(error)
        return error

    def _stop(self, state: State) -> None:
        """End every part of the engine."""
        self.state = state
        self.heartbeat.stop()
        if self._child is not None:
            self._child.end()
        if self._call is not None:
            self._call.over.set()
            self._call = None
        self._questions.fail(EngineDied(self._death.message, self._death.hint))


@asynccontextmanager
async def running(client: EngineClient) -> AsyncIterator[EngineClient]:
    """Start an engine, which ends with the block. Raises `EngineDied`."""
    try:
        await client.start()
        yield client
    finally:
        await client.close()


def _other_protocol(event: Event, host: Host | None) -> EngineDied | None:
    """Return the error of an engine that greets with another protocol; None for all other events."""
    if not isinstance(event, protocol.Hello) or event.protocol == protocol.PROTOCOL:
        return None
    versions = f"protocol {event.protocol} and this program {protocol.PROTOCOL}"
    hint = f"Install the same version of Outrider on {host.name if host else 'both sides'}."
    return EngineDied(f"The engine speaks {versions}", hint)


def _length(rounds: protocol.Rounds) -> int:
    return sum(len(each.tokens) + sum(len(text) for text, _ in each.pieces) for each in rounds.rounds)


def _of_none(event: Event) -> bool:
    """Whether a command was not understood. The call that waits now waits for that command."""
    return isinstance(event, protocol.Failed) and event.id == 0
