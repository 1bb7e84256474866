"""All turns one under the other, and the content of each line. It knows no colors and no screen."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from tui.widgets.transcript.blocks import Block

if TYPE_CHECKING:
    from tui.widgets.transcript.message import MessageBlock


class Anchor(NamedTuple):
    """A letter of the conversation, independent of the line breaks."""

    message: int
    block: int
    letter: int


class MessageList:
    """Messages with a blank line between them, unless they are empty. Call `lay` before asking for lines."""

    def __init__(self) -> None:
        self.messages: list[MessageBlock] = []
        self._tops: array[int] = array("I", (0,))
        """The first line of each message, and at the end that of the next one."""

    @property
    def height(self) -> int:
        """Number of lines in the last layout."""
        return max(0, self._tops[-1] - 1)

    def add(self, message: MessageBlock) -> None:
        self.messages.append(message)
        self._tops.append(self._tops[-1])

    def cut(self, number: int) -> list[MessageBlock]:
        """Remove the messages from `number` on."""
        gone = self.messages[number:]
        del self.messages[number:], self._tops[number + 1 :]
        return gone

    def fold_thoughts(self, *, folded: bool, key: str | None = None) -> None:
        """Fold the thoughts of the turn `key`, or unfold them; None for those of all turns."""
        for message in self._thoughts(key):
            if message.folded != folded:
                message.folded = folded
                message.read()

    def toggle_thoughts(self, key: str) -> None:
        """Unfold the thoughts of the turn `key`, or fold them if one is unfolded."""
        self.fold_thoughts(folded=not all(each.folded for each in self._thoughts(key)), key=key)

    def _thoughts(self, key: str | None) -> list[MessageBlock]:
        return [each for each in self.messages if each.role == "thought" and key in (None, each.key)]

    def lines_of(self, number: int) -> tuple[int, int]:
        """Return the first line of a message, and the line after its last."""
        return self._tops[number], self._tops[number] + self.messages[number].height

    def lay(self, first: int, width: int, show_rejected: bool) -> int:
        """Lay out the messages from number `first` on; return the first line that may differ from before.

        Of these, only the last message may have new text, unless the width or `show_rejected` changes.
        """
        changed = self.height
        for number in range(first, len(self.messages)):
            message = self.messages[number]
            line = self._tops[number] + message.lay(width, show_rejected)
            changed = min(changed, line)
            self._tops[number + 1] = self._tops[number] + message.height + bool(message.height)
        return changed

    def locate(self, line: int) -> tuple[MessageBlock, Block, int] | None:
        """Return the message and block at a line, and the line's number in the block; None for a blank
        line."""
        number = bisect_right(self._tops, line) - 1
        if number >= len(self.messages):
            return None
        message, row = self.messages[number], line - self._tops[number]
        return (message, *message.locate(row)) if row < message.height else None

    def anchor(self, line: int) -> Anchor:
        """Return the letter at the beginning of a line."""
        number = max(0, min(bisect_right(self._tops, line), len(self.messages)) - 1)
        return Anchor(number, *self.messages[number].letter_at(line - self._tops[number]))

    def line_of(self, anchor: Anchor) -> int:
        """Return the line that shows a letter now."""
        return self._tops[anchor.message] + self.messages[anchor.message].line_of(anchor.block, anchor.letter)

    def text(self, line: int, begin: int, end: int, gutter: int) -> str:
        """Return letters begin to end of a line in the form of a copy; -1 is the end, with the newline.

        The `gutter` and the additions of wrapping, prefixes and newlines, are left out.
        """
        found = self.locate(line)
        if found is None:
            return "\n"
        message, block, row = found
        start, stop = block.line(row)
        prefix = block.first if row == 0 else "\0" * len(block.rest)
        whole = prefix + message.copied(block.shown.text[start:stop], block.shown.places[start:stop])
        part = whole[max(0, begin - gutter) : None if end < 0 else max(0, end - gutter)].replace("\0", "")
        if end < 0 and block.breaks_after(row):
            return part.rstrip(" ") + "\n"
        return part
