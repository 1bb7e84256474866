"""Text with the look, the origin and the source offset of every character.

It uses three parallel arrays and no object for a token. It holds text; it neither parses nor wraps it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import repeat

from tui.protocol import Origin


class StyledText:
    """`text` with `looks` (bytes of style_codes.py), `origins` (bytes of Origin) and `places` (source
    offsets)."""

    __slots__ = ("looks", "origins", "places", "text")

    def __init__(self, text: str, looks: bytes, origins: bytes, places: array[int]) -> None:
        self.text = text
        self.looks = looks
        self.origins = origins
        self.places = places

    def with_looks(self, looks: bytes) -> StyledText:
        return StyledText(self.text, looks, self.origins, self.places)

    def cut(self, begin: int, end: int) -> StyledText:
        part = slice(begin, end)
        return StyledText(self.text[part], self.looks[part], self.origins[part], self.places[part])


EMPTY = StyledText("", b"", b"", array("I"))


class Pen:
    """Writes a `StyledText` from left to right."""

    __slots__ = ("_looks", "_parts", "_places")

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._looks = bytearray()
        self._places: array[int] = array("I")

    def write(self, text: str, look: int, places: Iterable[int]) -> None:
        """Write text whose characters stand at `places` of the source, one for each."""
        self._parts.append(text)
        self._looks += bytes((look,)) * len(text)
        self._places.extend(places)

    def stamp(self, text: str, look: int, place: int) -> None:
        """Write text for one place of the source as a whole: an entity, an expanded tab."""
        self.write(text, look, repeat(place, len(text)))

    def done(self, origins: Sequence[int]) -> StyledText:
        """Return the written text; `origins` holds the origin of every source character."""
        marks = bytes(map(origins.__getitem__, self._places))
        return StyledText("".join(self._parts), bytes(self._looks), marks, self._places)


def literal(source: str, origins: Sequence[int], begin: int, end: int, look: int) -> StyledText:
    """Return source[begin:end] unchanged, except for tabs, which expand to every fourth column."""
    text = source[begin:end]
    if "\t" not in text:
        places = array("I", range(begin, end))
        return StyledText(text, bytes((look,)) * len(text), bytes(origins[begin:end]), places)
    pen = Pen()
    write_literal(pen, text, look, range(begin, end))
    return pen.done(origins)


def write_literal(pen: Pen, text: str, look: int, places: Sequence[int]) -> None:
    """Write `text` with its tabs expanded; `places` holds the source offset of each of its characters."""
    if "\t" not in text:
        pen.write(text, look, places)
        return
    at = column = 0
    for number, run in enumerate(text.split("\t")):
        if number:
            spaces = 4 - column % 4
            pen.stamp(" " * spaces, look, places[at])
            at, column = at + 1, column + spaces
        pen.write(run, look, places[at : at + len(run)])
        newline = run.rfind("\n")
        at, column = at + len(run), len(run) - newline - 1 if newline >= 0 else column + len(run)


def plain(text: str, look: int) -> StyledText:
    """Return text of our own: it has no places in the source."""
    return StyledText(text, bytes((look,)) * len(text), bytes((Origin.PLAIN,)) * len(text), array("I"))


def joined(parts: Sequence[StyledText]) -> StyledText:
    """Return the parts one after the other."""
    places: array[int] = array("I")
    for part in parts:
        places.extend(part.places)
    return StyledText(
        "".join(part.text for part in parts),
        b"".join(part.looks for part in parts),
        b"".join(part.origins for part in parts),
        places,
    )
