"""A growing source to blocks, piece by piece. A part that cannot change any more is settled and never read
again.

The blocks depend on the source alone, not on the pieces in which it grew. A block is settled when the first
line of a later one is complete. A fence continues in stretches of its own. A block that is too long, or
nested too deep, is shown as it is written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tui.widgets.transcript import style_codes
from tui.widgets.transcript.blocks import Block, Code, gap
from tui.widgets.transcript.dialect import Fences, holds_markdown
from tui.widgets.transcript.markdown import Stretch, build, parse, row_of, too_deep, top_level
from tui.widgets.transcript.styled_text import literal

WINDOW: Final = 16_384
"""Characters that are parsed at a time, and so the longest block that is read as Markdown."""
STRETCH: Final = 8_192
"""Characters of a fence, or of text shown as it is written, in one block ..."""
STRETCH_LINES: Final = 128
"""... or this many lines."""

_BLANK_LINE = re.compile(r"^[ \t]*\n", re.MULTILINE)
_OPENING = re.compile(r"(`{3,}|~{3,})[ \t]*([^\s`]*)")


class IncrementalMarkdown:
    """Reads one source that only grows into `blocks`, of which the first `settled` will never change."""

    def __init__(self, parser: MarkdownIt, blocks: list[Block]) -> None:
        self.settled = 0
        self._blocks = blocks
        self._parser = parser
        self._at = 0
        """The source offset at which the open blocks begin."""
        self._verbatim: _Verbatim | None = None

    def read(self, source: str, origins: Sequence[int]) -> None:
        """Read on after the source has grown; `origins` holds the origin of every character."""
        del self._blocks[self.settled :]
        while self._verbatim_step(source, origins) if self._verbatim else self._step(source, origins):
            pass

    def _step(self, source: str, origins: Sequence[int]) -> bool:
        """Settle the next part that can be settled. Returns False if there is none; the rest is open then."""
        end = min(len(source), self._at + WINDOW)
        full = end == self._at + WINDOW
        stretch = Stretch(source, origins, self._at, end)
        tokens = parse(self._parser, source[self._at : end])
        tops = top_level(tokens)
        if not tops:
            self._at = max(stretch.lines[-2], self._at + 1) if full else self._at
            return full
        keep = _first_unsettled(stretch, tokens, tops, full)
        if keep:
            self._build(stretch, tokens, tops[: keep + 1])
            self.settled = len(self._blocks)
            self._at = stretch.line(row_of(tokens[tops[keep]]))
            return True
        if _has_lines(stretch, tokens[tops[0]], 1) and (fence := _fence(stretch, tokens[tops[0]])):
            self._enter(fence, stretch.line(row_of(tokens[tops[0]]) + 1))
            return True
        if full:
            self._enter(_Verbatim(_BLANK_LINE, None), stretch.line(row_of(tokens[tops[0]])))
            return True
        self._build(stretch, tokens, [*tops, len(tokens)])
        return False

    def _build(self, stretch: Stretch, tokens: Sequence[Token], tops: Sequence[int]) -> None:
        """Add the blocks of the top-level blocks tops[0], tops[1], ... up to the last, which is left out."""
        for this, after in pairwise(tops):
            begin = stretch.line(row_of(tokens[this]))
            end = stretch.line(row_of(tokens[after])) if after < len(tokens) else stretch.lines[-1]
            block = tokens[this:after]
            self._space()
            if too_deep(block):
                self._blocks += _Verbatim(_BLANK_LINE, None).stretches(
                    stretch.source, stretch.origins, begin, end
                )
            elif fence := _fence(stretch, block[0]):
                begin = stretch.line(row_of(block[0]) + 1)
                closing = fence.end(stretch.source, begin, end)
                end = closing.start() if closing else end
                self._blocks += fence.stretches(stretch.source, stretch.origins, begin, end)
            else:
                self._blocks += build(self._parser, stretch, block)

    def _enter(self, verbatim: _Verbatim, at: int) -> None:
        self._space()
        self.settled = len(self._blocks)
        self._verbatim = verbatim
        self._at = at

    def _space(self) -> None:
        if self._blocks:
            self._blocks.append(gap(""))

    def _verbatim_step(self, source: str, origins: Sequence[int]) -> bool:
        """Do `_step` inside a fence, or inside a block that is too long to be read as Markdown."""
        verbatim = self._verbatim
        assert verbatim is not None
        ending = verbatim.end(source, self._at, len(source))
        end = ending.start() if ending else len(source)
        while (cut := _cut(source, self._at, end)) is not None:
            self._blocks.append(verbatim.block(source, origins, self._at, cut))
            verbatim.pass_by(source, self._at, cut)
            self._at = cut
        self.settled = len(self._blocks)
        self._blocks += verbatim.stretches(source, origins, self._at, end)
        if ending is None or not ending.group().endswith("\n"):
            return False
        self.settled = len(self._blocks)
        self._at = ending.end()
        self._verbatim = None
        return True


class _Verbatim:
    """Text shown as it is written, in stretches, until `ending` matches at the start of a line.

    `language` is the fence's, or None for text that is no code. `inner` knows the fences inside a fence of
    Markdown, and its end.
    """

    __slots__ = ("_ending", "_inner", "empty", "language")

    def __init__(self, ending: re.Pattern[str], language: str | None, inner: Fences | None = None) -> None:
        self._ending = ending
        self._inner = inner
        self.language = language
        self.empty = True

    def end(self, source: str, begin: int, end: int) -> re.Match[str] | None:
        """Return the end of the line in source[begin:end] that ends the text."""
        if self._inner is not None:
            return self._inner.end(source, begin, end)
        return self._ending.search(source, begin, end)

    def pass_by(self, source: str, begin: int, end: int) -> None:
        """Read no more of source[begin:end]."""
        self.empty = False
        if self._inner is not None:
            self._inner.pass_by(source, begin, end)

    def stretches(self, source: str, origins: Sequence[int], begin: int, end: int) -> list[Block]:
        """Return blocks for source[begin:end]; one empty block for an empty fence, so that it is visible."""
        blocks: list[Block] = []
        while (cut := _cut(source, begin, end)) is not None:
            blocks.append(self.block(source, origins, begin, cut))
            begin = cut
        if begin < end or (self.empty and not blocks):
            blocks.append(self.block(source, origins, begin, end))
        return blocks

    def block(self, source: str, origins: Sequence[int], begin: int, end: int) -> Block:
        whole = source.endswith("\n", begin, end)
        look = 0 if self.language is None else style_codes.FENCE
        body = literal(source, origins, begin, end - whole, look)
        goes_on = not whole and end < len(source) and source[end] != "\n"
        if self.language is None:
            return Block(body, continues=goes_on)
        return Code(body, "", "", self.language, goes_on)


def _cut(source: str, begin: int, end: int) -> int | None:
    """Return the end of the full stretch that starts at `begin`, or None if source[begin:end] does not fill
    one."""
    at = begin
    for _ in range(STRETCH_LINES):
        at = source.find("\n", at, min(end, begin + STRETCH)) + 1
        if not at:
            break
    if at:
        return at
    if end - begin < STRETCH:
        return None
    return source.rfind("\n", begin, begin + STRETCH) + 1 or begin + STRETCH


def _fence(stretch: Stretch, token: Token) -> _Verbatim | None:
    """Return the continuation of a top-level fence; None for another token, or for an indented fence."""
    opening = _OPENING.match(stretch.source, stretch.line(row_of(token))) if token.type == "fence" else None
    if opening is None:
        return None
    mark = token.markup
    ending = re.compile(rf"^ {{0,3}}{mark[0]}{{{len(mark)},}}[ \t]*(?:\n|\Z)", re.MULTILINE)
    return _Verbatim(ending, opening[2], Fences(mark) if holds_markdown(token.info) else None)


def _first_unsettled(stretch: Stretch, tokens: Sequence[Token], tops: Sequence[int], full: bool) -> int:
    """Return the first of `tops` that may still change: the last one that surely begins a block, or 0.

    Whether a line begins a block or continues the one before may depend on the whole line and, for tables, on
    the line after it.
    """
    last = len(tops) - 1
    while last and not _has_lines(stretch, tokens[tops[last]], 2) and not (full and last == 1):
        last -= 1
    return last


def _has_lines(stretch: Stretch, token: Token, count: int) -> bool:
    """Whether the stretch holds that many whole lines from the start of a block on."""
    row = row_of(token) + count
    return row < len(stretch.lines) and stretch.source[stretch.lines[row] - 1] == "\n"
