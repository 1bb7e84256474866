"""What a terminal sends: keys of every layout, reports that nobody can read, and pastes."""

from __future__ import annotations

import random
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.command import CommandList, CommandPalette

from tests.support.chat import chat, outrider, until
from tests.support.terminal import Terminal
from tui.screens.help import HelpScreen
from tui.terminal.driver import patience_of
from tui.terminal.keyboard import (
    KeyboardParser,
    brings_text,
    mend,
    new_parser,
)
from tui.terminal.lean import fits

pytestmark = pytest.mark.skipif(not fits(), reason="this Textual's insides are not known")
Found = list[Any]
BEL, ST = "\a", "\x1b\\"


def heard(*chunks: str, parser: KeyboardParser | None = None) -> Found:
    """What comes of chunks that are read one after the other, until nothing more can come."""
    parser = parser or KeyboardParser()
    found: Found = []
    for chunk in chunks:
        found += parser.feed(chunk)
    while (wait := patience_of(parser)) is not None:
        time.sleep(wait)
        found += parser.tick()
    return found


def keys(*chunks: str) -> list[str]:
    return [each.key for each in heard(*chunks) if isinstance(each, events.Key)]


def written(found: Found) -> str:
    """The text that keys and pastes bring."""
    mend()
    return "".join(
        each.text if isinstance(each, events.Paste) else each.character
        for each in found
        if isinstance(each, events.Paste) or (isinstance(each, events.Key) and each.is_printable)
    )


def pasted(text: str) -> str:
    return f"\x1b[200~{text}\x1b[201~"


# Keys


@pytest.mark.parametrize(
    ("sent", "key"),
    [
        ("\x1b[A", "up"),
        ("\x1b[1;2A", "shift+up"),
        ("\x1b[1;5:2D", "ctrl+left"),  # kitty: a key that repeats
        ("\x1b[[A", "f1"),  # the Linux console
        ("\x1bOP", "f1"),
        ("\x1b[25~", "f13"),
        ("\x1b[3;5~", "ctrl+delete"),
        ("\x1b[13;2u", "shift+enter"),
        ("\x1b[27;2;13~", "shift+enter"),  # xterm's modifyOtherKeys
        ("\x1b\r", "alt+enter"),
        ("\x1b[97;5u", "ctrl+a"),
        ("\x1b[97;6u", "ctrl+shift+a"),
        ("\x1b[27;6;65~", "ctrl+shift+a"),
        ("\x1b[97:65;6u", "ctrl+shift+a"),
        ("\x1b[27u", "escape"),
        ("\x1b", "escape"),
        ("\x1bb", "ctrl+left"),
        ("\x1bx", "alt+x"),
        ("\x1b[I", ""),
    ],
)
def test_reports_of_keys_are_read(sent: str, key: str) -> None:
    assert keys(sent) == ([key] if key else [])


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_sequence_may_come_in_pieces(cut: int) -> None:
    sent = "\x1b[1089;5u"
    assert keys(sent[:cut], sent[cut:]) == ["ctrl+c"]


