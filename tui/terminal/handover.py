"""Owns the terminal before Textual starts and after it ends.

It draws a first frame of raw bytes within milliseconds. Keys typed meanwhile wait in the terminal's own
buffer. However the program ends, `leave` restores the terminal. This module runs before all others, so it
imports almost nothing.
"""

from __future__ import annotations

import os
import termios

# Turn off every mode that Textual or we set: paste, mouse, focus, in-band resize, synchronized output, kitty
# keys. Then line wrap and cursor on, the main screen, plain text.
RESET = (
    "\x1b[?2026l\x1b[?2004l\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1016l\x1b[?1004l\x1b[?2048l"
    "\x1b[<u\x1b[?7h\x1b[?1049l\x1b[?25h\x1b[0m"
)
SIDEBAR_FROM = 90
"""Fewest columns of a screen with a sidebar."""
SIDEBAR_WIDTH = 34


class Terminal:
    """One terminal, entered once and left once. `leave` may be called at any time, also more than once."""

    def __init__(self, source: int, target: int) -> None:
        """`source` and `target` are the descriptors of keys and screen. Both must be terminals."""
        self._source = source
        self._target = target
        self.attributes = termios.tcgetattr(source)
        """The attributes before `enter`. A driver that stops restores them."""
        self.on_screen = False
        """Whether the alternate screen is shown. A driver that stops sets it to False."""

    def enter(self) -> None:
        """Set raw keys and the alternate screen, and draw the first frame. Cursor shape and colors stay."""
        raw = termios.tcgetattr(self._source)
        raw[0] &= ~(termios.IXON | termios.IXOFF | termios.ICRNL | termios.INLCR | termios.IGNCR)
        raw[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
        raw[6][termios.VMIN] = 1
        # TCSANOW and not TCSAFLUSH, so that keys typed before are not lost.
        termios.tcsetattr(self._source, termios.TCSANOW, raw)
        self.on_screen = True
        columns, rows = os.get_terminal_size(self._target)
        self._write("\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J" + first_frame(columns, rows))

    def leave(self) -> None:
        """Restore the terminal. Never raises, because the terminal may be gone."""
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
    """Return the outline of the chat, in its place and in the terminal's own colors."""
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
