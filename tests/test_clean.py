"""Foreign text: what is taken out, what stays, and the second gate where cells become bytes."""

from __future__ import annotations

import random
import unicodedata

import pytest
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color

from tests.support.hostile import KEPT, TAKEN
from tui.clean import (
    REPLACEMENT,
    clean,
    clean_line,
    clean_next,
    exact,
    has_controls,
    without_sequences,
)
from tui.terminal.output_filter import OutputFilter


@pytest.mark.parametrize("text", KEPT)
def test_text_that_is_text_stays(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize("char", TAKEN, ids=lambda char: f"{ord(char):x}")
def test_each_unsafe_code_point_is_replaced(char: str) -> None:
    assert clean(f"a{char}b") == f"a{REPLACEMENT}b"


def test_no_other_control_or_format_character_passes() -> None:
    visible = {0x600, 0x601, 0x602, 0x603, 0x604, 0x605, 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
    hieroglyphs = {*range(0x13430, 0x13440), *range(0x1BCA0, 0x1BCA4)}  # layout within their own scripts
    passed = {
        code
        for code in range(0x110000)
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        and clean(f"a{chr(code)}b")[1] != REPLACEMENT
    }
    assert passed <= {9, 10} | visible | hieroglyphs  # which of them there are depends on Python's Unicode


@pytest.mark.parametrize("text", ["a\u200db", "\u200d", "😀\u200da", "a\u200d😀", "a\u200cb", "क\u200dष"])
def test_joiners_outside_emoji_and_joining_scripts_are_replaced(text: str) -> None:
    assert "\u200d" not in clean(text)
    assert "\u200c" not in clean(text)


def test_windows_line_ends_are_line_ends() -> None:
    assert clean("a\r\nb\rc") == f"a\nb{REPLACEMENT}c"


CONTROLS = [*map(chr, (*range(9), *range(11, 32), *range(127, 160))), "\ud800", "\udfff"]


def test_a_copy_loses_control_characters_and_nothing_else() -> None:
    for code in (*range(0xD800), *range(0xE000, 0x110000)):
        char = chr(code)
        assert exact(f"a{char}b") == (f"a{REPLACEMENT}b" if char in CONTROLS else f"a{char}b")
    assert exact("a\ud800b") == f"a{REPLACEMENT}b"
    assert exact("a\r\nb\rc") == f"a\nb{REPLACEMENT}c"


def test_a_paste_loses_sequences_and_control_characters_and_nothing_else() -> None:
    text = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    kept = "".join(char for char in text if char not in CONTROLS or char == "\r").replace("\r", "\n")
    assert without_sequences(text.replace("\x1b", "")) == kept
    assert without_sequences("a\x1b]0;no end and a line\nb") == "a]0;no end and a line\nb", (
        "a sequence without end"
    )


def test_cleaning_twice_changes_nothing_more() -> None:
    draw = random.Random(3)
    for _ in range(500):
        text = "".join(draw.choice([*TAKEN, *KEPT, "\u200d", "\u200c", "\r", "\n", "x"]) for _ in range(8))
        assert clean(clean(text)) == clean(text)


def test_pieces_clean_as_the_whole() -> None:
    draw = random.Random(4)
    for _ in range(500):
        text = "".join(draw.choice([*TAKEN, *"👩💻می\u200d\u200c\r\nx"]) for _ in range(12))
        done, held = "", ""
        for char in text:
            piece, held = clean_next(done, held + char)
            done += piece
        done += clean(done[-1:] + held)[len(done[-1:]) :]
        assert done == clean(text)


def test_one_line_is_one_line() -> None:
    assert clean_line("  a\nb\tc\x1b[0m ") == f"a b c{REPLACEMENT}[0m"
    assert clean_line("x" * 1_000_000, 10) == "x" * 9 + "…"
    assert len(clean_line("\r\n" * 1_000, 10)) <= 10


def test_the_output_filter_passes_what_is_printable_as_it_is() -> None:
    segments = [Segment("plain", Style(bold=True)), Segment("中文 ünï", None)]
    assert OutputFilter().apply(segments, Color(0, 0, 0)) is segments


UNPRINTABLE = [char for char in (*TAKEN, "\n", "\t") if not char.isprintable()]  # all but one selector


@pytest.mark.parametrize("char", UNPRINTABLE, ids=lambda char: f"{ord(char):x}")
def test_the_output_filter_keeps_the_width_of_what_it_takes_out(char: str) -> None:
    text = f"a{char}b"
    (segment,) = OutputFilter().apply([Segment(text, Style(bold=True))], Color(0, 0, 0))
    assert not has_controls(segment.text)
    assert segment.style == Style(bold=True)
    assert cell_len(segment.text) == cell_len(text)


@pytest.mark.parametrize(
    "text", [text for text in KEPT if text.isprintable() or "\u200d" in text or "\u3000" in text]
)
def test_the_output_filter_keeps_text(text: str) -> None:
    assert OutputFilter().apply([Segment(text)], Color(0, 0, 0))[0].text == text