LAYOUTS = {
    "russian": ("йцукенгшщзфывапролдячсмить", "qwertyuiopasdfghjklzxcvbnm"),
    "ukrainian": ("іє", "s'"),
    "greek": ("ςερτυθιοπασδφγηξκλζχψωβνμ", "wertyuiopasdfghjklzxcvbnm"),
    "hebrew": ("קראטוןםפשדגכעיחלךזסבהנמצ", "ertyuiopasdfghjklzxcvbnm"),
    "arabic": ("ضصثقفغعهخحشسيبلاتنمئءؤرىة", "qwertyuiopasdfghjklzxcvnm"),
    "persian": ("یکظطزذدپ", "d;zxcbnm"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ctrl_works_on_every_layout(layout: str) -> None:
    for letter, latin in zip(*LAYOUTS[layout], strict=True):
        wanted = [{";": "ctrl+semicolon", "'": "ctrl+apostrophe"}.get(latin, f"ctrl+{latin}")]
        code = ord(letter)
        for sent in (f"\x1b[{code};5u", f"\x1b[{code}::{ord(latin)};5u", f"\x1b[27;5;{code}~"):
            assert keys(sent) == wanted, (letter, sent)
        if letter.upper().lower() == letter:
            assert keys(f"\x1b[{ord(letter.upper())};5u") == wanted


@pytest.mark.parametrize(
    ("sent", "key"),
    [
        ("\x1b[4304::113;5u", "ctrl+q"),  # Georgian: the terminal says where the key is
        ("\x1b[47::113;5u", "ctrl+q"),  # Hebrew has a slash there
        ("\x1b[59::113;5u", "ctrl+q"),  # and Greek a semicolon
        ("\x1b[97::113;5u", "ctrl+a"),  # a French keyboard: the letter counts, not its place
        ("\x1b[246::59;5u", "ctrl+ö"),
        ("\x1b[1081::113;9u", "super+q"),
    ],
)
def test_a_latin_letter_counts_and_of_others_the_place(sent: str, key: str) -> None:
    assert keys(sent) == [key]


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("\x1b[97;;97u", "a"),
        ("\x1b[97:65;2u", "A"),
        ("\x1b[97;2u", "A"),
        ("\x1b[97;65u", "A"),  # Caps Lock
        ("\x1b[1081;;1081u", "й"),
        ("\x1b[32;2;32u", " "),
        ("\x1b[57400;;49u", "1"),  # a keypad
        ("\x1b[0;;128104:8205:128105u", "👨\u200d👩"),  # an input method
        *((char, char) for char in "\u3000\xa0\u202f\u200c\u200d\xad\u200f\u2028\ufeff\U000e0067\ue0b0"),
        *(
            (f"\x1b[0;;{ord(char)}u", char)
            for char in "\u3000\xa0\u202f\u200c\u200d\xad\u200f\u2028\ufeff\ue0b0"
        ),
    ],
)
def test_a_key_brings_its_character(sent: str, text: str) -> None:
    assert written(heard(sent)) == text


def test_only_control_characters_are_not_written() -> None:
    assert not any(map(brings_text, ["\x00", "\x1b", "\x7f", "\x85", "\x9b", "\ud800", None]))
    assert all(map(brings_text, ["a", " ", "\u3000", "\u200d", "\u2028", "\ufdd0", "\U000e0001"]))


# What cannot be read

UNREADABLE = [
    "\x1b[97;1:3u",  # released
    "\x1b[1114112u",
    "\x1b[57999u",
    "\x1b[55296u",
    "\x1b[3;5u",
    "\x1b[;u",
    "\x1b[:::u",
    "\x1b[1;2;3;4u",
    "\x1b[97;999u",
    "\x1b[" + "1" * 5_000 + "u",
    "\x1b[99999999999999999999;5u",
    "\x1b[99~",
    "\x1b[1;5:3A",
    "\x1b[>1;2c",
    "\x1b[?62;22c",
    "\x1b[?2026;0$y",
    "\x1b[48;0;0;0;0t",
    "\x1b[48;99999;99999;1;1t",
    "\x1b[<0;99999;3M",
    "\x1b[<0;0;0M",
    "\x1b[M !!",
    "\x1b]11;rgb:0000/0000/0000\x1b\\",
    "\x1b]0;title\x07",
    "\x1bP1$r0m\x1b\\",
    "\x1b_Gi=1;OK\x1b\\",
    "\x1bOz",
    "\x1b[1;2",  # cut off by the next sequence
    "\x1b]11;rgb:",
]


@pytest.mark.parametrize("sent", UNREADABLE, ids=lambda sent: ascii(sent[:24]))
def test_what_cannot_be_read_is_no_key(sent: str) -> None:
    assert written(heard("x" + sent + "\x1b[Iy")) == "xy"
    assert [key for key in keys(sent) if len(key) == 1] == []


