"""Draws a benchmark as one SVG: plain and drafted speed of each prompt, and the acceptance at each position.

It needs no library, and the SVG contains no script. All text in it is cleaned and escaped. Long names are cut
by their number of characters, because text is not measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from ...chat.trace import Tries
from ...clean import clean_line
from ...quantities import percent
from .report import drafting, number, shortened
from .results import Bench, Result, geometric_mean, joined

WIDTH = 900
_LEFT, _BARS, _ROW, _BAR = 270, 490, 30, 11
_PLOT_WIDTH, _PLOT_HEIGHT = 560, 180
_PLAIN, _DRAFTED, _INK, _FAINT = "#9aa5b1", "#1f6feb", "#1f2933", "#d5dae0"
_LINES = ("#1f6feb", "#d9480f", "#2b8a3e", "#862e9c", "#b58900", "#0b7285")


def chart(bench: Bench) -> str:
    """Return the whole SVG document."""
    parts: list[str] = []
    y = _head(parts, bench)
    fastest = max((speed for series in bench.series for speed in _speeds(series.results)), default=1.0)
    for name, results in _groups(bench):
        y = _bars(parts, name, results, fastest, y)
    y = _acceptance(parts, [(name, joined(results)) for name, results in _groups(bench)], y)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="{_INK}">'
    )
    background = f'<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>'
    return "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', head, background, *parts, "</svg>", ""])


def _head(parts: list[str], bench: Bench) -> int:
    loaded = bench.series[0].loaded
    parts.append(_text(20, 32, f"{loaded.main.name}: tokens per second, plain and drafted", size=17))
    about = [f"{loaded.backend} on {loaded.device}", drafting(bench.plan), f"{bench.version}, {bench.date}"]
    parts.append(_text(20, 54, " · ".join(about)))
    for x, color, name in ((20, _PLAIN, "plain"), (90, _DRAFTED, "drafted")):
        parts += [_rect(x, 68, 12, _BAR, color), _text(x + 18, 78, name)]
    return 100


def _groups(bench: Bench) -> Iterator[tuple[str, list[Result]]]:
    """Yield the groups of the chart: one draft at one temperature."""
    for series in bench.series:
        for temperature in dict.fromkeys(result.temperature for result in series.results):
            results = [result for result in series.results if result.temperature == temperature]
            draft = series.loaded.draft.name if series.loaded.draft else "no draft model"
            yield f"{draft}, temperature {temperature:g}", results


def _speeds(results: Sequence[Result]) -> Iterator[float]:
    for result in results:
        for timing in (result.plain, result.drafted):
            if timing.tokens_per_second:
                yield timing.tokens_per_second


def _bars(parts: list[str], name: str, results: Sequence[Result], fastest: float, y: int) -> int:
    """Draw a pair of bars for each result, from `y` down. Return the `y` below them."""
    mean = geometric_mean(result.ratio for result in results)
    parts.append(_text(20, y + 14, f"{name}: {number(mean, 2)}× in the geometric mean", size=14))
    y += 26
    for result in results:
        parts.append(_text(_LEFT - 10, y + 15, shortened(result.prompt.text, 36), anchor="end"))
        for line, (timing, color) in enumerate(((result.plain, _PLAIN), (result.drafted, _DRAFTED))):
            speed, top = timing.tokens_per_second, y + line * (_BAR + 1)
            length = _BARS * (speed or 0) / fastest
            ratio = f" ({number(result.ratio, 2)}×)" if line and result.ratio else ""
            parts.append(_rect(_LEFT, top, length, _BAR, color))
            parts.append(_text(_LEFT + length + 6, top + 10, f"{number(speed)}{ratio}", size=11))
        y += _ROW
    return y + 16


def _acceptance(parts: list[str], lines: Sequence[tuple[str, Sequence[Tries]]], y: int) -> int:
    """Draw a line for each group: P(token accepted | all before it accepted), by position."""
    lines = [(name, positions) for name, positions in lines if positions]
    if not lines:
        return y
    parts.append(_text(20, y + 14, "Accepted at each position of the draft, of those reached", size=14))
    left, top, longest = 70, y + 34, max(len(positions) for _, positions in lines)
    step = _PLOT_WIDTH / max(longest, 2)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        height = top + _PLOT_HEIGHT * (1 - share)
        parts.append(f'<path d="M{left} {height:.1f}h{_PLOT_WIDTH}" stroke="{_FAINT}"/>')
        parts.append(_text(left - 8, height + 4, percent(share), anchor="end"))
    for place in range(longest):
        parts.append(
            _text(left + step * (place + 0.5), top + _PLOT_HEIGHT + 18, str(place + 1), anchor="middle")
        )
    for index, (name, positions) in enumerate(lines):
        color = _LINES[index % len(_LINES)]
        parts += _line(positions, left, top, step, color)
        parts += [_rect(left, top + _PLOT_HEIGHT + 32 + 18 * index, 12, _BAR, color)]
        parts += [_text(left + 18, top + _PLOT_HEIGHT + 42 + 18 * index, name)]
    return top + _PLOT_HEIGHT + 50 + 18 * len(lines)


def _line(positions: Sequence[Tries], left: float, top: float, step: float, color: str) -> Iterator[str]:
    points = [
        (left + step * (place + 0.5), top + _PLOT_HEIGHT * (1 - accepted / reached))
        for place, (reached, accepted) in enumerate(positions)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    yield f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>'
    for (x, y), (reached, accepted) in zip(points, positions, strict=True):
        tip = f"<title>{accepted} of {reached}</title>"
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}">{tip}</circle>'


def _rect(x: float, y: float, width: float, height: float, color: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width:.1f}" height="{height}" rx="1.5" fill="{color}"/>'


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start") -> str:
    shown = escape(clean_line(text, 160))
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{shown}</text>'
