"""Separates the thought of a model and its tool calls from the answer.

The stored text is the model's own, with all its marks. `Thoughts` turns it into the text that is shown and
copied, `apart` into the text that the model gets in the next prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from .marks import ANALYSIS, MARKS, PHRASES
from .pieces import Piece, said, take
from .spans import Kind, SpanReader
from .terms import Origin

_LONGEST_CALL = 160
"""Characters of a call that are shown."""


class Part(NamedTuple):
    """A piece of text, and whether it belongs to the thought."""

    thought: bool
    text: str
    origin: int


TURNED: Final = Part(True, "", -1)
"""A closing mark came without an opening one: all parts before this one belong to the thought."""


class Thoughts:
    """Reads one answer as it comes, and gives the thought and the answer. Each tool call is one line.

    The marks are left out.
    """

    def __init__(self) -> None:
        self._reading = SpanReader()
        self._held: list[Piece] = []
        self._call: _Call | None = None
        self._called = self._line_open = False
        """Whether a tool call came last; whether the answer has an unfinished line."""
        self._thought = self._apart = False
        """Whether there was a thought; whether text of another kind followed it."""

    @property
    def thinking(self) -> bool:
        return self._reading.thinking

    def feed(self, pieces: Iterable[Piece]) -> list[Part]:
        """Add pieces and return the parts that are certain now."""
        pieces = list(pieces)
        self._held += pieces
        return [*self._parts(said(pieces), last=False)]

    def end(self) -> list[Part]:
        """Return the parts that were held back: the text is complete."""
        return [*self._parts("", last=True), *self._end_call()]

    def _parts(self, text: str, last: bool) -> Iterator[Part]:
        for kind, length in self._reading.feed(text, last=last):
            yield from self._read(kind, [piece for piece in take(self._held, length) if piece[0]])
        if not self._reading.waits:  # only rejected text can be left
            left: Kind = "thought" if self.thinking else "call" if self._call else "answer"
            yield from self._read(left, take(self._held, 0))

    def _read(self, kind: Kind, pieces: list[Piece]) -> Iterator[Part]:
        if kind == "call":
            if self._call is None and said(pieces).strip():
                self._call = _Call()
                yield from self._call.begin(self._reading.callee, apart=self._line_open or self._called)
            if self._call:
                yield from self._call.add(pieces)
            return
        yield from self._end_call()
        if kind == "thought":
            if said(pieces):
                if self._apart:
                    yield Part(True, "\n\n", Origin.PLAIN)
                self._thought, self._apart = True, False
            yield from (Part(True, *piece) for piece in pieces)
        else:
            self._apart = self._thought
        if kind == "turned":
            yield TURNED
        elif kind == "answer":
            yield from self._answer(pieces)

    def _answer(self, pieces: list[Piece]) -> Iterator[Part]:
        if self._called:
            pieces = list(_without_blank(pieces))
            if said(pieces):
                yield Part(False, "\n\n", Origin.PLAIN)
                self._called = False
        if text := said(pieces):
            self._line_open = not text.endswith("\n")
        yield from (Part(False, *piece) for piece in pieces)

    def _end_call(self) -> Iterator[Part]:
        if self._call:
            yield from self._call.end()
            self._call, self._called = None, True


class _Call:
    """One tool call: a line of code without line breaks, cut if it grows long."""

    def __init__(self) -> None:
        self._room = _LONGEST_CALL
        self._blank = True

    def begin(self, callee: str, *, apart: bool) -> Iterator[Part]:
        """`callee` is empty if the text of the call names it. `apart`: text stands before the call."""
        lead = "\n\n" if apart else ""
        yield Part(False, f"{lead}Tool call: `` {callee}{' ' if callee else ''}", Origin.PLAIN)

    def add(self, pieces: Iterable[Piece]) -> Iterator[Part]:
        for text, origin in pieces:
            if origin == Origin.REJECTED or not self._room:
                continue
            shown = re.sub(r"\s+", " ", text.replace("`", "'"))
            shown = shown[1:] if self._blank and shown[:1] == " " else shown
            if len(shown) > self._room:
                shown = shown[: self._room].rstrip() + " …"
                self._room = len(shown)
            self._room -= len(shown)
            if shown:
                self._blank = shown[-1] == " "
                yield Part(False, shown, origin)

    def end(self) -> Iterator[Part]:
        yield Part(False, "``" if self._blank else " ``", Origin.PLAIN)


def _without_blank(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Give `pieces` without the space at the beginning of their text."""
    begun = False
    for text, origin in pieces:
        bare = text if begun or origin == Origin.REJECTED else text.lstrip()
        begun = begun or (origin != Origin.REJECTED and bool(bare))
        if bare:
            yield bare, origin


def without_thought(text: str) -> str:
    """Return the answer without its thought."""
    thoughts = Thoughts()
    parts = [*thoughts.feed([(text, Origin.PLAIN)]), *thoughts.end()]
    if TURNED in parts:
        parts = parts[parts.index(TURNED) :]
    return "".join(part.text for part in parts if not part.thought)


def apart(text: str) -> tuple[str, str]:
    """Return the thought and the answer, each as the model wrote it. Tool calls keep their marks."""
    thoughts, answer, at, thinking = "", "", 0, False
    for kind, length in SpanReader().feed(text, last=True):
        piece, at = text[at : at + length], at + length
        if kind == "turned":
            thoughts, answer = thoughts + answer, ""
        elif kind == "thought":
            thoughts += piece if thinking or not thoughts else "\n\n" + piece
        elif kind != "mark":
            answer += piece
        thinking = kind == "thought"
    return thoughts.strip(), answer


def opened_by(text: str) -> str:
    """Return the opening mark of a thought at the end of `text`, or an empty text."""
    bare = text.rstrip()
    return next((mark for mark in (*MARKS, *PHRASES, ANALYSIS) if bare.endswith(mark)), "")
