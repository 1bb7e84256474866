"""Turns themes/*.toml into Textual themes. An unusable file is reported and skipped; the app starts in any
case.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual.app import App
from textual.color import Color, ColorParseError
from textual.theme import BUILTIN_THEMES, Theme

from .clean import clean_line
from .config import ConfigError, change_config
from .errors import OutriderError

DEFAULT_THEME = "outrider-dark"
COLORLESS_THEME = "terminal"
"""The theme under NO_COLOR: Textual's filter for it works on the terminal's own colors."""
MAX_SIZE = 100_000
"""Bytes. A longer file is not a theme."""

COLORS = frozenset(
    (
        *("primary", "secondary", "accent", "success", "warning", "error"),
        *("foreground", "background", "surface", "panel", "boost"),
    )
)
STYLES = frozenset(("none", "bold", "dim", "italic", "underline", "reverse", "strike"))
VARIABLES = {
    "token-draft": "success",
    "token-head": "secondary",
    "token-lookup": "accent",
    "token-main": "warning",
    "token-rejected": "error",
    "code-background": "panel",
    "quiet": "text-muted",
    "line": "panel-lighten-3",
}
"""The variables of our style sheets, each with Textual's variable that a theme without it uses."""


@dataclass(frozen=True)
class Failure:
    """A theme file that is not used."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"theme {self.path.name} is not used: {self.reason}"


class ThemeError(OutriderError):
    """The fault of a theme file, in one line."""


def load_themes(folders: Iterable[Path]) -> tuple[list[Theme], list[Failure]]:
    """Return the themes in `folders`, named after their files. Of two with one name, the later counts."""
    loaded: dict[str, Theme] = {}
    failed: list[Failure] = []
    for folder in folders:
        for path in sorted(folder.glob("*.toml")):
            try:
                loaded[path.stem] = read_theme(path)
            except ThemeError as error:
                failed.append(Failure(path, str(error)))
    return list(loaded.values()), failed


def read_theme(path: Path) -> Theme:
    """Read one theme. Raises `ThemeError`."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SIZE + 1)
        if len(content) > MAX_SIZE:
            raise ThemeError("it is larger than 100 kB")
        data = tomllib.loads(content.decode("utf-8"))
    except OSError as error:
        raise ThemeError(f"it cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise ThemeError(f"it is not TOML: {type(error).__name__}") from None
    except tomllib.TOMLDecodeError as error:
        raise ThemeError(str(error)) from None
    variables = _table(data.pop("variables", {}))
    flags = {name: _flag(name, data.pop(name)) for name in ("dark", "ansi") if name in data}
    colors = {name: _color(name, value) for name, value in data.items()}
    if unknown := colors.keys() - COLORS:
        raise ThemeError(f"{min(unknown)} is not a color of a theme")
    if "primary" not in colors:
        raise ThemeError("primary is missing")
    return Theme(name=path.stem, variables=variables, **colors, **flags)  # type: ignore[arg-type]


def _table(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ThemeError("variables must be a section, [variables]")
    return {name: _variable(name, item) for name, item in value.items()}


def _variable(name: str, value: object) -> str:
    """Return a checked variable: a color, or words such as "bold" for names ending in -style.

    Anything else would break a style sheet.
    """
    if not name.endswith("-style"):
        return _color(name, value)
    if not isinstance(value, str) or not value or set(value.split()) - STYLES:
        raise ThemeError(f"{name} is not a text style")
    return value


def _color(name: str, value: object) -> str:
    try:
        Color.parse(value if isinstance(value, str) else "")
    except ColorParseError:
        raise ThemeError(f"{name} is not a color: {str(value)[:40]!r}") from None
    return str(value)


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ThemeError(f"{name} must be true or false")
    return value


def default_variables(theme: Theme) -> dict[str, str]:
    """Return values for the variables that a theme does not name itself."""
    generated = theme.to_color_system().generate()
    # Textual's style sheets need some variables that Textual does not generate for an ANSI theme.
    ansi = BUILTIN_THEMES["ansi-dark" if theme.dark else "ansi-light"].variables if theme.ansi else {}
    return ansi | {ours: generated.get(theirs, theme.primary) for ours, theirs in VARIABLES.items()}


class ThemeChoice:
    """The theme of an app: set at the start, changed, and saved."""

    def __init__(self, app: App[Any], config: Path) -> None:
        """`config` is the path of config.toml."""
        self._app = app
        self._config = config

    def install(self, folders: Iterable[Path], wanted: str) -> list[str]:
        """Register the themes in `folders` and take the `wanted` one. Return the problems, in sentences."""
        themes, failures = load_themes(folders)
        for theme in themes:
            self._app.register_theme(theme)
        if self._app.no_color:
            wanted = COLORLESS_THEME
        problems = [str(failure) for failure in failures]
        if self._app.get_theme(wanted) is None:
            problems.append(f"There is no theme {wanted!r}; {DEFAULT_THEME} is used")
            wanted = DEFAULT_THEME
        self._app.theme = wanted
        return problems

    def take(self, name: str) -> None:
        """Change to the theme `name`, or show which themes there are."""
        if self._app.get_theme(name):
            self._app.theme = name
        else:
            there = ", ".join(sorted(self._app.available_themes))
            words = clean_line(f"There is no theme {name}: {there}")
            self._app.notify(words, severity="error", markup=False)

    def save(self, name: str) -> None:
        """Begin with the theme `name` from the next start on."""
        try:
            change_config(self._config, ("appearance", "theme"), name)
        except (ConfigError, OSError) as error:
            self._app.notify(clean_line(f"It is not saved: {error}"), severity="error", markup=False)
