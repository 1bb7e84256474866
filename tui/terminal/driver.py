"""Textual's driver on a terminal that is already entered: it draws over the first frame.

The thread that reads keys sleeps until one comes.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from codecs import getincrementaldecoder
from typing import Any, ClassVar

from textual._time import get_time
from textual._xterm_parser import XTermParser
from textual.app import ScreenStackError
from textual.drivers.linux_driver import LinuxDriver

from .handover import Terminal
from .keyboard import ALTERNATE_REPORTS, REPORTS, new_parser
from .lean import SYNC_BEGIN, SYNC_END, LeanOutput, fits

ALTERNATE_SCREEN = "\x1b[?1049h"
PATIENCE = 3.0
"""Seconds that keys wait for something to have the focus."""


def driver_for(terminal: Terminal) -> type[LinuxDriver]:
    """Return the driver class for `terminal`: Textual makes the driver, so the class holds the terminal."""
    return type("TerminalDriver", (FirstFrameDriver,), {"terminal": terminal})


class FirstFrameDriver(LinuxDriver):
    """The driver of `terminal`, which has been entered and shows the first frame."""

    terminal: ClassVar[Terminal]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._entered = True
        self._frame = ""
        self._continued = False
        """Whether a shell has let us go on since we were stopped."""
        self._wake: tuple[int, int] | None = None
        """A pipe; the thread that reads keys goes on when its far end is closed."""

    def write(self, data: str) -> None:
        if self._entered and data == ALTERNATE_SCREEN:
            self._entered = False  # a second one would clear the frame
            return
        if data == REPORTS and fits():
            data = ALTERNATE_REPORTS
        if data == SYNC_BEGIN or self._frame:
            self._frame += data
            if data != SYNC_END:
                return
            data, self._frame = self._frame, ""  # one write: each wakes the thread that writes
        super().write(data)

    def start_application_mode(self) -> None:
        self._wake = self._wake or os.pipe()
        super().start_application_mode()  # type: ignore[no-untyped-call]
        if isinstance(self._app, LeanOutput):
            self._app.forget_picture()
        self.attrs_before = self.terminal.attributes
        self.terminal.on_screen = True

    def _sigtstp_application(self, *arguments: Any) -> None:
        """Stop the job that we are part of: what started us too, such as `make`. Where no shell could
        bring it back, the system ignores that, and Textual's SIGSTOP would be the end of it."""
        app = self._app
        if not self._auto_restart or not isinstance(app, LeanOutput):
            super()._sigtstp_application(*arguments)
            return
        app.sleep()
        self.suspend_application_mode()
        self._must_signal_resume, self._continued = True, False
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        os.killpg(os.getpgrp(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.pthread_kill(threading.get_ident(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._sigtstp_application)
        if not self._continued:
            self.resume_application_mode()
            app.cannot_sleep()

    def _sigcont_application(self, *arguments: Any) -> None:
        self._continued = True
        if self._auto_restart and not self._must_signal_resume:
            self.suspend_application_mode()  # stopped without a word: the shell has had the terminal
        super()._sigcont_application(*arguments)

    def run_input_thread(self) -> None:
        # A key that arrives while nothing has the focus goes nowhere; in the terminal's buffer it waits.
        patience = time.monotonic() + PATIENCE
        while not (self._listens() or self.exit_event.is_set() or time.monotonic() > patience):
            time.sleep(0.004)
        self._read_keys()

    def _read_keys(self) -> None:
        """Read keys as Textual does, but without its ten looks per second for a key."""
        assert self._wake is not None
        parser, decode = new_parser(self._debug), getincrementaldecoder("utf-8")("replace").decode
        while not self.exit_event.is_set():
            ready, _, _ = select.select([self.fileno, self._wake[0]], [], [], patience_of(parser))
            if self.fileno in ready:
                if not (data := os.read(self.fileno, 4096)):
                    return
                for message in parser.feed(decode(data)):
                    self.process_message(message)
            for message in parser.tick():
                self.process_message(message)

    def disable_input(self) -> None:
        if self._wake is not None:
            os.close(self._wake[1])
        super().disable_input()
        if self._wake is not None:
            os.close(self._wake[0])
            self._wake = None

    def _listens(self) -> bool:
        try:
            return self._app.screen.focused is not None
        except ScreenStackError:
            return False

    def stop_application_mode(self) -> None:
        if self._frame:
            self.write(SYNC_END)
        super().stop_application_mode()
        self.terminal.on_screen = False


def patience_of(parser: XTermParser) -> float | None:
    """Return the seconds after which a lone Esc is the key, not the start of a sequence; None without Esc."""
    due = parser._timeout_time
    return None if due is None else max(0.0, due - get_time())
