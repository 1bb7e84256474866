"""The tokens that the main model rejected: kept beside the answer, shown inside it on demand."""

from __future__ import annotations

from array import array
from bisect import bisect_left

from tui.protocol import Origin
from tui.widgets.transcript.styled_text import StyledText, joined

_VISIBLE = str.maketrans({"\n": "↵", "\t": " "})


class RejectedText:
    """Rejected text by source offset; arrays, with no object for a token."""

    __slots__ = ("_at", "_ends", "text")

    def __init__(self) -> None:
        self.text = ""
        self._at: array[int] = array("I")
        self._ends: array[int] = array("I")

    def __len__(self) -> int:
        return len(self._at)

    def add(self, at: int, text: str) -> None:
        """Add rejected text at source offset `at`, which never goes back."""
        self.text += text.translate(_VISIBLE)
        if self._at and self._at[-1] == at:
            self._ends[-1] = len(self.text)
        elif text:
            self._at.append(at)
            self._ends.append(len(self.text))

    def woven(self, body: StyledText, begin: int, until: int) -> StyledText:
        """Return `body` with the text that was rejected at begin <= offset < until in its places."""
        first, last = bisect_left(self._at, begin), bisect_left(self._at, until)
        if first == last:
            return body
        parts: list[StyledText] = []
        done = 0
        for number in range(first, last):
            at = self._at[number]
            cut = max(done, bisect_left(body.places, at))
            parts += (body.cut(done, cut), self._marked(number, at, body.looks[cut - 1 : cut] or b"\0"))
            done = cut
        parts.append(body.cut(done, len(body.text)))
        return joined(parts)

    def _marked(self, number: int, at: int, look: bytes) -> StyledText:
        text = self.text[self._ends[number - 1] if number else 0 : self._ends[number]]
        marks = bytes((Origin.REJECTED,)) * len(text)
        return StyledText(text, look * len(text), marks, array("I", (at,)) * len(text))
