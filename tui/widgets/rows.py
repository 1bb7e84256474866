"""A list of rows that stays quick with thousands of them: one line each, drawn when it comes into view.

It keeps its cursor on the same row when rows come and go. It takes no focus: its owner moves the cursor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.clean import clean_line
from tui.quantities import shortened

Tone = Literal["plain", "good", "faint"]

_GAP = 2
_NARROW = 52
"""Cells; below this width the list shows only the first columns."""


@dataclass(frozen=True)
class Row:
    key: str
    """The name of the row; all rows of a list have different ones."""
    cells: tuple[str, ...]
    """The first cell takes the room that the others leave. Foreign text: it is cleaned."""
    tone: Tone = "plain"
    widths: tuple[int, ...] = field(init=False, compare=False)
    """Widths of the cells, in columns of the terminal."""

    def __post_init__(self) -> None:
        cells = tuple(map(clean_line, self.cells))
        object.__setattr__(self, "cells", cells)
        object.__setattr__(self, "widths", tuple(map(cell_len, cells)))


class Rows(ScrollView, can_focus=False):
    """Rows with a cursor on one of them."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"rows--plain", "rows--good", "rows--faint", "rows--cursor"}
    DEFAULT_CSS = """
    Rows {
        height: 1fr;
        border: round $line;
        border-title-color: $quiet;
        border-subtitle-color: $quiet;
        background: $background;
        padding: 0 1;
        scrollbar-size-vertical: 1;
        &.-active { border: round $primary; border-title-color: $primary; }
        .rows--plain { color: $foreground; }
        .rows--good { color: $success; }
        .rows--faint { color: $quiet; }
        .rows--cursor { background: $surface; text-style: bold; }
        &.-active .rows--cursor { background: $primary 30%; }
    }
    """

    class Moved(Message):
        """The cursor is on another row, or on none."""

        def __init__(self, rows: Rows) -> None:
            super().__init__()
            self.rows = rows

        @property
        def control(self) -> Rows:
            return self.rows

    def __init__(self, id: str, empty: str = "", *, models: bool = False) -> None:  # noqa: A002
        """`empty` is the text of an empty list; `models`: the first column names models."""
        super().__init__(id=id)
        self.empty = empty
        self._models = models
        self._rows: list[Row] = []
        self._cursor = 0
        self._widths: list[int] = []
        self._said = empty
        """The value of `empty` when the rows were last shown."""

    @property
    def current(self) -> Row | None:
        """The row with the cursor; None if there are no rows."""
        return self._rows[self._cursor] if self._rows else None

    @property
    def cursor(self) -> int:
        """The number of the row with the cursor, from 0."""
        return self._cursor

    def say(self, words: str) -> None:
        """Show `words` in place of rows, such as the reason why there are none."""
        self.empty = clean_line(words)
        self.refresh()

    def show(self, rows: Sequence[Row], *, keep: bool = True) -> None:
        """Show these rows. The cursor stays with its row if `keep`; else it goes to the first."""
        if not rows and not self._rows and self.empty == self._said:
            return
        before, self._said = self.current, self.empty
        self._rows = list(rows)
        self._widths = [max(column) for column in zip(*(row.widths for row in rows), strict=True)]
        self._cursor = self._place(before.key) or 0 if keep and before else 0
        size = Size(0, max(1, len(self._rows)))
        if size != self.virtual_size:
            # Set without the layout of the whole screen, because no size follows from the rows.
            self.set_reactive(Rows.virtual_size, size)
            self._scroll_update(size)
        self._follow()
        self.refresh()
        if self.current != before:
            self.post_message(self.Moved(self))

    def go_to(self, key: str) -> None:
        """Put the cursor on the row with this key, if there is one."""
        if (place := self._place(key)) is not None:
            self._put(place)

    def move(self, by: int) -> None:
        """Move the cursor by so many rows, as far as there are rows."""
        self._put(max(0, min(len(self._rows) - 1, self._cursor + by)))

    def _place(self, key: str) -> int | None:
        return next((place for place, row in enumerate(self._rows) if row.key == key), None)

    def _put(self, place: int) -> None:
        if place != self._cursor and self._rows:
            before, self._cursor = self._cursor, place
            self._follow()
            self.refresh_line(before)
            self.refresh_line(place)
            self.post_message(self.Moved(self))

    def _follow(self) -> None:
        height = self.scrollable_content_region.height or 1
        top = self.scroll_offset.y
        if not top <= self._cursor < top + height:
            self.scroll_to(
                y=self._cursor - (0 if self._cursor < top else height - 1), animate=False, force=True
            )

    def render_line(self, y: int) -> Strip:
        width, number = self.scrollable_content_region.width, y + self.scroll_offset.y
        if number >= len(self._rows):
            words = self.empty if not self._rows and y == 0 else ""
            style = self.get_component_rich_style("rows--faint")
            return Strip([Segment(set_cell_size(words, width), style)], width)
        row = self._rows[number]
        style = self.get_component_rich_style(f"rows--{row.tone}")
        if number == self._cursor:
            style += self.get_component_rich_style("rows--cursor")
        return Strip([Segment(self._line(row, width), style)], width)

    def _line(self, row: Row, width: int) -> str:
        shown = len(row.cells) if width >= _NARROW else 2 if self._models else 3
        if not any(row.cells[1:shown]):
            shown = 1
        rest = [
            " " * (room + _GAP - cell_len(cell)) + cell
            for cell, room in zip(row.cells[1:shown], self._widths[1:shown], strict=True)
        ]
        tail = "".join(rest)
        room = max(0, width - cell_len(tail))
        name = row.cells[0]
        if self._models:
            name = shortened(name, room)
        elif cell_len(name) > room:
            name = set_cell_size(name, max(0, room - 1)).rstrip() + "…"
        return set_cell_size(set_cell_size(name, room) + tail, width)
