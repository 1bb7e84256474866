"""What can go wrong with an engine, each as one line with what to do next. `death.py` reads how one died."""

from __future__ import annotations


class EngineError(Exception):
    """A command that failed; the engine goes on. `hint` says what a person can do, and may be empty."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def line(self) -> str:
        """The message and the hint as sentences on one line."""
        ended = self.message if self.message.endswith((".", "!", "?")) else self.message + "."
        return f"{ended} {self.hint}".rstrip()


class EngineDied(EngineError):
    """There is no engine any more. `EngineClient.start` makes a new one.

    `link` says that it was on another machine, and that the way there may be open again soon.
    """

    def __init__(self, message: str, hint: str = "", *, link: bool = False) -> None:
        super().__init__(message, hint)
        self.link = link
