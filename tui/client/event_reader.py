"""The bytes of an engine as events: it skips the text before the greeting, and limits the size of a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .. import protocol

if TYPE_CHECKING:
    from ..protocol import Event

NOISE = 64 * 1024
"""Bytes that a login shell may print before the engine's first line, at most."""

_HELLO = re.compile(rb'\{"type": ?"hello"')


class EventReader:
    """The events of one engine, its `Hello` first."""

    def __init__(self) -> None:
        self._lines = protocol.Lines(NOISE)
        self._greeted = False

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield the events that `data` completes. Raises `ProtocolError`."""
        for line in self._lines.feed(data):
            if self._greeted:
                yield protocol.decode_event(line)
            elif found := _HELLO.search(line):
                hello = protocol.decode_event(line[found.start() :])
                self._greeted, self._lines.limit = True, protocol.MAX_LINE
                yield hello
            else:
                self._lines.limit -= len(line) + 1
