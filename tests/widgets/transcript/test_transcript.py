"""The transcript widget in a real app: streaming, following, looks, selection, what reaches the terminal."""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.color import ColorSystem
from rich.style import Style
from textual.pilot import Pilot
from textual.strip import Strip
from textual.theme import Theme as AppTheme

from tests.support.chat import until
from tests.support.hostile import hostile
from tests.support.paths import ROOT
from tests.support.rest import at_rest
from tests.support.terminal import python, violations
from tests.support.transcript import Host
from tui.clean import has_controls
from tui.protocol import Origin
from tui.themes import read_theme
from tui.widgets.transcript import Transcript, style_codes, throttle
from tui.widgets.transcript.message_list import MessageList
from tui.widgets.transcript.scrollbar import SteadyScrollBar
from tui.widgets.transcript.throttle import Throttle
from tui.widgets.transcript.token_styles import Highlight, Palette, Theme

PLAIN, DRAFT, MAIN, REJECTED, LOOKUP, HEAD = map(int, Origin)
PARAGRAPH = "Some words of a paragraph that is a little longer than one line of the screen is wide.\n\n"


@asynccontextmanager
async def host(
    size: tuple[int, int] = (60, 12), **options: Any
) -> AsyncIterator[tuple[Transcript, Pilot[None]]]:
    app = Host(**options)
    async with app.run_test(size=size) as pilot:
        yield app.transcript, pilot


def text_lines(transcript: Transcript) -> list[str]:
    """All lines, in view or not."""
    return [strip_of(transcript, line).text.rstrip() for line in range(transcript.virtual_size.height)]


def strip_of(transcript: Transcript, line: int) -> Strip:
    return transcript.painter.strip(transcript.conversation, line, transcript.size.width)


def view(transcript: Transcript) -> list[str]:
    return [transcript.render_line(line).text.rstrip() for line in range(transcript.size.height)]


async def flushed(transcript: Transcript, pilot: Pilot[None]) -> None:
    transcript.writer.flush()
    await pilot.pause()


def answer(transcript: Transcript, text: str, origin: int = DRAFT) -> None:
    transcript.writer.begin("assistant")
    transcript.writer.append([(text, origin)])
    transcript.writer.finish()


async def test_turns_are_told_apart_and_a_prompt_is_shown_as_it_was_typed() -> None:
    async with host() as (transcript, pilot):
        transcript.writer.begin("user", "a *star* and\n# no heading")
        answer(transcript, "a **bold** answer")
        transcript.writer.begin("assistant")
        transcript.writer.append([("cut", MAIN)])
        transcript.writer.finish("stopped")
        transcript.writer.fail("the engine died", "outrider doctor")
        await pilot.pause()
        assert text_lines(transcript) == [
            *("▌ a *star* and", "▌ # no heading", "", "  a bold answer", "", "  cut", "  stopped", ""),
            *("✗ the engine died", "  outrider doctor"),
        ]
        assert [message.role for message in transcript.messages] == [
            "user",
            "assistant",
            "assistant",
            "error",
        ]
        assert transcript.writer.text_of(1) == "a **bold** answer"


async def test_text_of_a_turn_is_what_was_written_without_what_was_rejected() -> None:
    async with host() as (transcript, _):
        transcript.writer.begin("assistant")
        transcript.writer.append([("One\n", DRAFT), (" nope", REJECTED), ("\n\ttwo", MAIN), ("\x1b[2J", 7)])
        assert transcript.writer.text_of(0) == "One\n\n\ttwo\ufffd[2J"


async def test_text_may_come_before_the_screen_and_not_after_the_end() -> None:
    app = Host()
    app.transcript.writer.begin("assistant")
    app.transcript.writer.append([("early", DRAFT)])
    async with app.run_test(size=(60, 12)) as pilot:
        await until(pilot, lambda: text_lines(app.transcript) == ["  early"])
        app.transcript.writer.finish()
        app.transcript.writer.append([(" late", DRAFT)])
        await flushed(app.transcript, pilot)
        assert text_lines(app.transcript) == ["  early"]
        app.transcript.writer.clear()
        app.transcript.writer.append([(" late", DRAFT)])
        app.transcript.writer.finish("nothing to finish")
        await flushed(app.transcript, pilot)
        assert text_lines(app.transcript) == []


