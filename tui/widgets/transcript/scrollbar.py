"""A scrollbar that is painted only to look different: under a growing text its thumb rarely moves."""

from __future__ import annotations

from math import ceil
from typing import Any, Final

from rich.console import RenderableType
from textual.geometry import Region
from textual.scrollbar import ScrollBar

_STEPS: Final = 8
"""Places in a cell where Textual lets a thumb end."""


class SteadyScrollBar(ScrollBar):
    """Textual paints its own anew with each line of text, which takes a fifth of a frame."""

    _painted: object = None

    def move(self, *, virtual_size: int, position: int) -> None:
        """Take both at once: after one of them the thumb would be elsewhere for a moment."""
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
        """What of it is seen: of two equal ones no cell differs."""
        assert self.parent is not None
        styles = self.parent.styles
        colours = styles.scrollbar_color, styles.scrollbar_background, self.mouse_over, self.grabbed is None
        length, window, total = self.size.height, self.window_size, self.window_virtual_size
        if not 0 < window < total:
            return colours, length
        size = max(1, length * window / total)
        start = (length - size) * self.position / (total - window)
        return colours, length, int(start * _STEPS), ceil(size * _STEPS)
