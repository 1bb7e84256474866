"""A table: columns as wide as they need, narrower on a narrow screen, with cells that wrap."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from rich.cells import cell_len

from tui.widgets.transcript import style_codes
from tui.widgets.transcript.blocks import Block
from tui.widgets.transcript.layout import wrap
from tui.widgets.transcript.rejected import RejectedText
from tui.widgets.transcript.styled_text import StyledText, joined

Align = Literal["left", "center", "right"]
Row = Sequence[StyledText]

_PADDING = 3
_NARROWEST = 4


class Table(Block):
    """A header row and body rows with the same number of cells; `columns` gives their alignment."""

    __slots__ = ("_columns", "_rows")

    def __init__(self, rows: Sequence[Row], columns: Sequence[Align], first: str, rest: str) -> None:
        super().__init__(next((cell for row in rows for cell in row if cell.places), rows[0][0]), first, rest)
        self._rows = rows
        self._columns = columns

    def grown(self, source: str, origins: Sequence[int], shown: int) -> Block | None:
        return None

    def _compose(self, width: int, rejected: RejectedText | None, span: tuple[int, int]) -> StyledText:
        rows = self._rows if rejected is None else self._woven(rejected, span)
        widths = fit([max(_natural(row[i]) for row in rows) for i in range(len(self._columns))], width)
        drawing = _Drawing()
        drawing.rule("┌┬┐", widths)
        for number, row in enumerate(rows):
            drawing.row(row, widths, self._columns)
            if number == 0 and len(rows) > 1:
                drawing.rule("├┼┤", widths)
        drawing.rule("└┴┘", widths, last=True)
        return drawing.done()

    def _wrap(self, width: int) -> array[int]:
        """Return one line for each drawn line: a table narrower than its borders is cropped, never
        wrapped."""
        starts, text = array("I", (0,)), self.shown.text
        while (newline := text.find("\n", starts[-1])) >= 0:
            starts.append(newline + 1)
        return starts

    def _woven(self, rejected: RejectedText, span: tuple[int, int]) -> list[list[StyledText]]:
        """Return the rows with the rejected text in the cells where it was rejected, or after them."""
        cells = [cell for row in self._rows for cell in row]
        begins = [(number, cell.places[0]) for number, cell in enumerate(cells) if cell.places]
        bounds = [span[0], *(place for _, place in begins[1:]), span[1]]
        for (number, _), ends in zip(begins, pairwise(bounds), strict=True):
            cells[number] = rejected.woven(cells[number], *ends)
        step = len(self._columns)
        return [cells[at : at + step] for at in range(0, len(cells), step)]


def fit(natural: Sequence[int], width: int) -> list[int]:
    """Return column widths in cells: `natural` if they fit in `width`; else the widest columns shrink
    first."""
    widths = [max(1, size) for size in natural]
    over = sum(widths) + _PADDING * len(widths) + 1 - width
    while over > 0:
        widest = max(widths)
        if widest <= _NARROWEST:
            break
        wide = [number for number, size in enumerate(widths) if size == widest]
        below = max((size for size in widths if size < widest), default=_NARROWEST)
        step = max(1, min(widest - max(below, _NARROWEST), over // len(wide)))
        for number in wide[: max(1, min(len(wide), over // step))]:
            widths[number] -= step
        over = sum(widths) + _PADDING * len(widths) + 1 - width
    return widths


def _natural(cell: StyledText) -> int:
    return max(cell_len(line) for line in cell.text.split("\n"))


class _Drawing:
    """The table as lines of text, with letters and box rules."""

    def __init__(self) -> None:
        self._parts: list[StyledText] = []
        self._place = array("I", (0,))
        """The place in the source of the last letter."""

    def rule(self, corners: str, widths: Sequence[int], last: bool = False) -> None:
        inner = corners[1].join("─" * (width + 2) for width in widths)
        self._box(f"{corners[0]}{inner}{corners[2]}" + ("" if last else "\n"))

    def row(self, cells: Row, widths: Sequence[int], columns: Sequence[Align]) -> None:
        cuts = [[*wrap(cell.text, width), len(cell.text)] for cell, width in zip(cells, widths, strict=True)]
        for line in range(max(len(cut) for cut in cuts) - 1):
            for cell, cut, width, align in zip(cells, cuts, widths, columns, strict=True):
                self._box("│ ")
                begin, end = (cut[line], cut[line + 1]) if line + 1 < len(cut) else (0, 0)
                self._cell(cell, begin, end, width, align)
                self._box(" ")
            self._box("│\n")

    def _cell(self, cell: StyledText, begin: int, end: int, width: int, align: Align) -> None:
        text = cell.text[begin:end].rstrip(" \n")
        end = begin + len(text)
        spare = max(0, width - cell_len(text))
        before = {"left": 0, "center": spare // 2, "right": spare}[align]
        self._box(" " * before)
        self._parts.append(cell.cut(begin, end))
        self._place = cell.places[begin:end][-1:] or self._place
        self._box(" " * (spare - before))

    def _box(self, text: str) -> None:
        look, size = bytes((style_codes.RULE,)), len(text)
        self._parts.append(StyledText(text, look * size, bytes(size), self._place * size))

    def done(self) -> StyledText:
        return joined(self._parts)


def cells_of(line: str) -> list[tuple[int, int]]:
    """Return begin and end of each cell of a table row, cut at the pipes without a backslash."""
    cuts = [-1]
    cuts += [at for at, char in enumerate(line) if char == "|" and (at == 0 or line[at - 1] != "\\")]
    cuts.append(len(line))
    spans = [(a + 1, b) for a, b in pairwise(cuts)]
    if spans and not line[slice(*spans[0])].strip():
        spans = spans[1:]
    if spans and not line[slice(*spans[-1])].strip():
        spans = spans[:-1]
    return spans


def cell_places(source: str, begin: int, end: int, content: str) -> array[int]:
    """Return the source offset of each character of a cell's `content`, which stands in source[begin:end]."""
    at = begin + len(source[begin:end]) - len(source[begin:end].lstrip())
    places = array("I")
    for char in content:
        if source.startswith("\\|", at) and char == "|":
            at += 1
        places.append(min(at, max(end - 1, begin)))
        at += 1
    return places
