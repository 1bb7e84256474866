"""A stream of tokens to text that can be shown as it comes: whole characters, and no stop string.

Works on bytes, so it makes no difference where tokens cut a character or a stop string. It chooses
nothing and knows no model: tokens come with their origin and go out as text with the same origin.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ..protocol import Origin
from ..protocol.pieces import said, take


class Piece(NamedTuple):
    """Text of one token, or what of it can be shown at once."""

    text: str
    origin: Origin


class TextStream:
    """The text of one answer. Feed it every token in order; it returns what has become certain.

    Held back are the bytes of an incomplete character, and text that may still become a stop string. A
    character takes the origin of the token that brings its last byte. The result does not depend on how
    bytes are cut into tokens: the stop string that is complete first ends the text, and of several that
    end together the one that begins first.
    """

    def __init__(self, piece: Callable[[int], bytes], stop: Sequence[str] = ()) -> None:
        """`piece` gives the bytes of a token. Empty stop strings are ignored."""
        self._piece = piece
        self._stop = tuple(text for text in stop if text)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held: list[tuple[str, int]] = []
        self._origin = Origin.PLAIN
        self.stopped = False
        """Whether a stop string has ended the text. No token may follow."""

    def feed(self, token: int, origin: Origin) -> list[Piece]:
        """The next token of the answer. Raises IndexError for one outside the vocabulary."""
        self._origin = origin
        return self._add(self._decoder.decode(self._piece(token)))

    def refused(self, tokens: Iterable[int]) -> list[Piece]:
        """Drafted tokens that are not part of the answer, shown where they would have stood."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.setstate(self._decoder.getstate())
        for token in tokens:
            self._hold(decoder.decode(self._piece(token)), Origin.REFUSED)
        if decoder.getstate() != self._decoder.getstate():
            self._hold(decoder.decode(b"", final=True), Origin.REFUSED)
        return self._release(0)

    def flush(self) -> list[Piece]:
        """The answer is over: everything that was held back."""
        self._hold(self._decoder.decode(b"", final=True), self._origin)
        return self._release(len(self._answer_text()))

    def _add(self, text: str) -> list[Piece]:
        if not text:
            return []
        self._hold(text, self._origin)
        held = self._answer_text()
        ends = [(at + len(stop), at) for stop in self._stop if (at := held.find(stop)) >= 0]
        if not ends:
            return self._release(len(held) - self._undecided(held))
        self.stopped = True
        released = self._release(min(ends)[1])
        self._held.clear()
        self._decoder.reset()
        return released

    def _undecided(self, held: str) -> int:
        """Length of the longest end of `held` with which a stop string may begin."""
        longest = min(len(held), max(map(len, self._stop), default=1) - 1)
        for length in range(longest, 0, -1):
            if any(stop.startswith(held[-length:]) for stop in self._stop):
                return length
        return 0

    def _hold(self, text: str, origin: Origin) -> None:
        if text:
            self._held.append((text, origin))

    def _answer_text(self) -> str:
        return said(self._held)

    def _release(self, length: int) -> list[Piece]:
        """The first `length` held characters of the answer, with the refused pieces before the next one."""
        return [Piece(text, Origin(origin)) for text, origin in take(self._held, length)]
