"""The connection to a loaded pair: it starts the engine, loads, and tries again when the link breaks.

It owns the phase of the chat, which is one state machine. The steps are in `_NEXT`; a step that has no
arrow from a phase leaves the phase as it is:

    ENDED <-- fail, from every phase          load, from every phase --> LOADING

    LOADING -- loaded --> READY -- ask --> READING -- round --> ANSWERING
    LOADING -- ask -----> WAITING          READING -- stop ---> STOPPING
    ENDED ---- ask -----> WAITING          ANSWERING -- stop -> STOPPING
    WAITING -- begin ---> READING
    WAITING -- stop ----> LOADING          READING, ANSWERING, STOPPING -- over --> READY

The states of `EngineClient` are those of the process: here only its death counts. This module shows nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from tui import protocol
from tui.client import EngineClient, EngineDied, EngineError

LOAD = 0
"""The id of a load. An answer has an id of its own."""
LONGEST_WAIT = 30.0
"""Seconds between two tries to reach the engine's machine."""
SETTLED = 0.05
"""Seconds that the last events of an answer need to reach the screen after the engine died."""


class Phase(StrEnum):
    """The state of the chat."""

    LOADING = "loading"
    READY = "ready"
    WAITING = "waiting"
    """A prompt waits for the load."""
    READING = "reading"
    """The engine reads the prompt."""
    ANSWERING = "answering"
    STOPPING = "stopping"
    ENDED = "ended"
    """There is no engine with a model."""


class Step(StrEnum):
    """An event that may change the phase."""

    LOAD = "load"
    LOADED = "loaded"
    FAIL = "fail"
    ASK = "ask"
    BEGIN = "begin"
    ROUND = "round"
    STOP = "stop"
    OVER = "over"


BUSY: Final = frozenset((Phase.WAITING, Phase.READING, Phase.ANSWERING, Phase.STOPPING))
"""The phases in which the chat accepts no other prompt."""
_NEXT: Final = {
    (Phase.LOADING, Step.LOADED): Phase.READY,
    (Phase.LOADING, Step.ASK): Phase.WAITING,
    (Phase.ENDED, Step.ASK): Phase.WAITING,
    (Phase.READY, Step.ASK): Phase.READING,
    (Phase.READY, Step.BEGIN): Phase.READING,
    (Phase.WAITING, Step.BEGIN): Phase.READING,
    (Phase.WAITING, Step.STOP): Phase.LOADING,
    (Phase.READING, Step.ROUND): Phase.ANSWERING,
    (Phase.READING, Step.STOP): Phase.STOPPING,
    (Phase.ANSWERING, Step.STOP): Phase.STOPPING,
    (Phase.READING, Step.OVER): Phase.READY,
    (Phase.ANSWERING, Step.OVER): Phase.READY,
    (Phase.STOPPING, Step.OVER): Phase.READY,
    **{(phase, Step.LOAD): Phase.LOADING for phase in Phase},
    **{(phase, Step.FAIL): Phase.ENDED for phase in Phase},
}
_TONES: Final = {Phase.READY: "success", Phase.ENDED: "error", Phase.STOPPING: "warning"}


class Connection:
    """One load at a time, repeated where that is necessary, and the phase of the chat."""

    def __init__(
        self,
        client: EngineClient,
        request: Callable[[], protocol.Load],
        on_progress: Callable[[protocol.Loading], None],
        on_end: Callable[[protocol.Loaded | EngineError], None],
    ) -> None:
        """`request` returns the load for the settings of now.

        `on_end` is called at the end of each load, before the caller that waits for it continues, and at each
        failure.
        """
        self.client = client
        self._request = request
        self._on_progress = on_progress
        self._on_end = on_end
        self.on_phase: Callable[[], None] = lambda: None
        """Called when the phase has changed."""
        self._phase = Phase.LOADING
        self._task: asyncio.Task[EngineError | None] | None = None
        self._later: asyncio.TimerHandle | None = None
        """The timer of the next try to reach the engine's machine, or of the next look at a dead engine."""
        self._tries = 0
        """Number of tries since the link broke."""
        self.loaded: protocol.Loaded | None = None
        self.retry_after: float | None = None
        """Seconds from the last failure to the next try; None if no try is planned."""
        self.is_new = False
        """Whether the last load brought a different main model."""
        self._main = ""

    @property
    def phase(self) -> Phase:
        return self._phase

    @property
    def busy(self) -> bool:
        """Whether an answer is coming, so that the chat accepts no other prompt."""
        return self._phase in BUSY

    @property
    def tone(self) -> str:
        """The color of the status line, as the name of a theme variable."""
        return _TONES.get(self._phase, "primary")

    def take(self, step: Step) -> None:
        """Change to the phase that `step` leads to."""
        after = _NEXT.get((self._phase, step), self._phase)
        if after != self._phase:
            self._phase = after
            self.on_phase()

    def load(self) -> asyncio.Task[EngineError | None]:
        """Return the load that is under way or done, or begin one. Its result is the failure, or None."""
        if self._task is None or (self._task.done() and self.loaded is None):
            self._task = asyncio.create_task(self._load(self._request()))
        return self._task

    async def load_anew(self) -> None:
        """Begin a load for the settings of now. A load that is under way is canceled."""
        if self._task and not self._task.done():
            await self.give_up()
            await asyncio.wait([self._task])
        self.loaded = None
        self.load()

    async def give_up(self) -> None:
        """Cancel the load that is under way."""
        await self.client.cancel(LOAD)

    async def _load(self, request: protocol.Load) -> EngineError | None:
        try:
            await self.client.start()
            loaded = await self.client.load(request, on_progress=self._on_progress)
        except EngineError as error:
            self.fail(error)
            return error
        self.loaded, self._tries = loaded, 0
        self.is_new, self._main = loaded.main.path != self._main, loaded.main.path
        self.take(Step.LOADED)
        self._on_end(loaded)
        return None

    def fail(self, error: EngineError) -> None:
        """Enter `ENDED`: there is no engine, or no loaded model. A broken link is tried again after a growing
        wait."""
        self.loaded, self.retry_after = None, None
        if isinstance(error, EngineDied) and error.link:
            self.retry_after = min(LONGEST_WAIT, 2**self._tries)
            self._tries += 1
            self._call_later(self.retry_after, self._reconnect)
        self.take(Step.FAIL)
        self._on_end(error)

    def _reconnect(self) -> None:
        if self._phase == Phase.ENDED:
            self.take(Step.LOAD)
            self._on_progress(protocol.Loading(f"connecting to {self.where}"))
            self.load()

    @property
    def where(self) -> str:
        """The name of the engine's machine. Foreign text."""
        return self.client.host.name if self.client.host else "the engine"

    def died(self, error: EngineDied) -> None:
        """Take the death of an engine that nothing waited for. The next prompt starts a new engine."""
        if self.client.state != "dead":
            return
        if self.busy:  # the last events of an answer are still on their way to the screen
            self._call_later(SETTLED, lambda: self.died(error))
        elif self._phase == Phase.READY:
            self.fail(error)

    def _call_later(self, seconds: float, act: Callable[[], None]) -> None:
        self.close()
        self._later = asyncio.get_running_loop().call_later(seconds, act)

    def close(self) -> None:
        """Stop all tries."""
        if self._later:
            self._later.cancel()