async def test_pieces_show_by_themselves() -> None:
    async with host(interval=0.01) as (transcript, pilot):
        transcript.writer.begin("assistant")
        for piece, shown in (("on", "  on"), ("e ", "  one"), ("two", "  one two")):
            transcript.writer.append([(piece, DRAFT)])
            await until(pilot, lambda shown=shown: view(transcript)[0] == shown)
        assert transcript.writer.text_of(0) == "one two"


async def painted_lines_of_a_frame(transcript: Transcript, pilot: Pilot[None]) -> int:
    painted: list[int] = []
    real = transcript.painter._paint

    def paint(conversation: MessageList, line: int, width: int) -> Strip:
        painted.append(line)
        return real(conversation, line, width)

    transcript.painter._paint = paint  # type: ignore[method-assign]
    transcript.writer.append([("word ", DRAFT)])
    await flushed(transcript, pilot)
    transcript.painter._paint = real  # type: ignore[method-assign]
    return len(painted)


async def test_a_frame_costs_the_same_however_long_the_answer_is() -> None:
    async with host() as (transcript, pilot):
        painted = []
        for paragraphs in (1, 20, 1_000):
            transcript.writer.clear()
            transcript.writer.begin("assistant")
            transcript.writer.append([(PARAGRAPH, DRAFT)] * paragraphs + [("The end. ", MAIN)])
            await flushed(transcript, pilot)
            painted.append(await painted_lines_of_a_frame(transcript, pilot))
        assert max(painted) <= transcript.size.height
        assert painted[2] == painted[1]


async def test_only_lines_that_changed_are_refreshed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with host() as (transcript, pilot):
        transcript.writer.begin("assistant")
        transcript.writer.append([("# head\n\nsome words\n\n", DRAFT), ("the end", MAIN)])
        await flushed(transcript, pilot)
        regions: list[Any] = []
        monkeypatch.setattr(transcript, "refresh", lambda *region, **_: regions.extend(region))
        transcript.writer.append([(" grows", MAIN)])
        transcript.writer.flush()
        assert [(region.y, region.height) for region in regions] == [(4, 1)]


async def test_the_scrollbar_is_painted_when_it_looks_different_and_only_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    painted: list[None] = []
    real = SteadyScrollBar.render
    monkeypatch.setattr(SteadyScrollBar, "render", lambda bar: (painted.append(None), real(bar))[1])

    def column() -> list[Any]:
        strips = pilot.app.screen._compositor.render_strips()
        return [strip.crop(strip.cell_length - 1)._segments for strip in strips]

    async def is_fresh() -> bool:
        """Whether it shows what it would show if it were painted now."""
        await pilot.pause()
        shown, count = column(), len(painted)
        transcript.vertical_scrollbar.refresh(layout=True)
        await pilot.pause()
        del painted[count:]
        return shown == column()

    async with host() as (transcript, pilot):
        transcript.writer.begin("assistant")
        transcript.writer.append([("a line\n\n", DRAFT)] * 8)
        await flushed(transcript, pilot)
        painted.clear()
        for _ in range(60):
            transcript.writer.append([("a line\n\n", DRAFT)])
            await flushed(transcript, pilot)
            assert await is_fresh()
        assert 1 <= len(painted) <= 40
        looks_of_it = [column()]
        bar = transcript.vertical_scrollbar
        changes: list[Callable[[], object]] = [
            lambda: transcript.scroll_to(y=30, animate=False),
            lambda: setattr(pilot.app, "theme", "textual-light"),
            lambda: setattr(transcript.styles, "scrollbar_color", "red"),
            lambda: setattr(bar, "mouse_over", True),
            transcript.writer.clear,
        ]
        for change in changes:
            change()
            assert await is_fresh()
            looks_of_it.append(column())
            assert looks_of_it[-1] != looks_of_it[-2]


