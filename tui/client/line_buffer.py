"""Bytes in pieces of any size -> whole lines of a bounded length. It knows nothing of what they say."""

from __future__ import annotations

from collections.abc import Iterator

from .. import protocol


class Lines:
    """What has come so far of a line."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """Most bytes in a line; the reader may change it between lines."""
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that `data` completes. Raises `ProtocolError` for one that is too long."""
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
