"""Textual's driver on a terminal that is already entered: it draws over the first frame."""

from __future__ import annotations

import time
from typing import Any

from textual.app import ScreenStackError
from textual.drivers.linux_driver import LinuxDriver

from .handover import Terminal
from .lean import SYNC_BEGIN, SYNC_END, LeanOutput

ALTERNATE_SCREEN = "\x1b[?1049h"
PATIENCE = 3.0
"""Seconds that keys wait for something to have the focus."""


def driver_for(terminal: Terminal) -> type[LinuxDriver]:
    """The driver class for `terminal`, which has been entered."""

    class FirstFrameDriver(LinuxDriver):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._entered = True
            self._frame = ""

        def write(self, data: str) -> None:
            if self._entered and data == ALTERNATE_SCREEN:
                self._entered = False  # a second one would clear the frame
                return
            if data == SYNC_BEGIN or self._frame:
                self._frame += data
                if data != SYNC_END:
                    return
                data, self._frame = self._frame, ""  # one write: each wakes the thread that writes
            super().write(data)

        def start_application_mode(self) -> None:
            super().start_application_mode()  # type: ignore[no-untyped-call]
            if isinstance(self._app, LeanOutput):
                self._app.forget_picture()
            self.attrs_before = terminal.attributes
            terminal.on_screen = True

        def run_input_thread(self) -> None:
            # A key that arrives while nothing has the focus goes nowhere; in the terminal's buffer it waits.
            patience = time.monotonic() + PATIENCE
            while not (self._listens() or self.exit_event.is_set() or time.monotonic() > patience):
                time.sleep(0.004)
            super().run_input_thread()

        def _listens(self) -> bool:
            try:
                return self._app.screen.focused is not None
            except ScreenStackError:
                return False

        def stop_application_mode(self) -> None:
            if self._frame:
                self.write(SYNC_END)
            super().stop_application_mode()
            terminal.on_screen = False

    return FirstFrameDriver