async def test_highlighting_moves_no_character_and_paints_only_the_view() -> None:
    async with host() as (transcript, pilot):
        transcript.writer.begin("assistant")
        draw = random.Random(1)
        for word in (
            PARAGRAPH + "- item `code`\n\n```py\nx = 1\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
        ).split(" ") * 40:
            transcript.writer.append([(word + " ", draw.choice((DRAFT, MAIN, PLAIN)))])
        transcript.writer.finish()
        await pilot.pause()
        seen, styles = [], set()
        modes: tuple[Highlight, ...] = ("quiet", "full", "off")
        for mode in modes:
            transcript.highlight = mode
            await pilot.pause()
            assert len(transcript.painter.strips) <= transcript.size.height + 1
            styles.add(tuple(style for line in range(5) for _, style, _ in strip_of(transcript, line)))
            seen.append(text_lines(transcript))
        assert seen[0] == seen[1] == seen[2]
        assert len(styles) == 3


async def test_rejected_text_is_shown_on_demand_and_goes_again() -> None:
    async with host() as (transcript, pilot):
        transcript.writer.begin("assistant")
        transcript.writer.append([("The sky is", DRAFT), (" green", REJECTED), (" blue", MAIN)])
        transcript.writer.finish()
        await pilot.pause()
        assert view(transcript)[0] == "  The sky is blue"
        transcript.show_rejected = True
        await pilot.pause()
        assert view(transcript)[0] == "  The sky is green blue"
        (rejected,) = [style for text, style, _ in strip_of(transcript, 0) if text == " green"]
        assert rejected is not None and rejected.strike
        transcript.show_rejected = False
        await pilot.pause()
        assert view(transcript)[0] == "  The sky is blue"


async def test_rejected_text_that_comes_alone_shows_too() -> None:
    async with host(interval=0.01) as (transcript, pilot):
        transcript.show_rejected = True
        transcript.writer.begin("assistant")
        transcript.writer.append([("one", DRAFT)])
        await until(pilot, lambda: view(transcript)[0] == "  one")
        transcript.writer.append([(" two", REJECTED)])
        await until(pilot, lambda: view(transcript)[0] == "  one two")
        assert transcript.writer.text_of(0) == "one"


# Following


async def test_where_lines_are_dear_the_end_is_followed_by_several_at_once() -> None:
    async with host() as (transcript, pilot):
        transcript.stride = 5
        transcript.writer.begin("assistant")
        seen = set()
        for number in range(40):
            transcript.writer.append([(f"line {number}\n\n", DRAFT)])
            await flushed(transcript, pilot)
            seen.add(transcript.scroll_y)
            if transcript.max_scroll_y:
                assert any(line.strip() == f"line {number}" for line in view(transcript))
        assert transcript.following and len(seen) > 3
        assert all(y % 5 == 0 for y in seen)


async def test_the_end_is_followed_until_the_user_scrolls_up_and_again_from_the_bottom() -> None:
    async with host() as (transcript, pilot):
        transcript.focus()
        transcript.writer.begin("assistant")

        async def grow() -> None:
            transcript.writer.append([(PARAGRAPH * 3, DRAFT)])
            await flushed(transcript, pilot)

        await grow()
        await grow()
        assert transcript.following and transcript.scroll_y == transcript.max_scroll_y > 0
        await pilot.press("pageup")
        await pilot.wait_for_scheduled_animations()
        assert not transcript.following
        here, shown = transcript.scroll_y, view(transcript)
        await grow()
        assert (transcript.scroll_y, view(transcript)) == (here, shown)
        await pilot.press("end")
        await pilot.wait_for_scheduled_animations()
        assert transcript.following
        await grow()
        assert transcript.scroll_y == transcript.max_scroll_y
        await pilot.press("home")
        await pilot.wait_for_scheduled_animations()
        assert not transcript.following and transcript.scroll_y == 0
        transcript.following = True
        await pilot.pause()
        assert transcript.scroll_y == transcript.max_scroll_y


