"""One stretch of Markdown to blocks: headings, lists, quotes, code, tables, rules.

It reads whole top-level blocks and keeps nothing between calls; `incremental.py` chooses the stretches. HTML
and reference definitions are shown as they are written.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tui.widgets.transcript import style_codes
from tui.widgets.transcript.blocks import BAR, Block, Code, gap, rule
from tui.widgets.transcript.dialect import learn
from tui.widgets.transcript.inline import remember_ends, render
from tui.widgets.transcript.styled_text import EMPTY, Pen, StyledText, write_literal
from tui.widgets.transcript.table import Align, Table, cell_places, cells_of

MAX_NESTING: Final = 40
INLINE_LIMIT: Final = 8_192
"""Characters of one paragraph or cell; a longer one is shown as it is written."""
BRACKET_LIMIT: Final = 1_000
"""Opening brackets of one top-level block. With more, its text is shown as it is written, because each may
cost the parser a search for its end."""

BULLETS: Final = ("• ", "◦ ", "▪ ")
_TASKS: Final = ("[ ] ", "[x] ", "[X] ")


class Stretch:
    """A piece of a source with the offsets of its lines."""

    __slots__ = ("begin", "lines", "origins", "source")

    def __init__(self, source: str, origins: Sequence[int], begin: int, end: int) -> None:
        self.source = source
        self.origins = origins
        self.begin = begin
        self.lines = array("I", (begin,))
        while (newline := source.find("\n", self.lines[-1], end)) >= 0:
            self.lines.append(newline + 1)
        if self.lines[-1] != end:
            self.lines.append(end)

    def line(self, number: int) -> int:
        """The source offset at which a line of the stretch begins."""
        return self.lines[min(number, len(self.lines) - 1)]

    def places(self, number: int, text: str) -> list[int]:
        """Return the offset of each character of `text`, the end of that line after its containers' marks.

        The parser may have made leading spaces from a tab, so the offsets are counted back from the
        letters.
        """
        begin, letters = self.line(number), text.lstrip()
        at = self.source.rfind(letters, begin, self.line(number + 1)) if letters else begin
        at = at if at >= 0 else begin
        return [max(begin, place) for place in range(at - len(text) + len(letters), at)] + list(
            range(at, at + len(letters))
        )


def new_parser(unicode: bool = False) -> MarkdownIt:
    """Return a parser for `parse`; with `unicode`, it shows simple formulas in Unicode. Making one takes
    milliseconds."""
    parser = MarkdownIt("commonmark", {"maxNesting": MAX_NESTING}).enable(["table", "strikethrough"])
    return learn(remember_ends(parser.disable("reference")), unicode)


def parse(parser: MarkdownIt, text: str) -> list[Token]:
    """Return the block tokens. Inline text is parsed later, because it may be too long or not needed."""
    tokens: list[Token] = []
    parser.block.parse(text, parser, {}, tokens)
    return tokens


def top_level(tokens: Sequence[Token]) -> list[int]:
    """Return the indices at which top-level blocks begin."""
    return [
        number for number, token in enumerate(tokens) if token.level == 0 and token.nesting >= 0 and token.map
    ]


def row_of(token: Token) -> int:
    """Return the number of the line at which a block begins."""
    assert token.map is not None
    return token.map[0]


def too_deep(tokens: Sequence[Token]) -> bool:
    """Whether the parser may have left out a block because of its depth."""
    return any(token.level >= MAX_NESTING - 1 for token in tokens)


def build(parser: MarkdownIt, stretch: Stretch, tokens: Sequence[Token]) -> list[Block]:
    """Return the blocks of one top-level block's `tokens`, parsed from the stretch."""
    builder = _Builder(parser, stretch)
    builder.follow(tokens)
    return builder.blocks


class _List:
    __slots__ = ("number", "ordered", "width")

    def __init__(self, token: Token) -> None:
        self.ordered = token.type == "ordered_list_open"
        self.number = int(token.attrs.get("start", 1)) - 1
        self.width = 2


