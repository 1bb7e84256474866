"""Turns the bytes of the terminal into keys, pastes and reports: Textual's parser, with its faults fixed.

Textual ends a paste at an escape sequence inside it, and takes the rest for keys. It passes on unknown
sequences as letters, raises at unexpected key reports, knows shortcuts only on Latin layouts, and drops
characters that Python does not call printable. This parser reads a sequence to its end by the rules of
ECMA-48, and ignores an unknown one. It does not decide the effect of a key. It only makes late clicks
harmless.

It depends on private parts of the Textual version in `lean.WRITTEN_FOR`. With any other version, Textual's
own parser stays in place. Protocol of the key reports: https://sw.kovidgoyal.net/kitty/keyboard-protocol/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from typing import Any, Final, Literal
from unicodedata import name

from textual import constants, events, messages
from textual._keyboard_protocol import FUNCTIONAL_KEYS
from textual._parser import ParseTimeout, Peek1, Read1
from textual._time import get_time
from textual._xterm_parser import IS_ITERM, XTermParser
from textual.await_complete import AwaitComplete
from textual.keys import Keys
from textual.message import Message
from textual.screen import Screen
from textual.widgets import OptionList

from ..clean import without_sequences
from .lean import fits

REPORTS: Final = "\x1b[>25u"
ALTERNATE_REPORTS: Final = "\x1b[>29u"
"""Asks the terminal for Textual's key reports, with the key's letter on a Latin layout added."""
SETTLE: Final = 0.05
"""Seconds of silence that end a paste. An end mark inside the pasted text does not: the terminal sends a
paste without a pause, and the last mark is its own."""
PATIENCE: Final = 1.0
"""Seconds to wait for the rest of a sequence. A slow line cuts a sequence anywhere."""
STALLED: Final = 1.0
"""Seconds of silence in a paste after which one of `_GIVE_UP` ends it, if the end mark never came."""
MOST_KEPT: Final = 16_000_000
"""Most characters of a paste. Longer ones are cut."""

_ESC: Final = "\x1b"
_PASTE, _END = "\x1b[200~", "\x1b[201~"
_GIVE_UP: Final = frozenset(("\x1b", "\x03", "\x11", "\x1b[27u", "\x1b[99;5u", "\x1b[113;5u"))
"""Esc, Ctrl+C and Ctrl+Q."""
_BURST: Final = 1_024
"""Characters that arrive at once if more of a paste may follow. Keys and mouse send fewer."""

_STRING: Final = r"(?:\]\d|P[\d>!$+]|_G)[^\x00-\x1f\x7f]*"
_WHOLE: Final = re.compile(
    r"\x1b(?:"
    r"\[(?:\[[A-E]|M[^\x1b]{3}|(?![\[M])[0-?]*[ -/]*[@-~])"  # CSI; the Linux console's F1; an old mouse
    r"|O[\d;]*[^\d;\x1b]"  # SS3
    rf"|{_STRING}(?:\x07|\x1b\\)"  # a string that the terminal sends as an answer: OSC, DCS, APC
    r"|[^][OP_\x1b])",  # with Alt
    re.DOTALL,
)
_BEGUN: Final = re.compile(
    rf"\x1b(?:\[(?:\[|M[^\x1b]{{0,2}}|(?![\[M])[0-?]*[ -/]*)|O[\d;]*|[]P_]|{_STRING}\x1b?)?", re.DOTALL
)
_LONGEST: Final = 512
"""Most characters of a sequence. A longer one is read to its end and ignored."""
_TOO_LARGE: Final = re.compile(r"\d{8}")
_MOUSE: Final = re.compile(r"\x1b\[<\d+;\d+;\d+[Mm]")
_CELLS: Final = 10_000.0
_SIZE: Final = re.compile(
    r"\x1b\[48;(\d+)(?::[\d:]*)?;(\d+)(?::[\d:]*)?;(\d+)(?::[\d:]*)?;(\d+)(?::[\d:]*)?t"
)
_LARGEST: Final = 1_000
"""Most rows and columns of a terminal."""
_MODE: Final = re.compile(r"\x1b\[\?(\d+);(\d)\$y")
_CURSOR: Final = re.compile(r"\x1b\[(\d+);(\d+)R")
_REPORT: Final = re.compile(r"\x1b\[([\d:;]*)([u~ABCDEFHPQRS])")
_SHIFT, _CAPS, _LOCKS = 1, 64, 64 | 128
_RELEASED: Final = 3


def _row(letters: str, keys: str) -> dict[str, str]:
    return dict(zip(letters, keys, strict=True))


_LATIN: Final = (
    # Serbian, Macedonian, Ukrainian and Belarusian letters that differ from the Russian ones
    _row("љњјџѓђќћ" + "іїєґў", "qwjx[]''" + "s]'\\o")
    | _row("йцукенгшщзхъфывапролджэячсмитьбюё", "qwertyuiop[]asdfghjkl;'zxcvbnm,.`")
    | _row("ςερτυθιοπασδφγηξκλζχψωβνμ", "wertyuiopasdfghjklzxcvbnm")
    | _row("קראטוןםפשדגכעיחלךףזסבהנמצתץ", "ertyuiopasdfghjkl;zxcvbnm,.")
    # Arabic, and Persian for letters that are on other keys
    | _row("ضصثقفغعهخحجدشسيبلاتنمكئءؤرىةو", "qwertyuiop[]asdfghjkl;zxcvnm,")
    | _row("ظطزذدپیکگچ", "zxcbnmd;']")
)
"""The letter on the same key of a Latin layout, for terminals that do not report it."""


def brings_text(character: str | None) -> bool:
    """Return whether a key with this character writes text: any character but a control character."""
    return character is not None and not any(
        char < " " or "\x7f" <= char <= "\x9f" or "\ud800" <= char <= "\udfff" for char in character
    )


def mend() -> None:
    """Let every field accept all characters of `brings_text`, and make late keys and clicks harmless.

    Without this, the second click of a double click would close the screen below, and a page key would raise
    in a list that is being filled.
    """
    if fits():
        events.Key.is_printable = property(lambda key: brings_text(key.character))  # type: ignore[assignment, method-assign]
        Screen.dismiss = _dismissed  # type: ignore[assignment, method-assign]
        OptionList._move_page = _paged  # type: ignore[assignment, method-assign]


_dismiss: Final = Screen.dismiss
_move_page: Final = OptionList._move_page


def _dismissed(screen: Screen[Any], result: Any = None) -> AwaitComplete:
    return _dismiss(screen, result) if screen.is_active else AwaitComplete()


def _paged(options: OptionList, direction: Literal[-1, 1]) -> None:
    with suppress(KeyError):
        _move_page(options, direction)


def new_parser(debug: bool = False) -> XTermParser:
    """Return a parser for the bytes of a terminal."""
    return KeyboardParser(debug) if fits() else XTermParser(debug)


class KeyboardParser(XTermParser):
    """A parser to `feed`. Call `tick` when `_timeout_time` has passed."""

    def __init__(self, debug: bool = False) -> None:
        self._paste: list[str] | None = None
        """The pieces of an unfinished paste; None if there is none."""
        self._kept = 0
        self._last = ""
        """The last characters of the paste, which may hold the start of an end mark."""
        self._ended = False
        self._heard = 0.0
        super().__init__(debug)

    def feed(self, data: str) -> Iterable[Message]:
        for place, character in enumerate(data):
            if self._paste is not None:
                yield from self._gather(data[place:])
                return
            yield from super().feed(character)

    def tick(self) -> Iterable[Message]:
        if self._paste is None:
            yield from super().tick()
        elif self._timeout_time is not None and get_time() >= self._timeout_time:
            text, _, rest = "".join(self._paste).rpartition(_END)
            yield from self._end_paste(text, rest)

    # A paste

    def _begin_paste(self) -> None:
        self._paste, self._kept, self._last = [], 0, ""
        self._ended, self._heard = False, get_time()

    def _gather(self, data: str) -> Iterable[Message]:
        """Add data to the paste. Data just after an end mark may still belong to it."""
        assert self._paste is not None
        now = get_time()
        silence, self._heard = now - self._heard, now
        if not self._ended and silence > STALLED and data in _GIVE_UP:
            yield from self._end_paste("".join(self._paste), data)
            return
        joined = self._last + data
        ends = _END in joined
        if self._kept < MOST_KEPT or ends:
            self._paste.append(data if self._kept < MOST_KEPT else joined)
            self._kept += len(data)
        self._last = joined[1 - len(_END) :]
        if ends or (self._ended and len(data) >= _BURST):
            self._timeout_time = now + SETTLE
        self._ended = self._ended or ends

    def _end_paste(self, text: str, rest: str) -> Iterable[Message]:
        self._paste = self._timeout_time = None
        if text := without_sequences(text):
            yield events.Paste(text)
        yield from self.feed(rest)

    # Sequences

    def parse(self, token_callback: Callable[[Message], None]) -> Generator[Read1 | Peek1, str, None]:
        sequence = ""
        while True:
            try:
                wait = None if not sequence else constants.ESCAPE_DELAY if sequence == _ESC else PATIENCE
                character = yield Read1(wait)
            except ParseTimeout:
                if sequence == _ESC:
                    token_callback(events.Key("escape", _ESC))
                sequence = ""
                continue
            if sequence and not _goes_on(sequence + character):
                if sequence == character == _ESC:
                    token_callback(events.Key("escape", _ESC))
                # The sequence was cut off: the new data is not its rest, and starts at the last Esc.
                sequence = _ESC if len(sequence) > 1 and sequence[-1] == _ESC else ""
            if character == _ESC and not sequence:
                sequence = _ESC
                continue
            sequence += character
            if len(sequence) == 1 or _WHOLE.fullmatch(sequence):
                for message in self._read(sequence):
                    token_callback(message)
                sequence = ""
            elif len(sequence) > _LONGEST and character != _ESC:
                sequence = sequence[:-1]

    def _read(self, sequence: str) -> Iterable[Message]:
        """Yield the messages of a whole sequence; none if it is unknown."""
        if sequence == _PASTE:
            self._begin_paste()
        elif _TOO_LARGE.search(sequence) or len(sequence) > _LONGEST:
            return
        elif sequence in ("\x1b[I", "\x1b[O"):
            yield events.AppFocus() if sequence == "\x1b[I" else events.AppBlur()
        elif size := _SIZE.fullmatch(sequence):
            yield from self._resized(*map(int, size.groups()))
        elif mode := _MODE.fullmatch(sequence):
            yield from _mode(mode[1], int(mode[2]))
        elif cursor := _CURSOR.fullmatch(sequence):
            yield events.CursorPosition(int(cursor[2]) - 1, int(cursor[1]) - 1)
        elif _MOUSE.fullmatch(sequence):
            event = self.parse_mouse_code(sequence)
            if isinstance(event, events.MouseEvent) and event.x < _CELLS and event.y < _CELLS:
                yield event
        else:
            yield from self._keys(sequence)

    def _resized(self, rows: int, columns: int, height: int, width: int) -> Iterable[Message]:
        if 0 < rows <= _LARGEST and 0 < columns <= _LARGEST and height > 0 and width > 0:
            event = events.Resize.from_dimensions((columns, rows), (width, height))
            self.terminal_size, self.terminal_pixel_size = event.size, event.pixel_size
            self.mouse_pixels = True
            yield event

    def _keys(self, sequence: str) -> Iterable[events.Key]:
        found = [key for key in self._sequence_to_key_events(sequence) if key.key != Keys.Ignore]
        if not found and len(sequence) == 2 and sequence[0] == _ESC:
            found = [_with_alt(key) for key in self._sequence_to_key_events(sequence[1], alt=True)]
        return found

    def _parse_extended_key(self, sequence: str) -> list[events.Key] | None:  # type: ignore[override]
        """Return the keys of a report; empty if it has none, None for another kind of sequence."""
        report = _REPORT.fullmatch(sequence)
        plain = _plain_report(report[1].split(";"), report[2]) if report else None
        if not plain:
            return None if plain is None else []
        return super()._parse_extended_key(plain)


def _goes_on(sequence: str) -> bool:
    """Return whether this is a sequence or the start of one."""
    return bool(_BEGUN.fullmatch(sequence) or _WHOLE.fullmatch(sequence))


def _with_alt(key: events.Key) -> events.Key:
    text = key.character if brings_text(key.character) else None
    return key if key.key.startswith("alt+") else events.Key(f"alt+{key.key}", text)


def _mode(number: str, setting: int) -> Iterable[Message]:
    if number == "2026" and setting > 0:
        yield messages.TerminalSupportsSynchronizedOutput()
    elif number == "2048" and constants.SMOOTH_SCROLL and not IS_ITERM:
        yield messages.InBandWindowResize.from_setting_parameter(setting)


def _plain_report(fields: list[str], final: str) -> str | None:
    """Return a key report in the form of Textual's parser: without events, on a Latin layout, with its text.

    `fields` are key:shifted:base, modifiers:event and text. Empty for a released key, None for another kind
    of sequence.
    """
    keys, modifiers, text = ([int(part or 0) for part in field.split(":")] for field in _three(fields))
    number, held, event = keys[0], max(0, modifiers[0] - 1), modifiers[1] if len(modifiers) > 1 else 1
    if len(fields) > 3 or held > 255:
        return None
    if number == 27 and final == "~" and text[0]:  # xterm's own form
        number, text, final = text[0], [], "u"
    if event == _RELEASED:
        return ""
    number = number or (1 if final not in "u~" else 0)
    written = [code for code in text if code and _is_character(code)]
    if f"{number}{final}" not in FUNCTIONAL_KEYS:
        if (
            final != "u"
            or not (written or _is_character(number))
            or (0xE000 <= number <= 0xF8FF and not written)
        ):
            return None
        if not written and held & ~(_SHIFT | _LOCKS):
            number = _on_latin(number, keys[2] if len(keys) > 2 else 0)
        elif not written:
            written = [_shifted(number, keys[1] if len(keys) > 1 else 0, held)]
    held &= ~_LOCKS
    plain = f"\x1b[{number or 1};{held + 1 if held else ''}"
    return plain + (f";{':'.join(map(str, written))}" if written else "") + final


def _three(fields: list[str]) -> list[str]:
    return [*fields, "", "", ""][:3]


def _is_character(code: int) -> bool:
    return code < 0x110000 and brings_text(chr(code)) and code != 0


def _shifted(number: int, shifted: int, held: int) -> int:
    """Return the character that a key writes, if only Shift and the locks are held."""
    if not held & _SHIFT and not held & _CAPS:
        return number
    if held & _SHIFT and _is_character(shifted):
        return shifted
    upper = chr(number).upper()
    return ord(upper) if len(upper) == 1 and bool(held & _SHIFT) != bool(held & _CAPS) else number


def _on_latin(number: int, base: int) -> int:
    """Return the key on a Latin layout. `base` is the key there as the terminal reports it, 0 for none."""
    letter = chr(number).lower()
    if len(letter) > 1:
        return number
    known = chr(base).lower() if 32 < base < 127 else _LATIN.get(letter, letter)
    if letter.isascii():
        keeps = letter.isalnum() or not known.isalpha()  # Greek and Hebrew have signs on keys of letters
    else:
        keeps = name(letter, "").startswith("LATIN")
    return ord(letter if keeps else known)