async def test_one_wheel_tick_up_ends_following_while_text_arrives() -> None:
    async with host(interval=0.01) as (transcript, pilot):
        answer(transcript, PARAGRAPH * 20)
        transcript.writer.begin("assistant")
        await pilot.pause()
        transcript._on_mouse_scroll_up(_wheel(transcript))
        for _ in range(30):
            transcript.writer.append([("word ", DRAFT)])
            await pilot.pause()
        assert not transcript.following
        assert transcript.scroll_y < transcript.max_scroll_y


def _wheel(transcript: Transcript) -> Any:
    from textual.events import MouseScrollUp

    return MouseScrollUp(transcript, 5, 5, 0, -1, 0, False, False, False, 5, 5)


async def test_a_prompt_brings_the_end_back_into_view() -> None:
    async with host() as (transcript, pilot):
        answer(transcript, PARAGRAPH * 20)
        await pilot.pause()
        transcript.scroll_home(animate=False)
        await pilot.pause()
        assert not transcript.following
        transcript.writer.begin("user", "next")
        await pilot.pause()
        assert transcript.following and view(transcript)[-1] == "▌ next"


async def test_text_at_the_end_lays_out_no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    async with host((60, 12)) as (transcript, pilot):
        answer(transcript, PARAGRAPH * 20)
        await pilot.pause()
        laid: list[str] = []
        monkeypatch.setattr(transcript.screen, "_refresh_layout", lambda *_, **__: laid.append("x"))
        transcript.writer.begin("assistant")
        for number in range(30):
            transcript.writer.append([(f"{number}\n\n", Origin.PLAIN)])
            await pilot.pause()
        await until(pilot, lambda: view(transcript)[-1].strip() == "29")
        assert laid == []


# Size


async def test_the_reader_keeps_the_place_when_the_size_changes() -> None:
    async with host((60, 12)) as (transcript, pilot):
        answer(transcript, "".join(f"Paragraph {number}: {PARAGRAPH}" for number in range(50)))
        await pilot.pause()
        transcript.scroll_to(y=60, animate=False)
        await pilot.pause()
        top = next(line for line in view(transcript) if line)
        for width in (40, 97, 23, 60):
            await pilot.resize_terminal(width, 12)
            await at_rest(pilot)
            assert transcript.virtual_size.width == transcript.scrollable_content_region.width
            assert top.strip()[:12] in " ".join(view(transcript)[:2])
        assert not transcript.following


async def test_any_size_is_drawn() -> None:
    async with host() as (transcript, pilot):
        answer(
            transcript,
            "# h\n\n| a | b |\n|---|---|\n| 中文 | 2 |\n\n> - x 👩\u200d💻\n\n```\ncode\n```\n" + PARAGRAPH,
        )
        for size in ((1, 1), (2, 3), (3, 40), (200, 60), (5, 2), (60, 12)):
            await pilot.resize_terminal(*size)
            await at_rest(pilot)
            assert all(strip.cell_length == transcript.size.width for strip in _strips(transcript))
        assert transcript.following


def _strips(transcript: Transcript) -> list[Strip]:
    return [transcript.render_line(line) for line in range(transcript.size.height)]


# Selection


async def drag(pilot: Pilot[None], begin: tuple[int, int], end: tuple[int, int]) -> str | None:
    await pilot.mouse_down(offset=begin)
    await pilot.hover(offset=end)
    await pilot.mouse_up(offset=end)
    await pilot.pause()
    return pilot.app.screen.get_selected_text()


async def test_selected_text_has_no_newlines_that_only_the_screen_made() -> None:
    async with host((30, 12)) as (transcript, pilot):
        transcript.writer.begin("user", "my prompt")
        answer(
            transcript,
            "A paragraph that is wrapped on this screen.\n\n- an item\n- 中文 item\n\n```\nx = 1\n\ny\n```\n",
        )
        await pilot.pause()
        assert view(transcript)[2:5] == ["  A paragraph that is wrapped", "  on this screen.", ""]
        selected = await drag(pilot, (0, 0), (29, 10))
        assert selected == (
            "my prompt\n\nA paragraph that is wrapped on this screen.\n\n• an item\n• 中文 item\n\nx = 1\n\ny"
        )


