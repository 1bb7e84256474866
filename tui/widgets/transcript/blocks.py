"""The blocks of a message: a paragraph, a stretch of code, a blank line.

A block has a text and can wrap it. It knows no colors and no screen.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence

from tui.widgets.transcript import style_codes
from tui.widgets.transcript.highlight import highlight
from tui.widgets.transcript.layout import wrap
from tui.widgets.transcript.rejected import RejectedText
from tui.widgets.transcript.styled_text import EMPTY, StyledText, joined, literal, plain

BAR = "▎ "
"""The beginning of each line of a quote."""
_HARMLESS = re.compile(r"[\w ,.;:!?'\"()/%]*")


class Block:
    """Text that wraps as one unit, with a prefix on its first line and another on the rest."""

    __slots__ = ("_key", "body", "continues", "first", "rest", "shown", "starts")
    words = True
    fills = False
    """Whether its background reaches the right edge."""

    def __init__(self, body: StyledText, first: str = "", rest: str = "", continues: bool = False) -> None:
        self.body = body
        self.first = first
        self.rest = rest
        self.continues = continues
        """Whether the source continues in the next block without a newline."""
        self.shown = body
        self.starts: array[int] = array("I", (0,))
        self._key: tuple[int, int, int] | None = None

    def lay(self, width: int, rejected: RejectedText | None = None, span: tuple[int, int] = (0, 0)) -> int:
        """Wrap to `width` cells and return the number of lines.

        `rejected` is the rejected text to show inside, at the source offsets of `span`.
        """
        key = (width, *span) if rejected is not None else (width, -1, -1)
        if key != self._key:
            self._key = key
            self.shown = self._compose(max(2, width - len(self.first)), rejected, span)
            self.starts = self._wrap(max(2, width - len(self.first)))
        return len(self.starts)

    def _compose(self, width: int, rejected: RejectedText | None, span: tuple[int, int]) -> StyledText:
        return self.body if rejected is None else rejected.woven(self.ink(), *span)

    def _wrap(self, width: int) -> array[int]:
        return wrap(self.shown.text, width, self.words)

    @property
    def begin(self) -> int | None:
        """Return the first source offset in it, or None if it shows none of the source."""
        return self.body.places[0] if self.body.places else None

    def ink(self) -> StyledText:
        """Return the body with its looks, which are computed now if they were put off."""
        return self.body

    def paintable(self) -> StyledText:
        """Return the text that `starts` cuts, with its looks."""
        return self.shown

    def grown(self, source: str, origins: Sequence[int], shown: int) -> Block | None:
        """Return this block with source[shown:] at its end, if the block most likely continues so."""
        if not self.body.text or source[shown - 1] == "\n" or not _HARMLESS.fullmatch(source, shown):
            return None
        begin = shown - (source[shown - 1] == " ")
        more = literal(source, origins, begin, len(source), self.body.looks[-1])
        return Block(joined((self.body, more)), self.first, self.rest)

    def line(self, number: int) -> tuple[int, int]:
        """Return begin and end of a line in the shown text, without the newline that ends it."""
        begin = self.starts[number]
        end = self.starts[number + 1] if number + 1 < len(self.starts) else len(self.shown.text)
        return begin, end - 1 if end > begin and self.shown.text[end - 1] == "\n" else end

    def breaks_after(self, number: int) -> bool:
        """Whether a newline of the text, and not only of the screen, follows this line."""
        if number + 1 == len(self.starts):
            return not self.continues
        return self.shown.text[self.starts[number + 1] - 1] == "\n"


class Code(Block):
    """Code: folded at the edge, highlighted when it is first painted."""

    __slots__ = ("_language",)
    words = False
    fills = True

    def __init__(
        self, body: StyledText, first: str, rest: str, language: str, continues: bool = False
    ) -> None:
        super().__init__(body, first, rest, continues)
        self._language = language

    def ink(self) -> StyledText:
        if self._language:
            body = self.body.with_looks(highlight(self.body.text, self._language))
            self._language = ""
            if self.shown is self.body:
                self.shown = body
            self.body = body
        return self.body

    def paintable(self) -> StyledText:
        self.ink()
        return self.shown

    def grown(self, source: str, origins: Sequence[int], shown: int) -> Block | None:
        if self.first or "`" in source[shown:] or "~" in source[shown:]:
            return None
        begin = self.body.places[-1] + 1 if self.body.places else shown
        more = literal(source, origins, begin, len(source) - source.endswith("\n"), style_codes.FENCE)
        return Code(joined((self.ink(), more)), self.first, self.rest, "")


def gap(bars: str) -> Block:
    """Return a blank line, with the bars of the quotes around it."""
    return Block(EMPTY, bars, bars)


def rule(first: str, rest: str, width: int = 40) -> Block:
    """Return a thematic break."""
    return Block(plain("─" * width, style_codes.RULE), first, rest)
