"""Splits the text of an answer into spans: thought, answer proper, tool call, and the marks of these.

The text is read as it comes. This module knows nothing of pieces and their origins. The spans cover the whole
text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Literal

from .marks import (
    ALSO_CLOSE,
    ANSWERS,
    ANSWERS_BEHIND_THOUGHTS,
    BODY,
    BORDERS,
    CALLS,
    HEADERS,
    MARKS,
    PHRASES,
    STRAY,
)

Kind = Literal["thought", "answer", "call", "edge", "mark", "turned"]
"""The kind of a span. "edge" is a mark around a tool call. "turned" is a closing mark without an opening one:
all text before it was a thought."""

Span = tuple[Kind, int]
"""The kind of a span and its number of characters."""

_THOUGHTS = MARKS | PHRASES
_CLOSINGS = frozenset(MARKS.values())
_AT_FIRST = (*_THOUGHTS, *_CLOSINGS, *ANSWERS, *HEADERS)
_BEHIND_A_THOUGHT = (*_THOUGHTS, *ANSWERS, *ANSWERS_BEHIND_THOUGHTS, *HEADERS[:2])
_IN_ANSWERS = (*STRAY, *CALLS, *_CLOSINGS)
_LONGEST_HEAD = 200
_FENCES = ("```", "~~~")
_FENCE = 3
"""Characters of a fence."""
_LONG = 200
"""Characters of an unfinished line; of a longer one only the beginning is kept."""
_CALL_BEGINS = re.compile(r"\s*[\[{<]|\n?[\w.:-]+\s*(?:[\[{<(>]|\n)")
_CALL_MAY_BEGIN = re.compile(r"\s*|\n?[\w.:-]{0,80}[^\S\n]*")
_RECIPIENT = re.compile(r"\bto=([^\s<]+)")


class SpanReader:
    """Reads the text of one answer and gives each span as soon as it is certain."""

    def __init__(self) -> None:
        self._held = ""
        self._state: Literal["start", "gap", "head", "preamble", "thought", "answer", "call"]
        self._state = "start"
        self._ends: tuple[str, ...] = ()
        """Marks that end the current thought, tool call or answer."""
        self._thought = self._answered = self._messages = False
        """Whether there was a thought; text of an answer; a harmony message."""
        self._final = False
        """Whether a message of the final channel has begun."""
        self._line = ""
        """The current line of the answer, without the text that is still held."""
        self._fenced = False
        self.callee = ""
        """The tool that the current call is for; empty if the text of the call names it."""

    @property
    def thinking(self) -> bool:
        return self._state == "thought"

    @property
    def waits(self) -> bool:
        """Whether it holds text whose kind is not certain yet."""
        return bool(self._held)

    def feed(self, text: str, *, last: bool = False) -> Iterator[Span]:
        """Add `text` and give the spans that are certain now. They follow those given before. With `last` all
        text is certain."""
        self._held += text
        while self._held:
            span = self._next(last)
            if span is None:
                return
            if span[0] == "answer":
                self._note(self._held[: span[1]])
            self._held = self._held[span[1] :]
            if span[1]:
                yield span

    def _next(self, last: bool) -> Span | None:
        match self._state:
            case "start" | "gap":
                return self._between(last)
            case "head":
                return self._read_head(last)
            case "answer":
                return self._answer(last)
            case "preamble":
                return self._preamble(last)
            case _:
                return self._inside(last)

    def _between(self, last: bool) -> Span | None:
        """Read the text before the answer: a mark, or the first text that cannot become one."""
        expected = _AT_FIRST if self._state == "start" else _BEHIND_A_THOUGHT
        bare = self._held.lstrip()
        blank = len(self._held) - len(bare)
        if mark := _begun(bare, expected):
            self._enter(mark)
            return "mark", blank + (0 if mark in HEADERS else len(mark))
        if not last and _may_become(bare, expected):
            return None
        was, self._state = self._state, "answer"
        return ("mark", blank) if was == "gap" else ("answer", 0)

    def _enter(self, mark: str) -> None:
        """Go on behind an opening `mark`."""
        if mark in HEADERS:
            self._state = "head"
        elif mark in _THOUGHTS:
            self._state, self._thought = "thought", True
            self._ends = (_THOUGHTS[mark], *ALSO_CLOSE.get(mark, ()))
        else:
            self._state = "gap"
            end = (ANSWERS | ANSWERS_BEHIND_THOUGHTS).get(mark)
            self._ends = (end,) if end else ()

    def _read_head(self, last: bool) -> Span | None:
        """Read the head of a harmony message, with any words in it."""
        at = self._held.find(BODY)
        if at < 0:
            if len(self._held) <= _LONGEST_HEAD and not last:
                return None
            if self._messages:
                return "mark", len(self._held)
            self._state = "answer"
            return "answer", 0
        head = self._held[:at]
        self._messages, self._ends = True, BORDERS
        to = _RECIPIENT.search(head)
        self.callee = to[1].removeprefix("functions.") if to and to[1] not in ("self", "user", "all") else ""
        if self.callee:
            self._state = "call"
        elif (to and to[1] == "self") or "<|channel|>analysis" in head:
            self._state, self._thought = "thought", True
        else:
            self._state = "preamble" if self._thought and "<|channel|>commentary" in head else "gap"
        if "<|channel|>final" in head and self._answered and not self._final:
            self._final = True
            return "turned", at + len(BODY)  # the text so far was a part of the thought
        self._final = self._final or "<|channel|>final" in head
        return "mark", at + len(BODY)

    def _preamble(self, last: bool) -> Span | None:
        """Read the text after a thought. It belongs to the thought if the final answer follows."""
        at, border = _first(self._held, BORDERS)
        if not border:
            return ("answer", len(self._held)) if last else None
        if not at:
            return self._end_message(border)
        body = self._held.find(BODY, at)
        if body < 0 and not last:
            return None
        return "thought" if "<|channel|>final" in self._held[at : max(body, at)] else "answer", at

    def _inside(self, last: bool) -> Span | None:
        """Read a thought or a tool call, up to the mark that ends it."""
        kind: Kind = "thought" if self._state == "thought" else "call"
        at, mark = _first(self._held, self._ends)
        if not mark:
            return _sure(kind, self._held, self._ends, last)
        if at:
            return kind, at
        if self._messages:
            return self._end_message(mark)
        self._state = "gap" if kind == "thought" else "answer"
        self._ends = ()
        return "mark" if kind == "thought" else "edge", len(mark)

    def _answer(self, last: bool) -> Span | None:
        marks = (*self._ends, *_IN_ANSWERS)
        line, fenced, begin = self._line, self._fenced, 0
        for found in any_of(marks).finditer(self._held):
            at, mark = found.start(), found[0]
            line, fenced = _followed(line, fenced, self._held[begin:at])
            begin = at
            if fenced or line.count("`") % 2:
                continue
            meant = self._is_meant(mark, at, line, last)
            if meant is None:
                return ("answer", at) if at else None
            if meant:
                return ("answer", at) if at else self._leave(mark)
        return _sure("answer", self._held, marks, last)

    def _is_meant(self, mark: str, at: int, line: str, last: bool) -> bool | None:
        """Whether `mark`, which follows `line`, is really a mark and not quoted text; None if uncertain."""
        behind = self._held[at + len(mark) :]
        if mark in CALLS:
            if mark.startswith("<|") or _CALL_BEGINS.match(behind):
                return True
            return None if not last and _CALL_MAY_BEGIN.fullmatch(behind) else False
        if mark in self._ends or mark in STRAY:
            return True
        if self._thought or not (self._answered or at):
            return False
        if not mark.startswith("</"):  # nobody writes that by hand
            return True
        if line.strip():
            return False
        return None if not behind and not last else behind[:1] in ("", "\n", "\r")

    def _leave(self, mark: str) -> Span:
        """Go on behind a `mark` inside the answer."""
        if mark in BORDERS and self._messages:
            return self._end_message(mark)
        if mark in CALLS:
            self._state, self._ends = "call", tuple(filter(None, (CALLS[mark],)))
            self.callee = ""
            return "edge", len(mark)
        if mark in _CLOSINGS and mark not in self._ends:
            self._state, self._thought = "gap", True
            return "turned", len(mark)
        return "mark", len(mark)

    def _end_message(self, border: str) -> Span:
        """Go on behind a harmony message that `border` ends. The next message may begin with `border`."""
        self._state = "head"
        return "mark", 0 if border in HEADERS else len(border)

    def _note(self, text: str) -> None:
        self._answered = self._answered or bool(text.strip())
        self._line, self._fenced = _followed(self._line, self._fenced, text)


def _begun(text: str, marks: Iterable[str]) -> str:
    """Return the longest of `marks` at the beginning of `text`, or an empty text."""
    return max((mark for mark in marks if text.startswith(mark)), key=len, default="")


def _may_become(text: str, marks: Iterable[str]) -> bool:
    return any(mark.startswith(text) for mark in marks)


def _first(text: str, marks: tuple[str, ...]) -> tuple[int, str]:
    """Return the position of the first of `marks` in `text`, and the longest mark that begins there."""
    found = any_of(marks).search(text)
    return (found.start(), found[0]) if found else (0, "")


@cache
def any_of(marks: tuple[str, ...]) -> re.Pattern[str]:
    """Return a pattern for each of `marks`, the longest first. Without marks it matches nothing."""
    longest_first = sorted(marks, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) if marks else r"(?!)")


def _sure(kind: Kind, text: str, marks: tuple[str, ...], last: bool) -> Span | None:
    """Return a span of `text` without an end that may become one of `marks`."""
    begins = {mark[0] for mark in marks if mark}
    longest = max(map(len, marks), default=0)
    kept = 0
    if not last:
        for at in range(max(0, len(text) - longest), len(text)):
            if text[at] in begins and _may_become(text[at:], marks):
                kept = len(text) - at
                break
    return (kind, len(text) - kept) if len(text) > kept else None


def _followed(line: str, fenced: bool, text: str) -> tuple[str, bool]:
    """Return the unfinished line after `text`, and whether it is inside a block of code."""
    first, *others = text.split("\n")
    line += first
    for other in others:
        fenced ^= line.lstrip().startswith(_FENCES)
        line = other
    return (line if len(line) < _LONG else _shortened(line)), fenced


def _shortened(line: str) -> str:
    """A line that begins like `line`, and in which code is open at the end if it is there."""
    begin = line.lstrip()[:_FENCE]
    return begin if (line.count("`") - begin.count("`")) % 2 == 0 else f"{begin} `"