async def test_a_selection_has_the_characters_that_the_screen_replaces() -> None:
    words = "**שלום\u200f!** ක්\u200dෂ a\u200bb"
    async with host() as (transcript, pilot):
        transcript.writer.begin("user", f"{words}\x1b[m")
        transcript.writer.begin("assistant")
        for char in words:
            transcript.writer.append([(char, DRAFT)])
        transcript.writer.finish()
        await pilot.pause()
        assert "\u200f" not in "".join(view(transcript))
        selected = await drag(pilot, (0, 0), (50, 4))
        assert selected == f"{words}\ufffd[m\n\n{words.replace('*', '')}"


async def test_a_selection_has_the_breaks_and_formulas_that_are_shown() -> None:
    text = "roses\nviolets<br>sugar $x_1$\n\n\\(\\{a\\\\b\\}\\)"
    async with host() as (transcript, pilot):
        transcript.writer.begin("assistant")
        for char in text:
            transcript.writer.append([(char, MAIN if char == "1" else DRAFT)])
        transcript.writer.finish()
        await pilot.pause()
        assert await drag(pilot, (0, 0), (50, 6)) == "roses\nviolets\nsugar x₁\n\n\\(\\{a\\\\b\\}\\)"
        body = transcript.messages[0].blocks[0].body
        assert [char for char, origin in zip(body.text, body.origins, strict=True) if origin == MAIN] == ["₁"]
        assert transcript.writer.text_of(0) == text


async def test_a_selection_is_by_letters_and_survives_streaming() -> None:
    async with host() as (transcript, pilot):
        transcript.writer.begin("assistant")
        transcript.writer.append([("中文测试 letters\n\nmore ", DRAFT)])
        await flushed(transcript, pilot)
        selected = await drag(pilot, (4, 0), (6, 0))
        assert selected is not None and selected == "文测"
        transcript.writer.append([("and more", DRAFT)])
        await flushed(transcript, pilot)
        assert pilot.app.screen.get_selected_text() == selected
        transcript._painting = True
        marked = transcript.render_line(0)
        transcript._painting = False
        background = pilot.app.screen.get_component_rich_style("screen--selection").bgcolor
        assert "".join(text for text, style, _ in marked if style and style.bgcolor == background) == "文测"


# Looks

VARIABLES = {
    "token-draft": "#44cc66",
    "token-head": "#cc66ff",
    "token-lookup": "#33bbdd",
    "token-main": "#ffaa33",
    "token-rejected": "#dd5555",
    "code-background": "#222233",
}
VARIABLES |= {
    "foreground": "#dddddd",
    "background": "#111111",
    "primary": "#4488ff",
    "text-warning": "#eeaa66",
}
ANSI = {"token-draft": "ansi_green", "token-head": "ansi_bright_magenta", "token-lookup": "ansi_cyan"}
ANSI |= {"token-main": "ansi_yellow", "token-rejected": "ansi_red"}
ANSI |= {
    "foreground": "ansi_default",
    "background": "ansi_default",
    "primary": "ansi_blue",
    "code-background": "ansi_default",
}
THEMES = {
    "truecolor": (
        Theme(VARIABLES, Style(color="#dddddd", bgcolor="#111111"), False, False),
        ColorSystem.TRUECOLOR,
    ),
    "256": (Theme(VARIABLES, Style(color="#dddddd", bgcolor="#111111"), False, False), ColorSystem.EIGHT_BIT),
    "16": (Theme(VARIABLES, Style(color="#dddddd", bgcolor="#111111"), True, False), ColorSystem.STANDARD),
    "ansi": (Theme(ANSI, Style(), True, False), ColorSystem.STANDARD),
    "bare": (Theme({}, Style(), False, False), ColorSystem.TRUECOLOR),
}
ATTRIBUTES = ("bold", "dim", "italic", "underline", "strike")


