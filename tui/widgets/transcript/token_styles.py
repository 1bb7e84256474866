"""Looks and origins to terminal styles, from the theme's colors.

An origin never relies on color alone where it is the quiet cue or the important one: the main model's own
tokens are underlined. Headings and links have no underline, and prose has none of the origins' usual colors,
so that each has one meaning only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from rich.style import Style
from textual.color import TRANSPARENT, Color, ColorParseError

from tui.protocol import Origin
from tui.widgets.transcript import style_codes

Highlight = Literal["off", "quiet", "full"]

_TINT: Final = 0.22
"""Share of an origin's color in the background of code."""

_COLORS: Final[dict[int, tuple[str, ...]]] = {
    style_codes.MARKER: ("text-primary", "primary"),
    style_codes.BAR: ("text-primary", "primary"),
    style_codes.USER_BAR: ("text-primary", "primary"),
    style_codes.ERROR: ("text-error", "error"),
    style_codes.KEYWORD: ("text-primary", "primary"),
    style_codes.FUNCTION: ("text-success", "success"),
    style_codes.BUILTIN: ("text-secondary", "secondary"),
    style_codes.STRING: ("text-warning", "warning"),
    style_codes.NUMBER: ("text-secondary", "secondary"),
    style_codes.TYPE: ("text-secondary", "secondary"),
    style_codes.INSERTED: ("text-success", "success"),
    style_codes.DELETED: ("text-error", "error"),
}
_FAINT: Final = frozenset((style_codes.RULE, style_codes.NOTE, style_codes.COMMENT))
_BOLD: Final = frozenset((style_codes.KEYWORD, style_codes.USER, style_codes.USER_BAR, style_codes.ERROR))

_ORIGINS: Final[dict[int, tuple[str, str]]] = {
    Origin.DRAFT: ("token-draft", "success"),
    Origin.HEAD: ("token-head", "secondary"),
    Origin.LOOKUP: ("token-lookup", "accent"),
    Origin.MAIN: ("token-main", "warning"),
}
_MONOCHROME: Final[dict[int, Style]] = {
    Origin.DRAFT: Style(dim=True),
    Origin.HEAD: Style(italic=True),
    Origin.LOOKUP: Style(dim=True, italic=True),
    Origin.MAIN: Style(bold=True),
}


class Theme:
    """The colors that a palette needs, from the app's theme variables, with a fallback for each."""

    def __init__(self, variables: Mapping[str, str], base: Style, ansi: bool, monochrome: bool) -> None:
        """`base` is the widget's own style; with `ansi`, colors are the terminal's and cannot be mixed."""
        self._variables = variables
        self.base = base
        self.ansi = ansi
        self.monochrome = monochrome

    def color(self, *names: str) -> Color | None:
        """Return the first of the variables that holds a color."""
        for name in names:
            value = self._variables.get(name, "")
            try:
                return Color.parse(self._variables.get(value[1:], "") if value.startswith("$") else value)
            except ColorParseError:
                continue
        return None

    def style(self, *names: str) -> Style:
        """Return a style with that foreground, or an empty style."""
        color = self.color(*names)
        return Style() if color is None else Style(color=color.rich_color)

    def faint(self) -> Style:
        """Return the theme's quiet color, else the foreground nearer to the background, else dim."""
        if (quiet := self.color("quiet")) is not None:
            return Style(color=quiet.rich_color)
        front, back = self.color("foreground"), self.color("background")
        if self.ansi or front is None or back is None:
            return Style(dim=True)
        return Style(color=back.blend(front, 0.6).rich_color)

    def tint(self, color: Color | None) -> Style:
        """Return the background of code, with some of `color` in it."""
        back = self.color("code-background", "surface")
        if back is None or (self.ansi and color is not None):
            return Style()
        mixed = back if color is None else back.blend(color, _TINT)
        return Style() if mixed.ansi == -1 else Style(bgcolor=mixed.rich_color)


class Palette:
    """The style of every (look, origin) for one theme and one way of highlighting."""

    def __init__(self, theme: Theme, highlight: Highlight, background: Color = TRANSPARENT) -> None:
        self.base = theme.base
        self.background = background
        """The background of the text."""
        self._theme = theme
        self._highlight = highlight
        self._styles: dict[int, Style] = {}
        self._same: dict[Style, Style] = {}

    def style(self, look: int, origin: int) -> Style:
        """Return the style. Equal styles are one object, so that runs of them can be joined."""
        key = look << 3 | origin
        style = self._styles.get(key)
        if style is None:
            style = self.base + self._look(look) + self._origin(origin, look >= style_codes.FENCE)
            style = self._styles[key] = self._same.setdefault(style, style)
        return style

    def _look(self, look: int) -> Style:
        theme = self._theme
        if look >= style_codes.ALONE:
            style = theme.faint() if look in _FAINT else theme.style(*_COLORS.get(look, ()))
            style += Style(
                bold=True if look in _BOLD else None, italic=True if look == style_codes.COMMENT else None
            )
            return theme.tint(None) + style if look >= style_codes.FENCE else style
        style = Style(
            bold=bool(look & style_codes.BOLD) or None,
            italic=bool(look & style_codes.ITALIC) or None,
            strike=bool(look & style_codes.STRIKE) or None,
        )
        if look & style_codes.HEADING:
            style += theme.style("text-primary", "primary")
        elif look & style_codes.SUBHEADING:
            style += theme.style("text-secondary", "secondary")
        if look & style_codes.CODE:
            style += theme.style("text-secondary", "secondary") if theme.ansi else theme.tint(None)
        if look & style_codes.LINK:
            style += theme.style("text-primary", "primary")
        return style + theme.faint() if look & style_codes.FAINT else style

    def _origin(self, origin: int, code: bool) -> Style:
        theme = self._theme
        if origin == Origin.REJECTED:
            color = theme.style("token-rejected", "error")
            return color + Style(strike=True, dim=True, bold=False, italic=False)
        if origin == Origin.PLAIN or self._highlight == "off":
            return Style()
        main = Style(underline=True) if origin == Origin.MAIN else Style()
        if self._highlight == "quiet":
            return main if code or origin != Origin.MAIN else main + theme.style(*_ORIGINS[origin])
        if theme.monochrome:
            return main + _MONOCHROME[origin]
        if code and not theme.ansi:
            # Tints are close to each other in 256 colors.
            mark = Style(italic=True) if origin == Origin.LOOKUP else main
            return mark + theme.tint(theme.color(*_ORIGINS[origin]))
        return main + theme.style(*_ORIGINS[origin])
