"""The terminal before Textual has it and after Textual gave it back.

A first frame of raw bytes stands within milliseconds; keys typed meanwhile wait in the terminal's own buffer.
Whatever ends the program, `leave` puts the terminal back. This module imports next to nothing: it runs
before everything else.
"""

from __future__ import annotations

import os
import termios

# Every mode that Textual or we set, off: paste, mouse, focus, in-band resize, synchronised output, kitty
# keys; then line wrap and cursor on, the main screen, plain text.
RESET = (
    "\x1b[?2026l\x1b[?2004l\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1016l\x1b[?1004l\x1b[?2048l"
    "\x1b[<u\x1b[?7h\x1b[?1049l\x1b[?25h\x1b[0m"
)
SIDEBAR_FROM = 90
"""Columns from which there is room for the sidebar."""
SIDEBAR_WIDTH = 34


class Terminal:
    """One terminal, entered once and left once; `leave` may be called at any time and again."""

    def __init__(self, source: int, target: int) -> None:
        """`source` and `target` are the file descriptors of keys and screen; both must be terminals."""
        self._source = source
        self._target = target
        self.attributes = termios.tcgetattr(source)
        """As they were before; a driver that stops puts these back."""
        self.on_screen = False
        """Whether the alternate screen is up: a driver that stopped sets it to False."""

    def enter(self) -> None:
        """Raw keys, the alternate screen and the first frame. The cursor and the colours stay the user's."""
        raw = termios.tcgetattr(self._source)
        raw[0] &= ~(termios.IXON | termios.IXOFF | termios.ICRNL | termios.INLCR | termios.IGNCR)
        raw[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
        raw[6][termios.VMIN] = 1
        # TCSANOW and not TCSAFLUSH: what was typed already must not be lost.
        termios.tcsetattr(self._source, termios.TCSANOW, raw)
        self.on_screen = True
        columns, rows = os.get_terminal_size(self._target)
        self._write("\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J" + first_frame(columns, rows))

    def leave(self) -> None:
        """As it was before. Never raises: the terminal may be gone."""
        if self.on_screen:
            self.on_screen = False
            self._write(RESET)
        try:
            termios.tcsetattr(self._source, termios.TCSANOW, self.attributes)
        except termios.error:
            return

    def _write(self, text: str) -> None:
        try:
            os.write(self._target, text.encode())
        except OSError:
            return


def first_frame(columns: int, rows: int) -> str:
    """The bones of the chat where the chat will stand, in the terminal's own colours."""
    if columns < 20 or rows < 8:
        return ""
    wide = columns >= SIDEBAR_FROM
    width = columns - SIDEBAR_WIDTH if wide else columns
    line = "─" * (width - 4)
    frame = [
        f"\x1b[{rows - 4};{4 if wide else 3}H● starting",
        f"\x1b[{rows - 3};2H╭{line}╮",
        f"\x1b[{rows - 2};2H│\x1b[{rows - 2};{width - 1}H│",
        f"\x1b[{rows - 1};2H╰{line}╯",
    ]
    if wide:
        frame += [f"\x1b[{row};{width + 1}H│" for row in range(1, rows)]
    return "\x1b[2m" + "".join(frame) + "\x1b[0m"
