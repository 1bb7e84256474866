"""Line breaks: positions in a text, for a width in terminal cells. It knows no styles.

Widths are Rich's, because Textual crops and joins strips by them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from rich.cells import get_character_cell_size, split_graphemes

_NEVER_FIRST = frozenset("、。，．！？：；）］｝」』】〉》〕・ー々〟゛゜")
_NEVER_LAST = frozenset("（［｛「『【〈《〔〝")


def wrap(text: str, width: int, words: bool = True) -> array[int]:
    """Return the position at which each line starts, 0 first. A newline belongs to the line that it ends.

    With `words`, lines break after spaces and between wide characters, and longer words are folded. Without,
    lines break at exactly `width` cells. Spaces at a break stay at the end of the line before it.
    """
    width = max(width, 2)
    starts = array("I", (0,))
    begin = 0
    while True:
        end = text.find("\n", begin)
        last = end < 0
        if last:
            end = len(text)
        if end - begin > width or not text.isascii():
            _wrap_line(text, begin, end, width, words, starts)
        if last:
            return starts
        begin = end + 1
        starts.append(begin)


def _wrap_line(text: str, begin: int, end: int, width: int, words: bool, starts: array[int]) -> None:
    """Append the breaks inside text[begin:end], which holds no newline."""
    if (end - begin) * 2 <= width:
        return
    find = _break_ascii if text[begin:end].isascii() else _break_wide
    while (begin := find(text, begin, end, width, words)) < end:
        starts.append(begin)


def _break_ascii(text: str, begin: int, end: int, width: int, words: bool) -> int:
    """Return the end of the line that starts at `begin`, if every character is one cell wide."""
    if end - begin <= width:
        return end
    space = text.rfind(" ", begin, begin + width + 1) if words else -1
    if space < 0 or text[begin:space].isspace() or space == begin:
        return begin + width
    return _skip_spaces(text, space, end)


def _break_wide(text: str, begin: int, end: int, width: int, words: bool) -> int:
    """Return the same by graphemes. It looks at little more than one width of text, however long the line."""
    reach = width + 1
    while True:
        window = text[begin : min(end, begin + reach)]
        places, ends = _graphemes(window)
        fitting = bisect_right(ends, width)
        if fitting < len(ends):
            break
        if begin + reach >= end:
            return end
        reach *= 4
    fitting = max(fitting, 1)
    cut = places[fitting] if fitting < len(places) else len(window)
    if not words:
        return begin + cut
    if window[cut : cut + 1] == " ":
        return _skip_spaces(text, begin + cut, end)
    for number in range(fitting, 0, -1):
        at = places[number] if number < len(places) else len(window)
        if at < len(window) and _may_break(window[places[number - 1]], window[at]):
            return begin + at
    return begin + cut


def _graphemes(window: str) -> tuple[Sequence[int], list[int]]:
    """Return the start of each grapheme, and the cells up to its end."""
    sizes = list(map(get_character_cell_size, window))
    if 0 not in sizes and "\ufe0f" not in window:
        return range(len(sizes)), list(accumulate(sizes))
    spans, _ = split_graphemes(window)
    return [start for start, _, _ in spans], list(accumulate(size for _, _, size in spans))


def _may_break(before: str, after: str) -> bool:
    if before == " ":
        return after != " "
    wide = before >= "\u2e80" or after >= "\u2e80"
    return wide and after not in _NEVER_FIRST and before not in _NEVER_LAST and after != " "


def _skip_spaces(text: str, position: int, end: int) -> int:
    while position < end and text[position] == " ":
        position += 1
    return position