def reports(draw: random.Random) -> Iterator[str]:
    """Random sequences, readable and not; none that is bound to more than a move of the cursor."""
    number = lambda: draw.choice(["", "0", "1", "27", "97", "1081", "57358", "57999", "1114112", "9" * 30])  # noqa: E731
    field = lambda: ":".join(number() for _ in range(draw.randint(1, 4)))  # noqa: E731
    while True:
        fields = ";".join(field() for _ in range(draw.randint(0, 5)))
        yield draw.choice(
            [
                f"\x1b[{draw.choice('?<>=')}{fields}{draw.choice('cnty~uABRSqx')}",
                f"\x1b[{field()};1:3{draw.choice('uABCDFH')}",
                f"\x1b[{draw.randint(57455, 63743)};{draw.randint(1, 256)}u",
                f"\x1b[{draw.randint(0x110000, 10**9)};{field()}u",
                f"\x1b[{draw.randint(300, 9_999)}~",
                f"\x1b[<35;{draw.randint(-5, 10**6)};{draw.randint(-5, 10**6)}M",
                f"\x1b[48;{draw.choice([0, 5_000])};{number()};{number()};{number()}t",
                f"\x1b]{draw.randint(0, 99)};{'x' * draw.randint(0, 40)}{draw.choice([BEL, ST])}",
                f"\x1bP1$r{fields}\x1b\\",
                f"\x1b[{draw.randint(1, 99)};{draw.randint(1, 99)}R",
                draw.choice(["\x1b[I", "\x1b[O", "\x85", "\x9b", "\x1b[?2026;2$y", "\x1bOz", "\x1b[1;9Z"]),
            ]
        )


def test_random_reports_write_nothing_and_raise_nothing() -> None:
    draw, parser, text = random.Random(5), KeyboardParser(), ""
    found: Found = []
    sent = reports(draw)
    for number in range(5_000):
        letter = chr(draw.choice([97 + number % 26, 0x430 + number % 32, 0x3000]))
        found += parser.feed(next(sent) + "\x1b[I" + letter)
        text += letter
    assert written([*found, *heard(parser=parser)]) == text


def test_random_bytes_raise_nothing_and_the_keys_after_them_arrive() -> None:
    draw, parser = random.Random(6), KeyboardParser()
    for _ in range(20_000):
        data = "".join(draw.choice("\x1b\x1b[[;;:?<0123456789~uABMRmtOP]_\\\x07\r\x00aя") for _ in range(12))
        list(parser.feed(data.replace("\x1b[200~", "")))
    list(heard(parser=parser))
    assert written(heard("still here", parser=parser)) == "still here"


