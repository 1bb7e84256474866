"""The errors of an engine, each as one line with the next step. `exit_reason.py` finds the reason of a
death."""

from __future__ import annotations

from ..errors import OutriderError


class EngineError(OutriderError):
    """A command that failed; the engine keeps working."""


class EngineDied(EngineError):
    """There is no engine any more. `EngineClient.start` makes a new one.

    `link`: the engine was on another machine, which may be reachable again soon.
    """

    def __init__(self, message: str, hint: str = "", *, link: bool = False) -> None:
        super().__init__(message, hint)
        self.link = link