def codes(style: Style, system: ColorSystem) -> str:
    """Of a copy: a style keeps its first codes, and equal styles are shared between tests."""
    return Strip.render_ansi(style.copy(), system)


def attributes(style: Style) -> tuple[bool, ...]:
    return tuple(bool(getattr(style, name)) for name in ATTRIBUTES)


@pytest.mark.parametrize(
    ("name", "look"),
    product(["truecolor", "256", "16", "ansi"], [0, style_codes.BOLD, style_codes.FENCE, style_codes.STRING]),
)
def test_the_origins_differ_on_every_kind_of_terminal(name: str, look: int) -> None:
    theme, system = THEMES[name]
    full = [codes(Palette(theme, "full").style(look, origin), system) for origin in Origin]
    assert len(set(full)) == len(Origin)
    quiet = [codes(Palette(theme, "quiet").style(look, origin), system) for origin in Origin]
    assert quiet[PLAIN] == quiet[DRAFT] == quiet[HEAD] != quiet[MAIN]
    off = [codes(Palette(theme, "off").style(look, origin), system) for origin in Origin]
    assert off[PLAIN] == off[DRAFT] == off[HEAD] == off[MAIN] != off[REJECTED]


@pytest.mark.parametrize("path", sorted((ROOT / "themes").glob("*.toml")), ids=lambda path: path.stem)
def test_the_origins_differ_in_our_themes(path: Path) -> None:
    named = read_theme(path)
    variables = {**named.to_color_system().generate(), **named.variables}
    for (ansi, system), look in product(
        ((named.ansi, ColorSystem.TRUECOLOR), (True, ColorSystem.STANDARD)),
        (0, style_codes.BOLD, style_codes.FENCE),
    ):
        palette = Palette(Theme(variables, Style(), ansi, False), "full")
        assert len({codes(palette.style(look, origin), system) for origin in Origin}) == len(Origin)


@pytest.mark.parametrize(
    "look", [0, style_codes.BOLD, style_codes.FENCE, style_codes.LINK, style_codes.heading(1)]
)
def test_the_origins_differ_without_any_color(look: int) -> None:
    theme = Theme(VARIABLES, Style(), False, True)
    full = {attributes(Palette(theme, "full").style(look, origin)) for origin in Origin}
    assert len(full) == len(Origin)
    quiet = [attributes(Palette(theme, "quiet").style(look, origin)) for origin in Origin]
    assert quiet[PLAIN] == quiet[DRAFT] != quiet[MAIN] != quiet[REJECTED]


def test_only_the_main_models_own_tokens_are_underlined() -> None:
    for (theme, _), look in product(THEMES.values(), range(256)):
        assert not Palette(theme, "full").style(look, Origin.DRAFT).underline
        assert not Palette(theme, "full").style(look, Origin.HEAD).underline
        assert Palette(theme, "full").style(look, Origin.MAIN).underline


@pytest.mark.parametrize("mode", ["quiet", "full"])
def test_code_keeps_its_colors_under_the_highlight(mode: Highlight) -> None:
    theme, _ = THEMES["truecolor"]
    palette = Palette(theme, mode)
    for origin in (Origin.DRAFT, Origin.MAIN):
        assert (
            palette.style(style_codes.KEYWORD, origin).color
            == palette.style(style_codes.KEYWORD, Origin.PLAIN).color
        )
        assert (
            palette.style(style_codes.STRING, origin).color
            == palette.style(style_codes.STRING, Origin.PLAIN).color
        )


async def test_words_are_underlined_and_not_the_spaces_before_them() -> None:
    async with host() as (transcript, pilot):
        transcript.writer.begin("assistant")
        transcript.writer.append(
            [("ahead", DRAFT), (" of", MAIN), (" 中文", MAIN), (" it", DRAFT), (" e\u0301n", MAIN)]
        )
        transcript.writer.finish()
        await pilot.pause()
        underlined = [text for text, style, _ in strip_of(transcript, 0) if style and style.underline]
        assert underlined == ["of", "中文", "e\u0301n"]


