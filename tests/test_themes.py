"""Themes: ours are complete and tell the origins apart, a bad file of a user blocks nothing."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
from rich.color import ColorSystem
from textual.color import Color

from tests.support.chat import outrider
from tui.paths import shipped
from tui.themes import VARIABLES, load_themes

OURS, _ = load_themes([shipped("themes")])
ORIGINS = ("token-draft", "token-head", "token-lookup", "token-main", "token-rejected")


def contrast(one: Color, other: Color) -> float:
    """The contrast ratio of WCAG 2.2."""

    def luminance(color: Color) -> float:
        parts = (part / 255 for part in color.rgb)
        linear = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_our_themes_are_there() -> None:
    assert {theme.name for theme in OURS} >= {
        "outrider-dark",
        "outrider-light",
        "high-contrast",
        "colour-blind",
        "terminal",
    }


@pytest.mark.parametrize("theme", OURS, ids=lambda theme: theme.name)
def test_a_theme_names_every_variable(theme) -> None:
    assert theme.variables.keys() >= VARIABLES.keys()


@pytest.mark.parametrize("theme", OURS, ids=lambda theme: theme.name)
def test_the_origins_differ_in_sixteen_colors(theme) -> None:
    colors = [Color.parse(theme.variables[name]).rich_color for name in ORIGINS]
    numbers = {color.downgrade(ColorSystem.STANDARD).number for color in colors}
    assert len(numbers) == len(ORIGINS)


BLINDNESS = {
    "protanopia": ((0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)),
    "deuteranopia": ((0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)),
    "tritanopia": ((1.256, -0.077, -0.179), (-0.078, 0.931, 0.148), (0.005, 0.691, 0.304)),
}  # fmt: skip
"""What is seen of linear red, green and blue: Machado, Oliveira, Fernandes, doi 10.1109/TVCG.2009.113."""


def seen(color: Color, matrix: tuple[tuple[float, ...], ...]) -> tuple[float, float, float]:
    """A color as CIE L*a*b* of what is seen of it."""
    parts = [part / 255 for part in color.rgb]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    red, green, blue = (
        min(1.0, max(0.0, sum(a * b for a, b in zip(row, linear, strict=True)))) for row in matrix
    )
    xyz = (
        (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505,
        0.2126 * red + 0.7152 * green + 0.0722 * blue,
        (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089,
    )
    x, y, z = (part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116 for part in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("kind", BLINDNESS)
def test_the_color_blind_theme_tells_the_origins_apart_for_every_eye(kind: str) -> None:
    theme = next(theme for theme in OURS if theme.name == "colour-blind")
    colors = [seen(Color.parse(theme.variables[name]), BLINDNESS[kind]) for name in ORIGINS]
    for one, other in itertools.combinations(colors, 2):
        assert math.dist(one, other) > 20, "CIE76; from 2.3 on a difference can be seen"


@pytest.mark.parametrize("theme", [theme for theme in OURS if not theme.ansi], ids=lambda theme: theme.name)
def test_every_text_is_readable(theme) -> None:
    least = 7 if theme.name == "high-contrast" else 4.5
    names = ["foreground", "primary", "error", "warning", "success"]
    texts = {name: getattr(theme, name) for name in names} | {
        name: theme.variables[name] for name in (*ORIGINS, "quiet")
    }
    backs = [theme.background, theme.variables["code-background"]]
    for (name, text), back in itertools.product(texts.items(), backs):
        assert contrast(Color.parse(text), Color.parse(back)) >= least, name


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("primary = ", "Invalid value"),
        ('primary = "#12"', "primary is not a color"),
        ('accent = "red"', "primary is missing"),
        ('primary = "red"\nbackgruond = "red"', "backgruond"),
        ('primary = "red"\ndark = "yes"', "dark must be true or false"),
        ('primary = "red"\n[variables]\nline = "$nothing"', "line is not a color"),
        ('primary = "red"\n[variables]\nlink-style = "blink; color: red"', "not a text style"),
        ('primary = "red"\nvariables = 3', "must be a section"),
        ("#" * 200_000, "larger than"),
    ],
)
def test_a_bad_theme_is_named_with_its_reason_and_the_others_load(
    tmp_path: Path, content: str, named: str
) -> None:
    (tmp_path / "bad.toml").write_text(content)
    (tmp_path / "good.toml").write_text('primary = "red"')
    loaded, failed = load_themes([tmp_path, tmp_path / "missing"])
    assert [theme.name for theme in loaded] == ["good"]
    assert len(failed) == 1
    assert named in str(failed[0])
    assert "bad.toml" in str(failed[0])


@pytest.mark.parametrize("theme", [*(theme.name for theme in OURS), "textual-dark", "ansi-light", "mine"])
async def test_the_chat_starts_with_every_theme(tmp_path: Path, theme: str) -> None:
    (tmp_path / "themes").mkdir()
    (tmp_path / "themes" / "mine.toml").write_text('primary = "red"')
    (tmp_path / "themes" / "bad.toml").write_text("primary = ")
    app = outrider(tmp_path, theme=theme)
    async with app.run_test() as pilot:
        await pilot.pause()
        assert app.theme == theme
        assert "bad.toml" in str(app.screen.query_one("#banner").content)


async def test_a_theme_that_does_not_exist_is_said_and_the_default_is_used(tmp_path: Path) -> None:
    app = outrider(tmp_path, theme="gone")
    async with app.run_test() as pilot:
        await pilot.pause()
        assert app.theme == "outrider-dark"
        assert "'gone'" in str(app.screen.query_one("#banner").content)


async def test_no_color_takes_the_terminals_own_colors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = outrider(tmp_path)
    async with app.run_test() as pilot:
        await pilot.pause()
        assert app.theme == "terminal"
