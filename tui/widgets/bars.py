"""A row of bars from zero to the highest value. The scale begins at 0, so a small change looks small."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

_EIGHTHS = " ▁▂▃▄▅▆▇█"


class Bars(Widget):
    """The latest values, one column each, the last one at the right edge."""

    values: reactive[tuple[float, ...]] = reactive[tuple[float, ...]](())

    def render(self) -> Content:
        width, height = self.size
        return Content("\n".join(bars(self.values[-width:], width, height)))


def bars(values: Sequence[float], width: int, height: int) -> list[str]:
    """Return bars of `values` as lines of text, the top line first. No value is negative."""
    top = max(values, default=0.0) or 1.0
    levels = [round(value / top * 8 * height) for value in values]
    return [
        "".join(_EIGHTHS[min(8, max(0, level - 8 * row))] for level in levels).rjust(width)
        for row in reversed(range(height))
    ]
