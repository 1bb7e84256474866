"""One line under the conversation: what is going on, how far it drafts, how the tokens are shown."""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from tui.clean import clean_line


class StatusLine(Widget):
    """The state on the left, the display on the right. Its words may be foreign text: they are cleaned."""

    DEFAULT_CSS = """
    StatusLine {
        height: 1;
        margin-top: 1;
        padding: 0 3;
        color: $quiet;
    }
    """

    state = reactive("")
    """What is going on."""
    tone = reactive("$quiet")
    """The colour of the mark before it: a theme variable."""
    detail = reactive("")
    """Numbers for a terminal that has no room for the sidebar."""
    display_mode = reactive("")
    """How far it drafts and how the tokens are shown."""

    def render(self) -> Content:
        left = Content.assemble(("● ", self.tone), clean_line(self.state))
        if self.detail:
            left = Content.assemble(left, "  ·  ", self.detail)
        room = self.content_size.width - len(self.display_mode) - 2
        if room < 20:
            return left.truncate(self.content_size.width, ellipsis=True)
        left = left.truncate(room, ellipsis=True)
        gap = " " * (room + 2 - left.cell_length)
        return Content.assemble(left, gap, self.display_mode)