# Pastes


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("ls \x1b[31mred\x1b[0m\rnext line", "ls red\nnext line"),
        ("a\x1bb\rc", "ab\nc"),
        ("a\x1b", "a"),
        ("a\x1b]0;title\x07b\r\nc", "ab\nc"),
        ("\x1b(B\x1b7\x1b[?25lx\x1b8", "x"),
        ("a\x1b]8;;http://x.y\x1b\\link\x1b]8;;\x1b\\", "alink"),
        ("\x03\x11\x00\x7f\x08\x85\x9bx\ty", "x\ty"),
        ("/new\r@x\r", "/new\n@x\n"),
        ("harmless\x1b[201~\rrm -rf\r", "harmless\nrm -rf\n"),  # the terminal's own end is the last one
        ("harmless\x1b[201~\r\x11\x1b[200~rm\r", "harmless\nrm\n"),
    ],
)
def test_inside_a_paste_everything_is_text(sent: str, text: str) -> None:
    whole = pasted(sent)
    for cut in (0, 4, len(whole) // 2, len(whole) - 3):
        found = heard(whole[:cut], whole[cut:])
        assert [each.text for each in found] == [text]


def test_an_end_that_a_paste_spells_long_before_its_own_does_not_end_it() -> None:
    whole = pasted("a\x1b[201~\r" + "x" * 20_000)
    chunks = [whole[at : at + 4_096] for at in range(0, len(whole), 4_096)]
    (found,) = heard(*chunks)
    assert found.text == "a\n" + "x" * 20_000


def test_a_paste_may_come_letter_by_letter() -> None:
    assert [each.text for each in heard(*pasted("a\x1b[31mb\rc"))] == ["ab\nc"]


def test_of_a_paste_without_measure_the_beginning_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.terminal.keyboard.MOST_KEPT", 10)
    (found,) = heard("\x1b[200~", *["abcde"] * 9, "\x1b[2", "01~")
    assert found.text.startswith("abcdeabcde") and len(found.text) < 20


def test_keys_behind_a_paste_come_behind_it() -> None:
    found = heard("a" + pasted("b\rc") + "d\r")
    assert [each.text if isinstance(each, events.Paste) else each.key for each in found] == [
        "a",
        "b\nc",
        "d",
        "enter",
    ]


def test_an_empty_paste_is_none() -> None:
    assert heard(pasted("")) == [] == heard(pasted("\x1b[0m"))


@pytest.mark.parametrize("key", ["\x1b", "\x11", "\x1b[113;5u"])
def test_a_paste_whose_end_is_lost_is_given_up_by_one_key(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("tui.terminal.keyboard.get_time", lambda: now)
    parser = KeyboardParser()
    assert list(parser.feed("\x1b[200~abc" + key)) == []
    now += 0.5
    assert list(parser.feed(key)) == [], "so soon it is text"
    now += 2
    found = list(parser.feed(key))
    assert found[0].text == "abc"
    monkeypatch.undo()
    assert [*found[1:], *heard(parser=parser)][-1].key in ("escape", "ctrl+q")


def test_with_another_textual_its_own_parser_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(new_parser(), KeyboardParser)
    monkeypatch.setattr("tui.terminal.keyboard.fits", lambda: False)
    assert not isinstance(new_parser(), KeyboardParser)


async def test_keys_and_clicks_that_come_too_late_do_nothing(tmp_path: Path) -> None:
    app = outrider(tmp_path)
    async with app.run_test() as pilot:
        await pilot.press("f1")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        first = app.screen
        first.dismiss()
        first.dismiss()
        await until(pilot, lambda: app.screen is not first)
        assert app.screen is chat(app)
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(app.screen, CommandPalette))
        palette = app.screen
        palette.query_one(CommandList)._index_to_line.clear()  # as while commands are being found
        await pilot.press("pageup", "pagedown")
        for _ in range(2):
            palette.post_message(events.Click(palette, 1, 1, 0, 0, 1, False, False, False, 1, 1))
        await until(pilot, lambda: app.screen is not palette)
        assert app.screen is chat(app)


# The program itself


def program(folder: Path) -> Terminal:
    env: dict[str, str | None] = {
        name: str(folder)
        for name in ("HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
    }
    return Terminal([sys.executable, "-m", "tui", "--main", "scripted:echo", "--draft", "none"], env=env)


def said(folder: Path) -> list[str]:
    """The prompts that the program has kept."""
    file = folder / "outrider" / "chats.db"
    if not file.exists():
        return []
    with sqlite3.connect(file) as connection:
        return [
            text
            for (text,) in connection.execute("SELECT text FROM messages WHERE role = 'user' ORDER BY id")
        ]


def test_what_is_typed_among_random_reports_is_sent_and_ctrl_works(tmp_path: Path) -> None:
    draw, text = random.Random(7), ""
    with program(tmp_path) as terminal:
        terminal.wait(b"ready")
        sent = reports(draw)
        for number in range(300):
            letter = chr(97 + number % 26)
            terminal.send((next(sent) + letter).encode())
            text += letter
        terminal.send(b"\r")
        terminal.wait(lambda: said(tmp_path))
        assert said(tmp_path) == [text]
        terminal.send(b"\x1b[1081;5u")  # й with Ctrl, where Latin layouts have Q
        assert terminal.exit() == 0


def test_a_paste_of_colored_text_is_not_sent_before_enter(tmp_path: Path) -> None:
    with program(tmp_path) as terminal:
        terminal.wait(b"ready")
        terminal.send(pasted("make: \x1b[31merror\x1b[0m in x.c\rand the next line\r").encode())
        terminal.wait(b"next line")
        assert said(tmp_path) == []
        terminal.send(b"typed\r")
        terminal.wait(lambda: said(tmp_path))
        assert said(tmp_path) == ["make: error in x.c\nand the next line\ntyped"]
        terminal.send(b"\x11")
        assert terminal.exit() == 0
