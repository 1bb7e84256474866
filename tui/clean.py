"""Makes foreign text (a model's, a file's, an error's) harmless: `clean` for the screen, `exact` elsewhere.

What stands on the screen is cleaned by code point and not by sequence: a control character that never arrives
needs no parser. What is sent to a model, copied, exported or stored keeps every character that is no control
character: joiners, direction marks, variation selectors and tags belong to the text.
"""

from __future__ import annotations

import re

REPLACEMENT = "\ufffd"

EMOJI = "\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
_JOINED_SCRIPTS = "\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u18af\ufb50-\ufdff\ufe70-\ufefc"

_CONTROLS = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and newline, DEL, C1
    "\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # invisible, bidi
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"  # musical controls, tags, supplementary selectors
    "\ud800-\udfff\ufdd0-\ufdef"  # lone surrogates, noncharacters
    + "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(17))
)
_UNSAFE = (
    f"[{_CONTROLS}]"
    # The joiners stay where they have a meaning and where Rich measures them as terminals do: ZWJ between
    # emoji, ZWNJ between letters of the scripts that join.
    f"|(?<![{EMOJI}])\u200d|\u200d(?![{EMOJI}])"
    f"|(?<![{_JOINED_SCRIPTS}])\u200c|\u200c(?![{_JOINED_SCRIPTS}])"
)
_ASCII_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
_NO_CELLS = re.compile(f"[{_CONTROLS}\n\t]")
_LINE_BREAKS = re.compile(r"[\n\t]")
_SEQUENCES = (
    "\x1b(?:"
    r"\[[0-?]*[ -/]*[@-~]"  # CSI: colours, moves of the cursor
    "|[]PX^_][^\x00-\x1f\x7f]*(?:\x07|\x1b\\\\|\x9c)"  # titles, links, the clipboard
    "|[ -/]+[0-~]|[78=>])"  # character sets, the saved cursor, the keypad
)
_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def exact(text: str) -> str:
    """`text` with every control character as U+FFFD, and no other changed; CR LF becomes a newline.

    Newlines and tabs stay. Lone surrogates, which no file can hold, go with the control characters.
    """
    return _NO_TEXT.sub(REPLACEMENT, text.replace("\r\n", "\n"))


def without_sequences(text: str) -> str:
    """`text` as a person who pastes it means it: no escape sequence, no control character, every line end a
    newline."""
    if "\x1b" in text:
        text = re.sub(_SEQUENCES, "", text)
    return _NO_TEXT.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def has_controls(text: str) -> bool:
    """Whether `text` holds what must not stand in a line of cells, newlines and tabs included."""
    return _NO_CELLS.search(text) is not None


def clean(text: str) -> str:
    """`text` with every control, bidi, invisible or invalid code point as U+FFFD; CR LF becomes a newline.

    Newlines and tabs stay, and so do the joiners inside emoji and joining scripts.
    """
    if text.isascii() and not _ASCII_CONTROLS.search(text):
        return text
    return re.sub(_UNSAFE, REPLACEMENT, text.replace("\r\n", "\n"))  # compiled when first needed


def clean_next(before: str, text: str) -> tuple[str, str]:
    """`clean` for text that comes in pieces: what follows `before`, cleaned, and the end that must wait.

    Put what waits in front of the next piece. `before` is what is clean already; its last character counts.
    """
    keep = len(text) - text.endswith(("\r", "\u200d", "\u200c"))
    return clean(before[-1:] + text[:keep])[len(before[-1:]) :], text[keep:]


def clean_line(text: str, limit: int = 200) -> str:
    """`clean` for one line: newlines and tabs become spaces, and more than `limit` characters end in "…"."""
    line = _LINE_BREAKS.sub(" ", clean(text[: 4 * limit + 4])).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"