class _Builder:
    def __init__(self, parser: MarkdownIt, stretch: Stretch) -> None:
        self.blocks: list[Block] = []
        self._parser = parser
        self._stretch = stretch
        self._spaced = False
        self._containers: list[_List | None] = []  # None is a quote
        self._marker = ""
        self._gap_bars = ""
        self._brackets = 0

    def follow(self, tokens: Sequence[Token]) -> None:
        number = 0
        while number < len(tokens):
            token = tokens[number]
            if token.type == "table_open":
                end = next(i for i in range(number, len(tokens)) if tokens[i].type == "table_close")
                self._table(tokens[number:end])
                number = end
            else:
                self._one(token, tokens[number - 1] if number else None)
            number += 1

    def _one(self, token: Token, before: Token | None) -> None:
        kind = token.type
        if kind == "inline":
            self._paragraph(token, before)
        elif kind in ("fence", "code_block"):
            self._code(token)
        elif kind == "html_block":
            self._html(token)
        elif kind == "hr":
            self.blocks.append(rule(*self._prefixes()))
            self._space()
        elif kind == "heading_close" or (kind == "paragraph_close" and not token.hidden):
            self._space()
        elif kind == "list_item_open":
            self._item(token)
        elif kind in ("blockquote_open", "bullet_list_open", "ordered_list_open"):
            if self._marker:  # an item that begins with a list or a quote has its marker on a line of its own
                self._add(EMPTY)
            self._containers.append(None if kind == "blockquote_open" else _List(token))
        elif kind in ("blockquote_close", "bullet_list_close", "ordered_list_close"):
            self._containers.pop()
            if not any(self._containers):
                self._space()

    def _space(self) -> None:
        """Ask for a blank line before the next block."""
        self._spaced = True
        self._gap_bars = self._prefix(bars_only=True)

    def _prefix(self, bars_only: bool = False) -> str:
        parts = [BAR if item is None else "" if bars_only else " " * item.width for item in self._containers]
        return "".join(parts)

    def _item(self, token: Token) -> None:
        item = self._containers[-1]
        assert item is not None
        item.number += 1
        depth = sum(1 for other in self._containers if other is not None and not other.ordered)
        bullet = BULLETS[(depth - 1) % len(BULLETS)]
        self._marker = f"{item.number}{token.markup} " if item.ordered else bullet
        item.width = len(self._marker)

    def _prefixes(self) -> tuple[str, str]:
        """Return the prefix of the next block's first line and of its others, after the wanted blank line."""
        rest = self._prefix()
        if self._spaced:
            bars = self._prefix(bars_only=True)
            self.blocks.append(gap(min(bars, self._gap_bars, key=len)))
        first = rest[: len(rest) - len(self._marker)] + self._marker
        self._marker = ""
        self._spaced = False
        return first, rest

    def _add(self, body: StyledText) -> None:
        self.blocks.append(Block(body, *self._prefixes()))

    def _paragraph(self, token: Token, before: Token | None) -> None:
        look = 0
        if before is not None and before.type == "heading_open":
            look = style_codes.heading(int(before.tag[1]))
        places = self._places(token, before)
        body = self._inline(token.content, places, look)
        if self._marker and token.content[:4] in _TASKS:
            body = body.with_looks(bytes((style_codes.MARKER,)) * 3 + body.looks[3:])
        self._add(body)

    def _inline(self, content: str, places: array[int], look: int) -> StyledText:
        origins = self._stretch.origins
        self._brackets += content.count("[")
        if len(content) > INLINE_LIMIT or self._brackets > BRACKET_LIMIT:
            pen = Pen()
            write_literal(pen, content, look, places)
            return pen.done(origins)
        children: list[Token] = []
        self._parser.inline.parse(content, self._parser, {}, children)
        return render(children, content, places, origins, look)

    def _places(self, token: Token, before: Token | None) -> array[int]:
        """Return the source offset of each character of a paragraph's or heading's content."""
        stretch, number = self._stretch, row_of(token)
        places: array[int] = array("I")
        if before is not None and before.markup.startswith("#"):
            begin = stretch.line(number)
            hashes = stretch.source.find(before.markup, begin) + len(before.markup)
            at = stretch.source.find(token.content, hashes) if token.content else hashes
            return array("I", range(at, at + len(token.content)))
        for line in token.content.split("\n"):
            places.extend(stretch.places(number, line))
            places.append(min(stretch.line(number + 1) - 1, stretch.lines[-1] - 1))
            number += 1
        return places[: len(token.content)]

    def _code(self, token: Token) -> None:
        """Add code inside a container, or indented code; `incremental.py` divides a top-level fence
        itself."""
        language = token.info.split()[0] if token.info.strip() else ""
        self._lines(token.content, row_of(token) + (token.type == "fence"), style_codes.FENCE, language)

    def _html(self, token: Token) -> None:
        self._lines(token.content, row_of(token), style_codes.CODE, None)

    def _lines(self, content: str, number: int, look: int, language: str | None) -> None:
        """Add lines as they are written, except for the prefixes of their containers."""
        pen = Pen()
        lines = content.rstrip("\n").split("\n")
        for row, line in enumerate(lines, number):
            write_literal(pen, line, look, self._stretch.places(row, line))
            if row + 1 < number + len(lines):
                pen.stamp("\n", look, self._stretch.line(row + 1) - 1)
        body = pen.done(self._stretch.origins)
        first, rest = self._prefixes()
        self.blocks.append(
            Block(body, first, rest) if language is None else Code(body, first, rest, language)
        )
        self._space()

    def _table(self, tokens: Sequence[Token]) -> None:
        rows: list[list[StyledText]] = []
        columns: list[Align] = []
        spans: list[tuple[int, int]] = []
        base = 0
        for number, token in enumerate(tokens):
            if token.type == "tr_open":
                rows.append([])
                base = self._stretch.line(row_of(token))
                line = self._stretch.source[base : self._stretch.line(row_of(token) + 1)]
                spans = cells_of(line.rstrip("\n"))
            elif token.type in ("th_open", "td_open"):
                if token.type == "th_open":
                    columns.append(_align(token))
                column = len(rows[-1])
                begin, end = spans[column] if column < len(spans) else (0, 0)
                content = tokens[number + 1].content
                places = cell_places(self._stretch.source, base + begin, base + end, content)
                rows[-1].append(self._inline(content, places, style_codes.BOLD if len(rows) == 1 else 0))
        self.blocks.append(Table(rows, columns, *self._prefixes()))
        self._space()


def _align(token: Token) -> Align:
    style = str(token.attrs.get("style", ""))
    return "right" if "right" in style else "center" if "center" in style else "left"
