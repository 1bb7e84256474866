"""The Unix socket at which several ssh processes share one connection. It starts no process."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_LONGEST = 80
"""Bytes of the path: macOS takes 103, and ssh first adds 17 to the name."""


class MeetingPlace:
    """A path in a folder of its own, which only this user can open."""

    path = ""
    """Empty if there is no such path; then each ssh process needs a connection of its own."""

    def prepare(self) -> None:
        """Make the folder."""
        with suppress(OSError):
            self.path = str(Path(tempfile.mkdtemp(prefix="outrider-")) / "ssh")
        if len(os.fsencode(self.path)) > _LONGEST or "%" in self.path:  # ssh would replace %h and others
            self.remove()
            self.path = ""

    def remove(self) -> None:
        """Remove the folder, with the socket of an ssh process that was killed. May be called again."""
        if self.path:
            shutil.rmtree(Path(self.path).parent, ignore_errors=True)
