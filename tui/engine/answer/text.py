"""Turns a stream of tokens into text that can be shown at once: whole characters, without stop strings.

It works on bytes, so a token may end inside a character or a stop string. It chooses nothing and knows no
model. Tokens come with their origin and leave as text with the same origin.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from ...protocol import Origin
from ...protocol.marks import is_part_of_a_mark
from ...protocol.pieces import said, take
from ...protocol.spans import SpanReader
from ..backends import Vocabulary

_NOTHING = "\ufdd0"
"""A noncharacter. No stop string contains it."""


class Piece(NamedTuple):
    """Text of one token, or the part of it that can be shown now."""

    text: str
    origin: Origin


def readable(vocabulary: Vocabulary, stop: Sequence[str] = ()) -> Callable[[int], bytes]:
    """Return a function that gives the bytes of a token in an answer.

    Control tokens that form marks appear by name, so that thoughts can be told from answers. So do those that
    a stop string names, so that it is found. Any other control token becomes a line break. A token that ends
    an answer gives nothing, unless a stop string names it.
    """

    def bytes_of(token: int) -> bytes:
        data = vocabulary.piece(token)
        if token not in vocabulary.control_tokens and token not in vocabulary.end_tokens:
            return data
        name = data.decode("utf-8", "replace")
        if any(name in text for text in stop):
            return data
        if token in vocabulary.end_tokens:
            return b""
        return data if is_part_of_a_mark(name) else b"\n"

    return cache(bytes_of)


class TextStream:
    """The text of one answer. Feed every token in order; it returns the text that is certain.

    It holds back the bytes of an incomplete character, and text that may become a stop string. A character
    has the origin of the token with its last byte. The result does not depend on the cuts between tokens: the
    stop string that is complete first ends the text, and of several that end together, the one that begins
    first.
    """

    def __init__(
        self, piece: Callable[[int], bytes], stop: Sequence[str] = (), everywhere: Sequence[str] = (),
        opening: str = "", spaced: bool = False,
    ) -> None:  # fmt: skip
        """`piece` gives the bytes of a token. Empty stop strings are ignored.

        `stop` ends an answer, but not a thought before it; `everywhere` ends both. `opening` is the text
        before the first token. `spaced`: the tokenizer puts a space before a text, which the model did not
        write.
        """
        self._piece = piece
        self._stop = tuple(text for text in stop if text)
        self._everywhere = tuple(text for text in everywhere if text)
        self._spaced = spaced
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held: list[tuple[str, int]] = []
        self._origin = Origin.PLAIN
        self._reading = SpanReader()
        self._answer = ""
        """The held text whose kind is known. Text outside an answer stands as `_NOTHING`."""
        self._read(opening)
        self._answer = ""
        self.stopped = False
        """Whether a stop string has ended the text. No token may follow."""

    def feed(self, token: int, origin: Origin) -> list[Piece]:
        """Add the next token of the answer. Raises IndexError for one outside the vocabulary."""
        self._origin = origin
        data = self._piece(token)
        if data and self._spaced:
            data, self._spaced = data.removeprefix(b" "), False
        return self._add(self._decoder.decode(data))

    def rejected(self, tokens: Iterable[int]) -> list[Piece]:
        """Add rejected tokens, to be shown where they would have stood."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.setstate(self._decoder.getstate())
        for token in tokens:
            self._hold(decoder.decode(self._piece(token)), Origin.REJECTED)
        if decoder.getstate() != self._decoder.getstate():
            self._hold(decoder.decode(b"", final=True), Origin.REJECTED)
        return self._release(0)

    def flush(self) -> list[Piece]:
        """End the answer and return all text that was held back."""
        return self._add(self._decoder.decode(b"", final=True), last=True)

    def _add(self, text: str, last: bool = False) -> list[Piece]:
        if not text and not last:
            return []
        self._hold(text, self._origin)
        self._read(text, last)
        held = said(self._held)
        found = [*_found(self._everywhere, held), *_found(self._stop, self._answer)]
        if found:
            self.stopped = True
            released = self._release(min(found)[1])
            self._held.clear()
            self._decoder.reset()
            return released
        certain = len(held)
        if not last:
            certain -= _undecided(self._everywhere, held)
            if self._stop:
                certain = min(certain, len(self._answer) - _undecided(self._stop, self._answer))
        self._answer = self._answer[certain:]
        return self._release(certain)

    def _read(self, text: str, last: bool = False) -> None:
        """Find the parts of the text that are an answer. Only there can a stop string stand."""
        if not self._stop:
            return
        unread = said(self._held)[len(self._answer) :] or text
        for kind, length in self._reading.feed(text, last=last):
            span, unread = unread[:length], unread[length:]
            self._answer += span if kind in ("answer", "call") else _NOTHING * length

    def _hold(self, text: str, origin: Origin) -> None:
        if text:
            self._held.append((text, origin))

    def _release(self, length: int) -> list[Piece]:
        """Return the first `length` held characters, with the rejected pieces before the next one."""
        return [Piece(text, Origin(origin)) for text, origin in take(self._held, length)]


def _found(stop: Iterable[str], text: str) -> Iterator[tuple[int, int]]:
    """Yield (end, start) of each of `stop` that occurs in `text`."""
    return ((at + len(each), at) for each in stop if (at := text.find(each)) >= 0)


def _undecided(stop: Sequence[str], text: str) -> int:
    """Return the length of the longest end of `text` that may be the start of one of `stop`."""
    longest = min(len(text), max(map(len, stop), default=1) - 1)
    lengths = range(longest, 0, -1)
    return next((n for n in lengths if any(each.startswith(text[-n:]) for each in stop)), 0)
