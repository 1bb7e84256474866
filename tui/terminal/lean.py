"""Writes only the changed cells to the terminal, in as few bytes as possible.

Textual writes whole lines, and a whole pane whenever a line scrolls. Over ssh that is a thousand bytes for a
token. This module keeps a copy of the screen's cells. An update becomes runs of changed cells, with cursor
moves, color changes and erasures. If most lines only moved, the terminal scrolls them itself.

It depends on the private method `App._display` of one Textual version, `WRITTEN_FOR`. With any other version,
or when it is switched off, Textual writes in its own way.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import textual
from rich.cells import cell_len, get_character_cell_size
from rich.color import ColorSystem
from rich.console import RenderableType
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.app import App
from textual.screen import Screen
from textual.strip import Strip

from ..clean import clean_line, has_controls

WRITTEN_FOR: Final = "8.2.8"
"""The only Textual version whose private parts this module and its neighbors use."""

Cell = tuple[str, str]
"""Character of one cell and the parameters of its style. After a wide character: "" in the same style."""

_UNKNOWN: Final[Cell] = ("", "?")
_BLANK: Final[Cell] = (" ", "")
_LETTERS_ONLY: Final = frozenset(("1", "2", "3"))
"""Bold, dim and italic. They are invisible on a cell without a letter."""
_NEAR: Final = 5
"""Cells. A shorter gap of unchanged cells is written again, because a cursor move takes more bytes."""
_TAIL: Final = 8
"""Blank cells from which erasing takes fewer bytes than writing."""
_MOVED: Final = 6
"""Changed lines from which a check for moved lines is worth its time."""
_MOVES: Final = (*range(1, 11), -1, -2, -3)
"""Distances in lines to check. A growing answer moves lines up, several at once."""
_TORN: Final = 200
"""Changed cells from which a half-drawn frame would be visible."""
_SURE: Final = "[ -~\u2500-\u259f\u2013\u2026\u25cf\u00b7\u00d7]*"
"""Characters that every terminal shows one cell wide. After any other, the cursor is placed anew."""
SYNC_BEGIN, SYNC_END = "\x1b[?2026h", "\x1b[?2026l"


@cache
def fits() -> bool:
    """Return whether this is the Textual version that this module is made for."""
    if Path(textual.__path__[0]).with_name(f"textual-{WRITTEN_FOR}.dist-info").is_dir():
        return True
    return textual.__version__ == WRITTEN_FOR  # reads the package's metadata, which takes milliseconds


class Picture:
    """The cells of the terminal, its cursor and its style. An unknown cell is `_UNKNOWN`."""

    def __init__(self, width: int, height: int, *, erases: bool) -> None:
        """`erases` tells whether the terminal erases in the background color of the current style."""
        self.width, self.height = width, height
        self.rows: list[list[Cell]] = [[_UNKNOWN] * width for _ in range(height)]
        self._erases = erases
        self._out: list[str] = []
        self._at: tuple[int, int] | None = None
        self._pen: str | None = None
        self._written = 0

    def known(self, row: int) -> list[Cell]:
        """Return a copy of a line. Its unknown cells become blank ones to be written."""
        return [_BLANK if cell is _UNKNOWN else cell for cell in self.rows[row]]

    def update(self, lines: dict[int, list[Cell]], cursor: tuple[int, int], *, sync: bool) -> str:
        """Return the bytes that make the terminal show `lines`, by row, and put its cursor at (row, column).

        With `sync`, the terminal is asked to show a large frame at once.
        """
        self._out, self._written = [], 0
        if len(lines) >= _MOVED:
            self._scroll(lines)
        for row in sorted(lines):
            self._line(row, lines[row])
        if not self._out:
            return ""
        self._move(*cursor)
        text = "".join(self._out)
        return f"{SYNC_BEGIN}{text}{SYNC_END}" if sync and self._written > _TORN else text

    # Moved lines

    def _scroll(self, lines: dict[int, list[Cell]]) -> None:
        """Let the terminal scroll lines that only moved, if that saves much writing."""
        changed = [row for row in lines if lines[row] != self.rows[row]]
        if len(changed) < _MOVED:
            return
        top, bottom = min(changed), max(changed)
        stay = sum(
            _differences(lines.get(row, self.rows[row]), self.rows[row]) for row in range(top, bottom + 1)
        )
        costs = {
            by: sum(
                _differences(lines.get(row, self.rows[row]), self.rows[row + by])
                if top <= row + by <= bottom
                else self.width
                for row in range(top, bottom + 1)
            )
            for by in _MOVES
            if abs(by) <= bottom - top
        }
        by = min(costs, key=lambda each: costs[each])
        if costs[by] + 2 * self.width > stay:
            return
        for row in range(top, bottom + 1):
            lines.setdefault(row, self.known(row))  # lines that should not move are written again
        # Some terminals give new lines the current background, others the default. After this both are equal.
        self._ink("")
        if by > 0:
            self._out.append(f"\x1b[{top + 1};{bottom + 1}r\x1b[{bottom + 1}H" + "\n" * by + "\x1b[r")
            self.rows[top : bottom + 1] = self.rows[top + by : bottom + 1] + self._blanks(by)
        else:
            self._out.append(f"\x1b[{top + 1};{bottom + 1}r\x1b[{top + 1}H" + "\x1bM" * -by + "\x1b[r")
            self.rows[top : bottom + 1] = self._blanks(-by) + self.rows[top : bottom + 1 + by]
        self._at = None

    def _blanks(self, count: int) -> list[list[Cell]]:
        return [[_BLANK] * self.width for _ in range(count)]

    # Cells

    def _line(self, row: int, cells: list[Cell]) -> None:
        """Write the changed cells of a line."""
        old = self.rows[row]
        if old == cells:
            return
        column = 0
        while column < self.width:
            if old[column] == cells[column]:
                column += 1
                continue
            end = self._end_of_run(old, cells, column)
            while column > 0 and cells[column][0] == "":
                column -= 1  # a wide character is written from its first cell
            self._run(row, column, cells, end)
            column = end
        self.rows[row] = cells

    def _end_of_run(self, old: Sequence[Cell], new: Sequence[Cell], begin: int) -> int:
        """Return the end of the run of changed cells at `begin`; small gaps belong to it."""
        end = begin + 1
        for column in range(begin + 1, self.width):
            if column - end >= _NEAR:
                break
            if old[column] != new[column]:
                end = column + 1
        while end < self.width and new[end][0] == "":
            end += 1
        return end

    def _run(self, row: int, begin: int, cells: Sequence[Cell], end: int) -> None:
        self._move(row, begin)
        self._written += end - begin
        column = begin
        while column < end:
            style = self._style_for(cells[column])
            last = column
            while last < end and _looks(cells[last], style):
                last += 1
            text = "".join(cell for cell, _ in cells[column:last])
            self._ink(style)
            shown = text.rstrip(" ")
            blank = len(text) - len(shown)
            if blank > _TAIL and self._may_erase(style):
                self._out.append(shown)
                self._out.append("\x1b[K" if last == self.width else f"\x1b[{blank}X")
                self._at = (row, last - blank) if re.fullmatch(_SURE, shown) else None
            else:
                self._out.append(text)
                self._at = (row, last) if re.fullmatch(_SURE, text) and last < self.width else None
            if last < end:
                self._move(row, last)
            column = last

    def _style_for(self, cell: Cell) -> str:
        """Return the style for a cell: the current one, if that makes no visible difference."""
        return self._pen if self._pen is not None and _looks(cell, self._pen) else cell[1]

    def _may_erase(self, style: str) -> bool:
        attributes, _, back = _parsed(style)
        return attributes <= _LETTERS_ONLY and (self._erases or not back)

    def _move(self, row: int, column: int) -> None:
        if self._at == (row, column):
            return
        if self._at and self._at[0] == row and column > self._at[1]:
            self._out.append(f"\x1b[{_count(column - self._at[1])}C")
        elif column:
            self._out.append(f"\x1b[{row + 1};{column + 1}H")
        else:
            self._out.append(f"\x1b[{row + 1}H" if row else "\x1b[H")
        self._at = (row, column)

    def _ink(self, style: str) -> None:
        if style != self._pen:
            self._out.append(_change(self._pen, style))
            self._pen = style


def _count(number: int) -> str:
    return "" if number == 1 else str(number)


def _differences(one: Sequence[Cell], other: Sequence[Cell]) -> int:
    return 0 if one == other else sum(a != b for a, b in zip(one, other, strict=True))


def cells_of(strips: Iterable[Strip], colors: ColorSystem) -> list[Cell]:
    """Return the cells of strips that stand side by side."""
    cells: list[Cell] = []
    for strip in strips:
        for text, style, control in strip:
            if control or not text:
                continue
            if has_controls(text):  # only text that did not pass the output filter before
                text = clean_line(text, len(text))
            ink = Strip.render_ansi(style, colors) if style else ""
            if text.isascii():
                blank = (" ", _of_blank(ink))
                cells += [blank if letter == " " else (letter, ink) for letter in text]
            else:
                _wide(text, ink, cells)
    return cells


def _wide(text: str, ink: str, cells: list[Cell]) -> None:
    """Add text with characters that are not one cell wide each."""
    sizes = [get_character_cell_size(letter) for letter in text]
    if sum(sizes) != (width := cell_len(text)):
        cells += [(text, ink), *[("", ink)] * (width - 1)]  # they join: one cell shows them all
        return
    for letter, size in zip(text, sizes, strict=True):
        if size:
            cells += [(letter, ink), *[("", ink)] * (size - 1)]
        elif cells:
            base = next(at for at in range(len(cells) - 1, -1, -1) if cells[at][0])
            cells[base] = (cells[base][0] + letter, cells[base][1])


def _looks(cell: Cell, style: str) -> bool:
    """Return whether a cell looks right when it is written in that style."""
    return cell[1] == style or (cell[0] == " " and cell[1] == _of_blank(style))


@lru_cache(4096)
def _of_blank(ink: str) -> str:
    """Return the visible part of a style on a blank: its background, and lines drawn through it."""
    attributes, _, back = _parsed(ink)
    return ink if attributes - _LETTERS_ONLY else back


@lru_cache(4096)
def _parsed(style: str) -> tuple[frozenset[str], str, str]:
    """Return the attributes, the foreground and the background of SGR parameters; empty for the default."""
    attributes, fore, back = set(), "", ""
    codes = style.split(";") if style else []
    while codes:
        code = codes.pop(0)
        if code in ("38", "48"):
            rest = [codes.pop(0) for _ in range(4 if codes[0] == "2" else 2)]
            color = ";".join((code, *rest))
            fore, back = (color, back) if code == "38" else (fore, color)
        elif code in ("39", "49"):
            continue
        elif 30 <= int(code) <= 37 or 90 <= int(code) <= 97:
            fore = code
        elif 40 <= int(code) <= 47 or 100 <= int(code) <= 107:
            back = code
        else:
            attributes.add(code)
    return frozenset(attributes), fore, back


@lru_cache(16384)
def _change(before: str | None, after: str) -> str:
    """Return the shortest sequence from one style to another; from None, the style before is unknown."""
    attributes, fore, back = _parsed(after)
    anew = (
        "\x1b[" + ";".join(filter(None, ("0", *sorted(attributes), fore, back))) + "m" if after else "\x1b[m"
    )
    if before is None:
        return anew
    old, old_fore, old_back = _parsed(before)
    if old - attributes:
        return anew
    parts = sorted(attributes - old)
    parts += [fore or "39"] if fore != old_fore else []
    parts += [back or "49"] if back != old_back else []
    change = "\x1b[" + ";".join(parts) + "m" if parts else ""
    return change if len(change) < len(anew) else anew


class LeanOutput(App[None]):
    """An app that writes only the changes, while `lean` is true and this Textual `fits`."""

    lean = False
    _picture: Picture | None = None

    def sleep(self) -> None:
        """Prepare to be stopped, when the shell gets the terminal."""

    def cannot_sleep(self) -> None:
        """Undo `sleep`: the process was not stopped, because no shell could resume it."""

    def forget_picture(self) -> None:
        """Forget the cells, because another program has drawn on the terminal."""
        self._picture = None

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        drawn = isinstance(renderable, ChopsUpdate | LayoutUpdate)
        if (
            not (self.lean and fits() and drawn)
            or self.is_headless
            or self._driver is None
            or self._driver.is_inline
        ):
            super()._display(screen, renderable)
            return
        try:
            if self._running and not self._closed and not self._batch_count:
                self._driver.write(self._drawn(renderable))  # type: ignore[arg-type]
                self._driver.flush()
        except Exception as error:  # like Textual
            self._handle_exception(error)
        finally:
            self.post_display_hook()

    def _drawn(self, update: ChopsUpdate | LayoutUpdate) -> str:
        width, height = self.size
        picture = self._picture
        if picture is None or (picture.width, picture.height) != (width, height):
            erases = not os.environ.get("TERM", "").startswith("screen")
            picture = self._picture = Picture(width, height, erases=erases)
        colors = self.console._color_system or ColorSystem.TRUECOLOR
        lines: dict[int, list[Cell]] = {}
        for row, column, strips in _parts(update):
            if 0 <= row < height:
                line = lines.setdefault(row, picture.known(row))
                cells = cells_of(strips, colors)[: width - column]
                line[column : column + len(cells)] = cells
        x, y = self.screen.outer_size.clamp_offset(self.cursor_position)
        return picture.update(lines, (y, x), sync=self._sync_available)


def _parts(update: ChopsUpdate | LayoutUpdate) -> Iterable[tuple[int, int, Iterable[Strip]]]:
    """Yield (row, column, strips) of everything that an update draws."""
    if isinstance(update, LayoutUpdate):
        for row, strips in enumerate(update.strips, update.region.y):
            yield row, update.region.x, strips
        return
    for row, begin, end in update.spans:
        for until, (column, strip) in zip(update.chop_ends[row], update.chops[row].items(), strict=False):
            if strip is not None and column < end and until > begin:
                # Cells outside the span were not rendered for it.
                yield row, column, (strip if until <= end else strip.crop(0, end - column),)
