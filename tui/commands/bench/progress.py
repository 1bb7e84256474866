"""Progress of a benchmark on stderr: a line for each finished prompt.

On a terminal, one more line shows the present step and the remaining time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from time import monotonic
from typing import TextIO

from rich.cells import cell_len, set_cell_size

from ...clean import clean_line
from ...quantities import percent

_BAR = 16
_CLEAR = "\r\x1b[K"


class Progress:
    """Counts answers. Remarks go through it, so that they do not break its line."""

    def __init__(self, target: TextIO, total: int, clock: Callable[[], float] = monotonic) -> None:
        """`total` is the number of answers to measure."""
        self._target = target
        self._visible = target.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._total = total
        self._clock = clock
        self._done = 0
        self._measured = 0
        self._seconds = 0.0
        self._begun = 0.0
        self._waited = ""

    def wait(self, what: str, fraction: float | None = None) -> None:
        """Show a wait for something other than an answer."""
        if not self._visible and what != self._waited:
            self.report(what)
        self._waited = what
        self._show(clean_line(what) + ("" if fraction is None else f" {percent(fraction)}"))

    def begin(self, what: str) -> None:
        """Show that the answer named `what` begins."""
        self._begun = self._clock()
        filled = _BAR * self._done // max(self._total, 1)
        left = self._left()
        parts = [f"[{'#' * filled:-<{_BAR}}] {self._done} of {self._total}", *([left] if left else [])]
        self._show(", ".join([*parts, clean_line(what)]))

    def end(self) -> None:
        """The answer is complete."""
        self._seconds += self._clock() - self._begun
        self._measured += 1
        self._done += 1

    def skip(self, answers: int) -> None:
        """Count this many answers as skipped."""
        self._done += answers

    def report(self, text: str) -> None:
        """Print a line that stays: the result of a prompt, or the present step."""
        self.clear()
        print(f"[{self._done} of {self._total}] {clean_line(text, 500)}", file=self._target, flush=True)

    def remark(self, text: str) -> None:
        """Print a remark on a line that stays."""
        self.clear()
        print(f"outrider: {clean_line(text, 500)}", file=self._target, flush=True)

    def clear(self) -> None:
        if self._visible:
            self._target.write(_CLEAR)
            self._target.flush()

    def _left(self) -> str:
        if not self._measured:
            return ""
        seconds = self._seconds / self._measured * (self._total - self._done)
        return f"{seconds / 60:.0f} min left" if seconds >= 90 else f"{seconds:.0f} s left"

    def _show(self, text: str) -> None:
        if self._visible:
            room = shutil.get_terminal_size().columns - 1
            shown = text if cell_len(text) <= room else set_cell_size(text, room)
            self._target.write(f"{_CLEAR}{shown}")
            self._target.flush()
