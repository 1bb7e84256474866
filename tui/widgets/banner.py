"""One or two lines above the conversation with news that a person should know before the next prompt."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.widgets import Static

from tui.clean import clean_line

MOST = 3
"""Notices that are shown at once; the others are counted."""


class Banner(Static):
    """Hidden while there is no notice. The words may be foreign text: they are cleaned."""

    DEFAULT_CSS = """
    Banner {
        display: none;
        height: auto;
        margin: 0 2 1 2;
        padding: 0 1;
        border-left: thick $warning;
        background: $surface;
        color: $foreground;
        &.-error { border-left: thick $error; }
        &.-shown { display: block; }
    }
    """

    _notices: Sequence[str] = ()
    _is_error = False
    _lasting = ""

    def show(self, notices: Sequence[str], *, error: bool = False) -> None:
        """Show `notices`, or nothing if there are none."""
        self._notices, self._is_error = tuple(notices), error
        self._show()

    def last(self, words: str) -> None:
        """Show `words` above all notices until other words, or none, replace them."""
        self._lasting = words
        self._show()

    def _show(self) -> None:
        lines = [clean_line(notice) for notice in self._notices[:MOST]]
        if len(self._notices) > MOST:
            lines.append(f"… and {len(self._notices) - MOST} more")
        if self._lasting:
            lines.insert(0, clean_line(self._lasting))
        self.set_class(bool(lines), "-shown")
        self.set_class(self._is_error or bool(self._lasting), "-error")
        self.update(Content("\n".join(lines)))
