"""Textual's own output and the lean one, each shown by a terminal, and compared cell by cell."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

import pyte
from rich.console import RenderableType
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.screen import Screen

from tui.app import Outrider


class Both:
    """Two terminals: one is given Textual's own output, the other the lean one; they must show the same."""

    def __init__(self, app: Outrider, columns: int, rows: int, *, comparing: bool = True) -> None:
        self.app = app
        self._comparing = comparing
        self.stock, self.lean = pyte.Screen(columns, rows), pyte.Screen(columns, rows)
        self._streams = pyte.Stream(self.stock), pyte.Stream(self.lean)
        self.bytes = [0, 0]
        self.updates = 0
        self._torn = False
        """Since a resize: Textual still draws what it laid out for the size before."""
        app._display = self.display  # type: ignore[method-assign]

    def resize(self, columns: int, rows: int) -> None:
        for screen in (self.stock, self.lean):
            screen.resize(rows, columns)
            screen.erase_in_display(2)
        self._torn = True

    def display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        if not isinstance(renderable, ChopsUpdate | LayoutUpdate) or self.app._batch_count:
            return
        if (self.app.size.width, self.app.size.height) != (self.stock.columns, self.stock.lines):
            self.resize(*self.app.size)
        forget_codes(renderable)
        texts = renderable.render_segments(self.app.console), self.app._drawn(renderable)
        for place, (stream, text) in enumerate(zip(self._streams, texts, strict=True)):
            self.bytes[place] += len(text.encode())
            if self._comparing:
                # The parser knows no newline that only moves down, which is what raw terminals make of it.
                stream.feed(text.replace("\n", "\x1bD"))
        self.updates += 1
        if isinstance(renderable, LayoutUpdate) and renderable.region == self.app.size.region:
            self._torn = False
        if self._torn or not self._comparing:
            return
        touched = renderable.spans if isinstance(renderable, ChopsUpdate) else ()
        drawn = {row for row, _, _ in touched} or set(range(self.stock.lines))
        self.compare(drawn if self.updates % 20 else range(self.stock.lines))

    def compare(self, rows: Iterable[int]) -> None:
        for row in rows:
            # Not `Screen.display`: it renders all lines anew each time.
            one, other = (screen.buffer[row] for screen in (self.stock, self.lean))
            if any("\u0e00" <= cell.data < "\u0e80" for cell in one.values()):
                continue  # this parser finds Thai narrower than Textual does: what follows stands elsewhere
            for column in range(self.stock.columns):
                here, there = one[column], other[column]
                same = here == there or seen(here) == seen(there)
                assert same, (row, column, here, there, self.stock.display[row])


def forget_codes(update: ChopsUpdate | LayoutUpdate) -> None:
    """Let Textual render this anew. Blank lines and styles are shared by all apps of a process, and they keep
    the codes of the one that showed them first, which may have had fewer colors."""
    lines = update.strips if isinstance(update, LayoutUpdate) else [line.values() for line in update.chops]
    for strip in filter(None, chain.from_iterable(lines)):
        strip._render_cache = None
        for _, style, _ in strip:
            if style is not None:
                style._ansi = None


def seen(cell: Any) -> Any:
    """A cell as far as it can be seen: of a blank, only what is behind it and what is drawn through it."""
    drawn = cell.underscore or cell.strikethrough or cell.reverse or cell.blink
    return cell if cell.data != " " or drawn else cell._replace(fg="default", bold=False, italics=False)
