"""What a model thinks before it answers, told from the answer by the marks that models are trained to set.

A thought stands at the beginning of an answer. Marks may be control tokens, whose text is not seen otherwise:
vocabularies give these as text too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .pieces import Piece, said, take
from .terms import Origin

MARKS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "<|channel|>analysis<|message|>": "<|start|>assistant<|channel|>final<|message|>",
}
"""What opens a thought, and what closes it."""

SEEN = frozenset((*MARKS, *MARKS.values(), "<|channel|>", "<|message|>", "<|start|>"))
"""Texts of control tokens that marks are made of."""


class Part(NamedTuple):
    """A piece of text, and whether it belongs to the thought."""

    thought: bool
    text: str
    origin: int


class Thoughts:
    """One answer's text as it comes, cut where the thought ends. The marks themselves are left out."""

    def __init__(self) -> None:
        self._held: list[Piece] = []
        self._closing = ""
        self._began = self._ended = False
        self._gap = False

    @property
    def thinking(self) -> bool:
        return bool(self._closing) and not self._ended

    def feed(self, pieces: Iterable[Piece]) -> list[Part]:
        """More pieces; what has become certain of them."""
        self._held += pieces
        if not self._began:
            self._begin()
        parts: list[Part] = []
        if self.thinking:
            parts += self._think()
        if self._began and not self.thinking:
            parts += self._answer()
        return parts

    def end(self) -> list[Part]:
        """Nothing more is to come: what was held back."""
        self._began = True
        return [*self._release(self._length, self.thinking)]

    def _begin(self) -> None:
        """Find out whether it is a thought that comes; decide nothing while a mark may still become whole."""
        text = self._text
        bare = text.lstrip()
        opening = next((mark for mark in MARKS if bare.startswith(mark)), None)
        if opening:
            self._drop(len(text) - len(bare) + len(opening))
            self._closing = MARKS[opening]
        self._began = bool(opening) or not any(mark.startswith(bare) for mark in MARKS)

    def _think(self) -> Iterator[Part]:
        text = self._text
        at = text.find(self._closing)
        if at < 0:
            lengths = range(min(len(text), len(self._closing) - 1), 0, -1)
            kept = next((length for length in lengths if self._closing.startswith(text[-length:])), 0)
            yield from self._release(len(text) - kept, thought=True)
            return
        yield from self._release(at, thought=True)
        self._drop(len(self._closing))
        self._ended = self._gap = True

    def _answer(self) -> Iterator[Part]:
        if self._gap:
            text = self._text
            bare = text.lstrip()
            self._drop(len(text) - len(bare))
            self._gap = not bare
        yield from self._release(self._length, thought=False)

    @property
    def _text(self) -> str:
        return said(self._held)

    @property
    def _length(self) -> int:
        return len(self._text)

    def _release(self, length: int, thought: bool) -> Iterator[Part]:
        return (Part(thought, *piece) for piece in take(self._held, length) if piece[0])

    def _drop(self, length: int) -> None:
        for _ in self._release(length, thought=False):
            pass


def without_thought(text: str) -> str:
    """The answer alone."""
    thoughts = Thoughts()
    parts = [*thoughts.feed([(text, Origin.PLAIN)]), *thoughts.end()]
    return "".join(part.text for part in parts if not part.thought)


def opened_by(text: str) -> str:
    """The mark with which `text` ends, so that what follows is a thought; empty for none."""
    bare = text.rstrip()
    return next((mark for mark in MARKS if bare.endswith(mark)), "")
