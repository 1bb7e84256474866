"""The tokens of an answer one by one, with a cursor, and the rejected tokens between them.

It shows tokens, not Markdown, because a line break belongs to a token too. It asks nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import ClassVar

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.chat.trace import Token
from tui.clean import clean
from tui.protocol import Origin

NO_TEXT = "∅"
"""The sign for a token without text, such as the one that ends an answer."""


@cache
def visible(text: str) -> str:
    """Return `text` as cells of one line, with an arrow for each line break."""
    return clean(text).replace("\n", "↵").replace("\t", "→") or NO_TEXT


def _segments(token: Token) -> list[tuple[str, bool]]:
    """Yield the text of a token in pieces of one line, each with whether the line ends behind it. A rejected
    token ends no line."""
    if token.origin == Origin.REJECTED:
        return [(visible(token.text), False)]
    *lines, rest = token.text.split("\n")
    ended = [(visible(line + "\n"), True) for line in lines]
    return [*ended, (visible(rest), False)] if rest or not lines else ended


class TokenView(ScrollView, can_focus=False):
    """Tokens, wrapped like text."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        *(f"tokens--{origin.name.lower()}" for origin in Origin),
        "tokens--round",
        "tokens--cursor",
        "tokens--later",
    }
    DEFAULT_CSS = """
    TokenView {
        border: round $primary;
        border-title-color: $primary;
        border-subtitle-color: $quiet;
        background: $background;
        padding: 0 1;
        scrollbar-size-vertical: 1;
        .tokens--plain { color: $foreground; }
        .tokens--draft { color: $token-draft; }
        .tokens--head { color: $token-head; }
        .tokens--lookup { color: $token-lookup; text-style: italic; }
        .tokens--main { color: $token-main; text-style: underline; }
        .tokens--rejected { color: $token-rejected; text-style: strike; }
        .tokens--round { background: $surface; }
        .tokens--cursor { text-style: reverse; }
        .tokens--later { color: $line; text-style: none; }
    }
    """

    cursor: reactive[int] = reactive(0, repaint=False)
    """The number of the token under the cursor."""
    show_rejected: reactive[bool] = reactive(True, repaint=False)
    later_is_faint: reactive[bool] = reactive(False)
    """Whether tokens after the cursor's round are faint, because they have not come yet."""

    class Moved(Message):
        """The cursor is on another token."""

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._tokens: list[Token] = []
        self._shown: list[int] = []
        """Numbers of the visible tokens."""
        self._lines: list[list[tuple[int, str]]] = []
        """The pieces of each line: number of the token, and its text there."""
        self._line_of: dict[int, int] = {}
        self._width = 0

    def show(self, tokens: Sequence[Token], cursor: int = 0) -> None:
        """Show these tokens, with the cursor on one of them."""
        self._tokens = list(tokens)
        self.set_reactive(TokenView.cursor, max(0, min(cursor, len(tokens) - 1)))
        self._wrap()
        self._follow()
        self.post_message(self.Moved())

    @property
    def current(self) -> Token | None:
        """The token under the cursor; None if there are no tokens."""
        return self._tokens[self.cursor] if self._tokens else None

    @property
    def tokens(self) -> Sequence[Token]:
        return self._tokens

    # Moving

    def move(self, by: int) -> None:
        """Move the cursor by so many visible tokens."""
        if self._shown:
            here = self._nearest(self.cursor)
            self.cursor = self._shown[max(0, min(len(self._shown) - 1, here + by))]

    def move_line(self, by: int) -> None:
        """Move the cursor by so many lines, to the token below or above it."""
        if not self._lines:
            return
        line = self._line_of.get(self.cursor, 0)
        column = self._column(line)
        target = self._lines[max(0, min(len(self._lines) - 1, line + by))]
        ends = list(accumulate(cell_len(text) for _, text in target))
        at = next((place for place, end in enumerate(ends) if end > column), len(target) - 1)
        self.cursor = target[at][0]

    def move_round(self, by: int) -> None:
        """Move the cursor to the first token of another round."""
        if current := self.current:
            self.go_to_round(current.round + by)

    def go_to_round(self, number: int) -> None:
        """Put the cursor on the first token of the round, as far as there is such a round."""
        number = max(0, min(number, self._tokens[-1].round)) if self._tokens else 0
        self.cursor = next((at for at in self._shown if self._tokens[at].round >= number), self.cursor)

    def move_rejected(self, by: int) -> None:
        """Move the cursor to the next rejected token, or to the one before."""
        found = [number for number, each in enumerate(self._tokens) if each.origin == Origin.REJECTED]
        ahead = [number for number in found if (number > self.cursor if by > 0 else number < self.cursor)]
        if ahead:
            self.show_rejected = True
            self.cursor = ahead[0] if by > 0 else ahead[-1]

    def _nearest(self, number: int) -> int:
        """Return the place, among the visible tokens, of the token `number` or the next one."""
        return next((at for at, each in enumerate(self._shown) if each >= number), len(self._shown) - 1)

    def _column(self, line: int) -> int:
        at = 0
        for number, text in self._lines[line]:
            if number == self.cursor:
                break
            at += cell_len(text)
        return at

    def validate_cursor(self, cursor: int) -> int:
        return max(0, min(cursor, len(self._tokens) - 1))

    def watch_cursor(self) -> None:
        self._follow()
        self.refresh()
        self.post_message(self.Moved())

    def watch_show_rejected(self) -> None:
        self._wrap()
        if self._shown and self.cursor not in self._line_of:
            self.cursor = self._shown[self._nearest(self.cursor)]
        self._follow()
        self.refresh()

    def _follow(self) -> None:
        height, line = max(1, self.scrollable_content_region.height), self._line_of.get(self.cursor, 0)
        top = self.scroll_offset.y
        if not top <= line < top + height:
            self.scroll_to(y=line - (0 if line < top else height - 1), animate=False, force=True)

    # Drawing

    def on_resize(self) -> None:
        if self.scrollable_content_region.width != self._width:
            self._wrap()
            self._follow()

    def _wrap(self) -> None:
        """Divide the tokens into lines of the available width."""
        self._width = width = max(1, self.scrollable_content_region.width)
        self._shown = [
            number
            for number, each in enumerate(self._tokens)
            if self.show_rejected or each.origin != Origin.REJECTED
        ]
        lines: list[list[tuple[int, str]]] = [[]]
        room = width
        for number in self._shown:
            for text, breaks in _segments(self._tokens[number]):
                whole = cell_len(text) <= width
                for part in [text] if whole else chop_cells(text, width):
                    if cell_len(part) > room and lines[-1]:
                        lines.append([])
                        room = width
                    lines[-1].append((number, part))
                    room -= cell_len(part)
                if breaks:
                    lines.append([])
                    room = width
        self._lines = lines if lines[-1] else lines[:-1]
        self._line_of = {
            number: at for at, line in reversed(list(enumerate(self._lines))) for number, _ in line
        }
        self.virtual_size = Size(width, len(self._lines))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        at = y + self.scroll_offset.y
        width = self.scrollable_content_region.width
        if at >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        segments = [Segment(text, self._style(number)) for number, text in self._lines[at]]
        return Strip(segments).adjust_cell_length(width, self.rich_style)

    def _style(self, number: int) -> Style:
        token, current = self._tokens[number], self._tokens[self.cursor]
        if self.later_is_faint and token.round > current.round:
            return self.rich_style + self.get_component_rich_style("tokens--later", partial=True)
        style = self.get_component_rich_style(f"tokens--{token.origin.name.lower()}", partial=True)
        if token.round == current.round:
            style += self.get_component_rich_style("tokens--round", partial=True)
        if number == self.cursor:
            style += self.get_component_rich_style("tokens--cursor", partial=True)
        return self.rich_style + style
