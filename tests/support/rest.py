"""When an app is at rest: nothing of its event loop can go on before time passes or something new comes.

Textual's own `wait_for_idle` takes a process for idle that used no processor time for a while. Beside other
programs a process that has much to do also gets no time, and a test looked too early.
"""

from __future__ import annotations

import asyncio
from time import monotonic, process_time
from typing import Any

from textual.app import App
from textual.pilot import Pilot

_STEP = 0.02
_BUSY = _STEP / 20
_TURNS = 3
"""So often in succession the loop must find nothing to do; each time it asks for input first."""


async def wait_for_rest(min_sleep: float = _STEP, max_sleep: float = 1) -> None:
    """Wait as `textual._wait.wait_for_idle` does, and then for the event loop.

    Threads are seen by their processor time only: a test waits for their result with `until`.
    """
    began = monotonic()
    while True:
        used = process_time()
        await asyncio.sleep(_STEP)
        await _nothing_to_do()
        passed = monotonic() - began
        if passed >= max_sleep or (passed > min_sleep and process_time() - used < _BUSY):
            break


async def _nothing_to_do() -> None:
    ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
    turns = 0
    while turns < _TURNS:
        await asyncio.sleep(0)
        turns = 0 if ready else turns + 1


async def at_rest(pilot: Pilot[Any], endless: str = "") -> None:
    """Let the app go on until its screen waits for nothing but keys, and all is painted.

    `endless` is the group of a worker that never ends.
    """
    async with asyncio.timeout(60):
        await pilot.pause()
        while _at_work(pilot.app, endless):
            await asyncio.sleep(_STEP)
            await pilot.pause()


def _at_work(app: App[Any], endless: str) -> bool:
    """Whether a worker runs, or a timer of the screen that comes once, such as a pause after a key."""
    timers = (each for each in app.screen._timers if each._repeat is not None)
    return any(each.group != endless and not each.is_finished for each in app.workers) or any(
        each._task is not None and not each._task.done() for each in timers
    )
