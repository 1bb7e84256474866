"""A scrollbar that is painted only when it looks different: in a growing text its thumb rarely moves."""

from __future__ import annotations

from math import ceil
from typing import Any, Final

from rich.console import RenderableType
from textual.geometry import Region
from textual.scrollbar import ScrollBar

_STEPS: Final = 8
"""Positions in a cell at which Textual lets a thumb end."""


class SteadyScrollBar(ScrollBar):
    """Replaces Textual's scrollbar, which paints again with each line of text: a fifth of a frame."""

    _painted: object = None

    def move(self, *, virtual_size: int, position: int) -> None:
        """Set both at once: after only one of them the thumb would be elsewhere for a moment."""
        self.set_reactive(ScrollBar.window_virtual_size, virtual_size)
        self.set_reactive(ScrollBar.position, float(position))
        self.refresh()

    def refresh(self, *regions: Region, **how: Any) -> SteadyScrollBar:
        if regions or how or not self.is_attached or self._painted != self._look():
            super().refresh(*regions, **how)
        return self

    def render(self) -> RenderableType:
        self._painted = self._look()
        return super().render()

    def _look(self) -> object:
        """Return the visible state: two equal ones have equal cells."""
        assert self.parent is not None
        styles = self.parent.styles
        colors = styles.scrollbar_color, styles.scrollbar_background, self.mouse_over, self.grabbed is None
        length, window, total = self.size.height, self.window_size, self.window_virtual_size
        if not 0 < window < total:
            return colors, length
        size = max(1, length * window / total)
        start = (length - size) * self.position / (total - window)
        return colors, length, int(start * _STEPS), ceil(size * _STEPS)
