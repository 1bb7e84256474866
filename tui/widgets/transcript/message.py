"""One turn of the conversation: its source, the origin of each character, and its blocks.

It parses and lays out; it knows no colors, no screen and no timer.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from markdown_it import MarkdownIt

from tui.clean import REPLACEMENT, clean, clean_next, exact
from tui.protocol import Origin
from tui.widgets.transcript import style_codes
from tui.widgets.transcript.blocks import Block
from tui.widgets.transcript.incremental import IncrementalMarkdown
from tui.widgets.transcript.rejected import RejectedText
from tui.widgets.transcript.styled_text import literal, plain

Role = Literal["user", "assistant", "thought", "error"]

_LOOKS: Final = {"user": style_codes.USER, "thought": style_codes.FAINT, "error": style_codes.ERROR}
_END: Final = 2**31
_ORIGINS: Final = frozenset(Origin)


class MessageBlock:
    """A turn. An answer is read as Markdown; all other text is shown as it is written."""

    __slots__ = (
        *("_held", "_laid", "_reader", "_seen", "_shown", "_tops", "_width"),
        *("blocks", "folded", "headline", "key", "role", "_notes"),
        *("source", "origins", "originals", "rejected"),
    )

    def __init__(self, role: Role, parser: MarkdownIt, key: str = "") -> None:
        self.role: Role = role
        self.key = key
        """The name that its owner gave it."""
        self.source = ""
        """The text, cleaned."""
        self.originals: dict[int, str] = {}
        """The original characters of U+FFFD in the source, by offset: a copy has these."""
        self.origins = bytearray()
        """The origin of each character of the source."""
        self.rejected = RejectedText()
        self._held = ""
        self.blocks: list[Block] = []
        self._reader = IncrementalMarkdown(parser, self.blocks)
        self._tops: array[int] = array("I", (0,))
        self._laid = 0
        self._seen = (0, 0)
        self._shown = 0
        self._width = (0, False)
        self._notes = 0
        self.folded = True
        """Whether a thought shows only its headline."""
        self.headline = ""

    # Text

    def write(self, pieces: Iterable[tuple[str, int]]) -> None:
        """Append (text, origin) pieces; `read` makes them visible."""
        added: list[str] = []
        last = self.source[-1:]
        length = len(self.source)
        for text, origin in pieces:
            if origin == Origin.REJECTED:
                self.rejected.add(length, clean(text))
                continue
            raw = self._held + text
            text, self._held = clean_next(last, raw)
            if REPLACEMENT in text:
                self._remember(length, raw[: len(raw) - len(self._held)], text)
            last = text or last
            added.append(text)
            self.origins += bytes((origin if origin in _ORIGINS else Origin.PLAIN,)) * len(text)
            length += len(text)
        self.source += "".join(added)

    def _remember(self, length: int, raw: str, cleaned: str) -> None:
        """Keep the characters that `clean` replaced in text that begins at `length`, except controls."""
        for place, (was, now) in enumerate(zip(exact(raw), cleaned, strict=True), length):
            if was != now:
                self.originals[place] = was

    def copied(self, text: str, places: Sequence[int]) -> str:
        """Return shown `text` from these offsets of the source in the form of a copy."""
        if not self.originals or REPLACEMENT not in text or len(places) != len(text):
            return text
        return "".join(
            self.originals.get(place, char) if char == REPLACEMENT else char
            for char, place in zip(text, places, strict=True)
        )

    def end(self) -> None:
        """End the text."""
        raw, self._held = self._held, ""
        held = clean(self.source[-1:] + raw)[len(self.source[-1:]) :]
        self._remember(len(self.source), raw, held)
        self.source += held
        self.origins += bytes((Origin.PLAIN,)) * len(held)

    def read(self) -> None:
        """Bring the blocks up to date with the source."""
        self._seen = (len(self.source), len(self.rejected.text))
        self._shown = len(self.source)
        if self.role == "assistant":
            self._laid = min(self._laid, self._reader.settled)
            self._reader.read(self.source, self.origins)
        else:
            self._laid = 0
            self.blocks[:] = self._as_written()

    def _as_written(self) -> list[Block]:
        end = len(self.source.rstrip()) if self.role == "thought" else len(self.source)
        text = Block(literal(self.source, self.origins, 0, end, _LOOKS[self.role]))
        if self.role != "thought":
            return [text]
        head = Block(plain(f"{'▸' if self.folded else '▾'} {self.headline}", style_codes.NOTE))
        return [head] if self.folded else [head, text]

    @property
    def is_unread(self) -> bool:
        """Whether text has come since the last `read`."""
        return self._seen != (len(self.source), len(self.rejected.text))

    def preview(self) -> bool:
        """Show the new text at the end of the open block without reading it, if that is possible.

        The next `read` replaces it. It shows only text that will most likely stay as it is.
        """
        settled = self.role == "thought" or len(self.blocks) == self._reader.settled
        if settled or self._shown == len(self.source):
            return False
        grown = self.blocks[-1].grown(self.source, self.origins, self._shown)
        if grown is None:
            return False
        self.blocks[-1] = grown
        self._laid = min(self._laid, len(self.blocks) - 1)
        self._shown = len(self.source)
        return True

    def note(self, text: str, look: int) -> None:
        """Add a line of ours under the text."""
        self.blocks.append(Block(plain(text, look)))
        self._notes += 1

    def clear_notes(self) -> None:
        """Remove the lines that `note` added."""
        del self.blocks[len(self.blocks) - self._notes :]
        self._laid = min(self._laid, len(self.blocks))
        self._notes = 0

    # Lines

    @property
    def height(self) -> int:
        """Lines at the last width of `lay`."""
        return self._tops[-1]

    def lay(self, width: int, show_rejected: bool) -> int:
        """Lay out the changed parts for `width` cells; return the first line that may differ from before."""
        if (width, show_rejected) != self._width:
            self._width = (width, show_rejected)
            self._laid = 0
        begin = min(self._laid, len(self.blocks))
        rejected = self.rejected if show_rejected and len(self.rejected) else None
        if rejected is not None and begin:
            # The latest rejected text moves from the block before to the new one.
            begin -= 1
            while begin and self.blocks[begin].begin is None:
                begin -= 1
        del self._tops[begin + 1 :]
        line = self._tops[begin]
        spans = self._spans(begin) if rejected is not None else None
        for number in range(begin, len(self.blocks)):
            line += self.blocks[number].lay(width, rejected, spans[number - begin] if spans else (0, 0))
            self._tops.append(line)
        self._laid = len(self.blocks)
        return self._tops[begin]

    def _spans(self, first: int) -> list[tuple[int, int]]:
        """Return for each block from `first` on the source offsets up to the block after it."""
        spans: list[tuple[int, int]] = []
        until = _END + len(self.rejected.text)  # another end for a changed text, so that it is composed again
        for number in range(len(self.blocks) - 1, first - 1, -1):
            begin = self.blocks[number].begin
            spans.append((until, until) if begin is None else (begin, until))
            until = until if begin is None else begin
        spans.reverse()
        if all(block.begin is None for block in self.blocks[:first]):
            # Text that was rejected before the first letter belongs to it.
            leading = next((place for place, (low, high) in enumerate(spans) if low < high), None)
            if leading is not None:
                spans[leading] = (0, spans[leading][1])
        return spans

    def locate(self, line: int) -> tuple[Block, int]:
        """Return the block at a line of the message, and the line's number in it."""
        number = min(bisect_right(self._tops, line) - 1, len(self.blocks) - 1)
        return self.blocks[number], line - self._tops[number]

    def letter_at(self, line: int) -> tuple[int, int]:
        """Return the number of the block at a line, and the first letter of the line in the block's own
        text."""
        number = max(0, min(bisect_right(self._tops, line) - 1, len(self.blocks) - 1))
        if not self.blocks:
            return 0, 0
        block = self.blocks[number]
        return number, block.starts[min(line - self._tops[number], len(block.starts) - 1)]

    def line_of(self, number: int, letter: int) -> int:
        """Return the line that shows that letter of that block."""
        if number >= len(self.blocks):
            return 0
        return self._tops[number] + bisect_right(self.blocks[number].starts, letter) - 1