async def test_a_theme_changes_the_looks_at_once() -> None:
    async with host() as (transcript, pilot):
        for name, color in (("one", "#ff0001"), ("two", "#0001ff")):
            theme = AppTheme(name=name, primary="#123456", variables={"token-main": color})
            pilot.app.register_theme(theme)
        transcript.highlight = "full"
        answer(transcript, "word", MAIN)
        found = []
        for name in ("one", "two", "ansi-dark"):
            pilot.app.theme = name
            await pilot.pause()
            style = strip_of(transcript, 0)._segments[1].style
            assert style is not None and style.color is not None
            found.append(style.color.name)
        assert found[:2] == ["#ff0001", "#0001ff"]
        assert not found[2].startswith("#")


def test_a_dear_reading_puts_off_the_next() -> None:
    now, worked = 0.0, 0.0
    pace = Throttle(lambda: now, lambda: worked)
    reads = 0
    for _ in range(300):  # ten seconds at thirty frames a second, 20 ms for each reading
        if pace.is_due():
            with pace.measured():
                worked += 0.02
            reads += 1
        now += 1 / 30
    assert 50 <= reads <= 100
    with pace.measured():
        worked += 0.001
    assert pace.is_due()


async def test_a_long_open_block_is_read_less_often_but_grows_every_frame() -> None:
    worked = 0.0

    def work() -> float:
        nonlocal worked
        worked += 0.01
        return worked

    now = 0.0
    async with host(clock=lambda: now, work=work, interval=60) as (transcript, pilot):
        transcript.writer.begin("assistant")
        transcript.writer.append([("```py\n", DRAFT)])
        transcript.writer.flush()
        reads = 0
        message = transcript.messages[0]
        real = message._reader.read

        def read(*arguments: Any) -> None:
            nonlocal reads
            reads += 1
            real(*arguments)

        message._reader.read = read  # type: ignore[method-assign]
        for number in range(90):
            now += 1 / 30
            transcript.writer.append([(f"line {number}\n", DRAFT)])
            transcript.writer.tick()
            if number:
                assert f"line {number}" in "".join(text_lines(transcript)[-2:])
        assert reads <= 31
        transcript.writer.finish()
        await pilot.pause()
        assert text_lines(transcript) == [f"  line {number}" for number in range(90)]


async def test_a_single_token_waits_a_moment_for_the_next_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MOMENT", 600.0)  # no moment ends by itself, however slow the machine is
    async with host(clock=lambda: 0.0) as (transcript, pilot):
        messages, writer = transcript.messages, transcript.writer
        writer.begin("assistant")
        writer.append([("one", DRAFT)])
        await until(pilot, lambda: messages[-1].source == "one")
        writer.append([(" two", DRAFT)])
        await pilot.pause()
        assert messages[-1].source == "one"
        writer.append([(" three", DRAFT), (" four", DRAFT)])
        await until(pilot, lambda: messages[-1].source == "one two three four")
        monkeypatch.setattr(throttle, "MOMENT", 0.01)
        writer.append([(" five", DRAFT)])
        await until(pilot, lambda: messages[-1].source == "one two three four five")
        monkeypatch.setattr(throttle, "MOMENT", 600.0)
        writer.append([(" six", DRAFT)])
        writer.finish()
        assert messages[-1].source == "one two three four five six"


def test_a_slow_answer_is_painted_ten_times_a_second_at_most() -> None:
    for speed, paints in ((2, 2), (9, 9), (20, 10), (60, 20), (400, 400)):
        now = 0.0
        pace = Throttle(lambda: now, lambda: 0.0)  # noqa: B023
        pending, found, due = 0, 0, 0.0
        for number in range(10 * speed):
            arrives = number / speed
            if pending and due <= arrives:
                now, pending, found = due, 0, found + 1
                pace.painted()
            now = arrives
            pending += 1 if speed < 400 else 9
            due = now + pace.rest(pending)
        assert abs(found - 10 * paints) <= 0.2 * 10 * paints + 1, speed


# Hostile text


