"""One laid-out line to a Strip. It decides nothing about lines or colors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby

from rich.cells import split_graphemes
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tui.protocol import Origin
from tui.widgets.transcript import style_codes
from tui.widgets.transcript.blocks import BAR, Block
from tui.widgets.transcript.token_styles import Palette


def paint(block: Block, number: int, gutter: tuple[str, int], width: int, palette: Palette) -> Strip:
    """Return line `number` of a block, `width` cells wide, after a gutter, which is a text with its look."""
    marked = block.paintable()
    begin, end = block.line(number)
    line = marked.text[begin:end], marked.looks[begin:end], marked.origins[begin:end]
    return _painted(*line, gutter, block.first if number == 0 else block.rest, width, block.fills, palette)


@lru_cache(256)
def _painted(
    text: str, shapes: bytes, origins: bytes, gutter: tuple[str, int], prefix: str, width: int, fills: bool,
    palette: Palette,
) -> Strip:  # fmt: skip
    """Cached, because a growing answer asks for most of its lines again and again."""
    segments = _prefix(gutter, prefix, palette)
    # A grapheme is one cell or two, never a part: it takes the style of its first character.
    cuts = None if text.isascii() else [start for start, _, _ in split_graphemes(text)[0]]
    at = item = 0
    for style, group in groupby(_styles(text, shapes, origins, cuts, palette)):
        item += sum(1 for _ in group)
        stop = item if cuts is None else cuts[item] if item < len(cuts) else len(text)
        segments.append(Segment(text[at:stop], style))
        at = stop
    return Strip(segments).adjust_cell_length(
        width, palette.style(style_codes.FENCE, Origin.PLAIN) if fills else palette.base
    )


def _styles(
    text: str, shapes: bytes, origins: bytes, cuts: Sequence[int] | None, palette: Palette
) -> Iterator[Style]:
    """Return the style of each letter, or of each grapheme that starts at one of `cuts`."""
    letters: Iterable[tuple[str, int, int]] = zip(text, shapes, origins, strict=True)
    if cuts is not None:
        every = list(letters)
        letters = (every[cut] for cut in cuts)
    for letter, look, origin in letters:
        # A space is not underlined: tokens begin with one, and the line would tie them to the word before.
        yield palette.style(look, Origin.DRAFT if origin == Origin.MAIN and letter == " " else origin)


def _prefix(gutter: tuple[str, int], prefix: str, palette: Palette) -> list[Segment]:
    segments = [Segment(gutter[0], palette.style(gutter[1], Origin.PLAIN))]
    bars = len(prefix) - len(prefix.lstrip(BAR))
    if bars:
        segments.append(Segment(prefix[:bars], palette.style(style_codes.BAR, Origin.PLAIN)))
    if prefix[bars:]:
        segments.append(Segment(prefix[bars:], palette.style(style_codes.MARKER, Origin.PLAIN)))
    return segments


def select(strip: Strip, begin: int, end: int, style: Style) -> Strip:
    """Return `strip` with `style` over its characters begin to end, counted in code points; end -1 is its
    end."""
    segments: list[Segment] = []
    at = 0
    for text, own, _ in strip:
        stop = at + len(text)
        low = min(max(begin, at), stop) - at
        high = len(text) if end < 0 else min(max(end, at), stop) - at
        parts = (text[:low], own), (text[low:high], style if own is None else own + style), (text[high:], own)
        segments += [Segment(part, look) for part, look in parts if part]
        at = stop
    return Strip(segments, strip.cell_length)
