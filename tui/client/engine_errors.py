"""What can go wrong with an engine, each as one line with what to do next. `death.py` reads how one died."""

from __future__ import annotations

from ..errors import OutriderError


class EngineError(OutriderError):
    """A command that failed; the engine goes on."""


class EngineDied(EngineError):
    """There is no engine any more. `EngineClient.start` makes a new one.

    `link` says that it was on another machine, and that the way there may be open again soon.
    """

    def __init__(self, message: str, hint: str = "", *, link: bool = False) -> None:
        super().__init__(message, hint)
        self.link = link
