"""The completions of the word that is being typed: a few rows above the composer, taken with Tab or Enter."""

from __future__ import annotations

from collections.abc import Sequence

from tui.chat.completion import Suggestion

from .rows import Row, Rows

MOST = 8
"""Rows that are visible at once."""


class Suggestions(Rows):
    """Hidden without suggestions; else it covers the lines above it and moves nothing."""

    DEFAULT_CSS = """
    Suggestions { display: none; overlay: screen; margin: 0 1; background: $surface; border: round $line; }
    Suggestions.-open { display: block; }
    """

    def __init__(self, id: str) -> None:  # noqa: A002
        super().__init__(id)
        self._offered: list[Suggestion] = []
        self.before = ""
        """The text that the suggestions complete."""
        self.add_class("-active")

    @property
    def is_open(self) -> bool:
        return bool(self._offered)

    def is_open_for(self, before: str) -> bool:
        """Whether there are suggestions for the text `before` the cursor now."""
        return self.is_open and self.before == before

    @property
    def suggestion(self) -> Suggestion | None:
        """The suggestion with the cursor."""
        return self._offered[self.cursor] if self._offered else None

    def offer(self, suggestions: Sequence[Suggestion], before: str = "") -> None:
        """Show suggestions for the text `before` the cursor, in place of the last ones. An empty list closes
        them."""
        self.before = before
        if not suggestions and not self._offered:
            return
        same = [each.text for each in suggestions] == [each.text for each in self._offered]
        self._offered = list(suggestions)
        self.set_class(bool(suggestions), "-open")
        height = min(MOST, len(suggestions)) + 2
        self.styles.height = height
        self.styles.offset = (0, -height)
        words = [each.shown or each.text for each in suggestions]
        width = max(map(len, words), default=0)
        rows = [
            Row(str(number), (f"{word:{width}}  {each.about}",))
            for number, (word, each) in enumerate(zip(words, suggestions, strict=True))
        ]
        self.show(rows, keep=same)