async def test_no_hostile_string_leaves_a_control_character_in_a_line() -> None:
    draw = random.Random(7)
    async with host((50, 20)) as (transcript, pilot):
        transcript.show_rejected = True
        roles: list[Callable[[str], None]] = [
            lambda text: answer(transcript, text),
            lambda text: transcript.writer.begin("user", text),
            lambda text: transcript.writer.fail(text, text),
            lambda text: _streamed(transcript, text),
        ]
        for number in range(2_000):
            roles[number % 4](hostile(draw))
            if number % 100 == 99:
                for line in range(transcript.virtual_size.height):
                    assert sum(cell_len(text) for text, _, _ in strip_of(transcript, line)) == 50
                    for text, style, _ in strip_of(transcript, line):
                        assert not has_controls(text), repr(text)
                        assert style is None or style.link is None
                transcript.writer.clear()
        await pilot.pause()


def _streamed(transcript: Transcript, text: str) -> None:
    transcript.writer.begin("assistant")
    for char in text:
        transcript.writer.append([(char, DRAFT), (char, REJECTED)])
    transcript.writer.finish(text)


SNIPPET = """
import sys
sys.path[:0] = sys.argv[1:2]
from tests.support.transcript import Host
from tests.support.hostile import hostile
import random
class Shown(Host):
    def on_mount(self):
        draw = random.Random(11)
        for number in range(60):
            text = hostile(draw)
            self.transcript.writer.begin("user", text)
            self.transcript.writer.begin("assistant")
            self.transcript.writer.append([(char, number % 4) for char in text])
            self.transcript.writer.finish(text)
            self.transcript.writer.fail(text, text)
        self.transcript.show_rejected = True
        self.set_interval(0.02, self.page)
    def page(self):
        self.transcript.scroll_relative(y=-20, animate=False)
        if self.transcript.scroll_y == 0:
            self.exit()
Shown().run()
"""


def test_hostile_text_reaches_the_terminal_as_text_only() -> None:
    with python(SNIPPET, str(ROOT), rows=40, columns=100) as terminal:
        assert terminal.exit() == 0
        output = bytes(terminal.output)
    assert violations(output) == []
    assert len(re.findall(rb"\xef\xbf\xbd", output)) > 100


SURFACES = """
import sys
sys.path[:0] = sys.argv[1:2]
from rich.text import Text
from textual.app import App
from textual.content import Content
from textual.widgets import *
from tests.support.hostile import ESCAPES
from tui.terminal.output_filter import OutputFilter
bad = "".join(f"a{escape}b" for escape in ESCAPES)
class Shown(App):
    CSS = "Static, Label, Markdown, Input, TextArea, OptionList, DataTable, RichLog, Log { height: 3; }"
    def compose(self):
        self._filters.append(OutputFilter())
        self.title = bad
        yield Header()
        yield Static(bad, markup=False)
        yield Static(Content(bad) + bad)
        yield Static(Text(bad))
        yield Label(bad, markup=False)
        yield Markdown(bad + "\\n\\n```\\n" + bad + "\\n```")
        yield RichLog()
        yield Log()
        yield Input(bad, compact=True)
        yield TextArea(bad)
        yield OptionList(Content(bad))
        yield DataTable()
        titled = Static("x")
        titled.border_title = Content(bad)
        titled.styles.border = ("round", "red")
        yield titled
    def on_mount(self):
        self.query_one(RichLog).write(bad)
        self.query_one(Log).write(bad)
        table = self.query_one(DataTable)
        table.add_column(Text(bad))
        table.add_row(Text(bad))
        self.notify(bad, markup=False)
        self.set_timer(0.5, self.exit)
Shown().run()
"""


def test_the_output_filter_covers_every_surface() -> None:
    with python(SURFACES, str(ROOT), rows=60, columns=200) as terminal:
        assert terminal.exit() == 0
        output = bytes(terminal.output)
    assert violations(output) == []
    with python(
        SURFACES.replace("self._filters.append", "str"), str(ROOT), rows=60, columns=200
    ) as open_terminal:
        open_terminal.exit()
    assert violations(bytes(open_terminal.output)), "the test itself sees nothing"
