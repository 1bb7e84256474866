"""A compositor that renders only the lines that are painted.

Textual's own compositor renders every line of every widget at each paint, and then drops all but the changed
lines. That takes most of the time of a frame while an answer streams. The order of the widgets is still
Textual's affair.

In Textual, a widget that raises during a paint ends the app. Here its place stays empty and the app hears of
it, because no text of a model may end the chat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from traceback import format_exception

from textual._compositor import ChopsUpdate, Compositor
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from ..clean import clean_line
from ..client.child import EngineLog

Failed = Callable[[Widget, Exception], None]
"""Receives the widget that could not be painted, and the error."""
Chops = dict[int, Strip | None]
"""The pieces of a screen line, by the column of their start; None if a piece is not painted."""


class FrugalCompositor(Compositor):
    """Written for Textual 8.2.8; `tests/terminal/test_compositor.py` compares it with Textual's own."""

    def __init__(self, failed: Failed) -> None:
        super().__init__()
        self._failed = failed

    def _get_renders(self, crop: Region | None = None) -> Iterable[tuple[Region, Region, list[Strip]]]:
        for widget, (region, clip) in self.visible_widgets.items():
            part = region.intersection(clip)
            if part and (crop is None or crop.overlaps(clip)):
                yield region, clip, self._lines(widget, part.translate(-region.offset))

    def _lines(self, widget: Widget, part: Region) -> list[Strip]:
        """Return the lines of a part of a widget; empty lines if it raises."""
        try:
            return widget.render_lines(part)
        except Exception as error:  # any error: no widget may end the app
            self._failed(widget, error)
            return [Strip.blank(part.width)] * part.height

    def render_partial_update(self) -> ChopsUpdate | None:
        regions, self._dirty_regions = self._dirty_regions, set()
        spans = list(self._regions_to_spans(regions))
        if not spans:
            return None
        lines: list[Chops] = [{}] * len(self.cuts)
        ends: list[list[int]] = [[]] * len(self.cuts)
        for row, _, _ in spans:
            lines[row], ends[row] = dict.fromkeys(self.cuts[row][:-1]), self.cuts[row][1:]
        self._paint(lines, spans)
        return ChopsUpdate(lines, spans, ends)

    def _paint(self, lines: list[Chops], spans: list[tuple[int, int, int]]) -> None:
        """Fill the pieces in the spans (row, begin, end), each from the topmost widget."""
        open_: dict[int, set[int]] = {}
        """For each row, the columns at which unpainted pieces start."""
        for row, begin, end in spans:
            cuts = self.cuts[row]
            found = {x for x, until in pairwise(cuts) if x < end and until > begin}
            open_.setdefault(row, set()).update(found)
        for widget, (region, clip) in self.visible_widgets.items():  # topmost first
            part = region.intersection(clip)
            rows = [
                row for row, missing in open_.items()
                if part.y <= row < part.bottom and any(part.x <= x < part.right for x in missing)
            ]  # fmt: skip
            if rows:
                wanted = Region(part.x - region.x, rows[0] - region.y, part.width, rows[-1] - rows[0] + 1)
                strips = self._lines(widget, wanted)
                for row in rows:
                    self._fill(lines[row], open_[row], strips[row - rows[0]], part, self.cuts[row])
                    if not open_[row]:
                        del open_[row]
            if not open_:
                break

    @staticmethod
    def _fill(line: Chops, missing: set[int], strip: Strip, part: Region, cuts: list[int]) -> None:
        """Cut a widget's line into the missing pieces."""
        inside = [cut for cut in cuts if part.x <= cut <= part.right]
        for x, piece in zip(inside, strip.divide([cut - part.x for cut in inside[1:]]), strict=False):
            if x in missing:
                line[x] = piece
                missing.remove(x)


class PaintFaults:
    """Reports the widgets that could not be painted: once for each kind, with a traceback in a log."""

    def __init__(self, log: Path, tell: Callable[[str], object]) -> None:
        """`tell` gets a sentence for the person."""
        self._log = log
        self._tell = tell
        self._known: set[tuple[type, type]] = set()

    def report(self, widget: Widget, error: Exception) -> None:
        """Report this one, if it is the first of its kind."""
        kind = (type(widget), type(error))
        if kind in self._known:
            return
        self._known.add(kind)
        log = EngineLog(self._log)
        log.write("".join(format_exception(error)).encode())
        log.close()
        words = f"A part of the screen cannot be shown. The chat goes on. Please report it: {self._log}"
        self._tell(clean_line(words))
