"""Bytes in pieces of any size to whole lines of a bounded length. It does not know their meaning."""

from __future__ import annotations

from collections.abc import Iterator

from .. import protocol


class Lines:
    """The beginning of a line that is not complete yet."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """Bytes in a line, at most. The reader may change it between lines."""
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Return the lines that `data` completes. Raises `ProtocolError` for one that is too long."""
        *ends, rest = data.split(b"\n")
        for end in ends:
            line = bytes(self._rest + end)
            self._rest.clear()
            self._check(len(line), line)
            yield line
        self._rest += rest
        self._check(len(self._rest), self._rest)

    def _check(self, length: int, line: bytes | bytearray) -> None:
        if length > self.limit:
            raise protocol.ProtocolError(f"a line of more than {self.limit} bytes: {bytes(line[:40])!r}")
