"""Where lines break: positions in a text, for a width in terminal cells. Knows no styles.

Widths are Rich's, because Textual crops and joins strips by them.
"""

from __future__ import annotations

from array import array

from rich.cells import cell_len, split_graphemes

_NEVER_FIRST = frozenset("、。，．！？：；）］｝」』】〉》〕・ー々〟゛゜")
_NEVER_LAST = frozenset("（［｛「『【〈《〔〝")


def wrap(text: str, width: int, words: bool = True) -> array[int]:
    """The position at which each line starts, 0 first. A newline ends the line that it stands in.

    With `words`, lines break after spaces and between wide characters and longer words are folded;
    without, at exactly `width` cells. Spaces at a break stay at the end of the line before it.
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
    line = text[begin:end]
    if line.isascii():
        find = _break_ascii
    elif len(line) * 2 <= width or cell_len(line) <= width:
        return
    else:
        find = _break_wide
    while (begin := find(text, begin, end, width, words)) < end:
        starts.append(begin)


def _break_ascii(text: str, begin: int, end: int, width: int, words: bool) -> int:
    """Where the line that starts at `begin` ends, if every character is one cell wide."""
    if end - begin <= width:
        return end
    space = text.rfind(" ", begin, begin + width + 1) if words else -1
    if space < 0 or text[begin:space].isspace() or space == begin:
        return begin + width
    return _skip_spaces(text, space, end)


def _break_wide(text: str, begin: int, end: int, width: int, words: bool) -> int:
    """As `_break_ascii`, by graphemes. Looks at about two widths of text, however long the line."""
    reach = 2 * width + 32
    while True:
        window = text[begin : min(end, begin + reach)]
        spans, cells = split_graphemes(window)
        if cells > width or begin + reach >= end:
            break
        reach *= 4
    cells = best = 0
    before = ""
    for start, stop, size in spans:
        first = window[start]
        if words and start and _may_break(before, first):
            best = start
        if cells + size > width and start:
            if words and first == " ":
                return _skip_spaces(text, begin + start, end)
            return begin + (best or start)
        cells += size
        before = window[start:stop][0]
    return end


def _may_break(before: str, after: str) -> bool:
    if before == " ":
        return after != " "
    wide = before >= "\u2e80" or after >= "\u2e80"
    return wide and after not in _NEVER_FIRST and before not in _NEVER_LAST and after != " "


def _skip_spaces(text: str, position: int, end: int) -> int:
    while position < end and text[position] == " ":
        position += 1
    return position
