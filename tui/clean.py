"""Makes untrusted text (of a model, a file, an error) harmless: `clean` for the screen, `exact` for the rest.

Text on the screen is cleaned by code point and not by sequence: without its control character, no escape
sequence works. Text that is sent to a model, copied, exported or stored loses only control characters.
Joiners, direction marks, variation selectors and tags belong to the text.
"""

from __future__ import annotations

import re

REPLACEMENT = "\ufffd"

EMOJI = "\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
_JOINED_SCRIPTS = "\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u18af\ufb50-\ufdff\ufe70-\ufefc"

_CONTROLS = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 except tab and newline, DEL, C1
    "\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # invisible, bidi
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"  # musical controls, tags, supplementary selectors
    "\ud800-\udfff\ufdd0-\ufdef"  # lone surrogates, noncharacters
    + "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(17))
)
_UNSAFE = (
    f"[{_CONTROLS}]"
    # Joiners stay where they have a meaning and where Rich measures them as terminals do: ZWJ between emoji,
    # ZWNJ between letters of joining scripts.
    f"|(?<![{EMOJI}])\u200d|\u200d(?![{EMOJI}])"
    f"|(?<![{_JOINED_SCRIPTS}])\u200c|\u200c(?![{_JOINED_SCRIPTS}])"
)
_ASCII_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
_NO_CELLS = re.compile(f"[{_CONTROLS}\n\t]")
_LINE_BREAKS = re.compile(r"[\n\t]")
_SEQUENCES = (
    "\x1b(?:"
    r"\[[0-?]*[ -/]*[@-~]"  # CSI: colors, cursor moves
    "|[]PX^_][^\x00-\x1f\x7f]*(?:\x07|\x1b\\\\|\x9c)"  # titles, links, the clipboard
    "|[ -/]+[0-~]|[78=>])"  # character sets, the saved cursor, the keypad
)
_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def exact(text: str) -> str:
    """Return `text` with every control character as U+FFFD, and all others unchanged. CR LF becomes a
    newline.

    Newlines and tabs stay. Lone surrogates, which no file can hold, are replaced too.
    """
    return _NO_TEXT.sub(REPLACEMENT, text.replace("\r\n", "\n"))


def without_sequences(text: str) -> str:
    """Return pasted `text` without escape sequences and control characters. Every line end
    becomes a newline."""
    if "\x1b" in text:
        text = re.sub(_SEQUENCES, "", text)
    return _NO_TEXT.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def has_controls(text: str) -> bool:
    """Return whether `text` has control or other unsafe characters, including newlines and tabs."""
    return _NO_CELLS.search(text) is not None


def clean(text: str) -> str:
    """Return `text` with every control, bidi, invisible or invalid code point as U+FFFD. CR LF becomes a
    newline.

    Newlines and tabs stay, as do the joiners inside emoji and joining scripts.
    """
    if text.isascii() and not _ASCII_CONTROLS.search(text):
        return text
    return re.sub(_UNSAFE, REPLACEMENT, text.replace("\r\n", "\n"))  # compiled when first needed


def clean_next(before: str, text: str) -> tuple[str, str]:
    """Clean `text` that follows `before`. Return the clean text, and the end that must wait for the next
    piece.

    Put that end before the next piece. Of `before`, which is clean already, only the last character matters.
    """
    keep = len(text) - text.endswith(("\r", "\u200d", "\u200c"))
    return clean(before[-1:] + text[:keep])[len(before[-1:]) :], text[keep:]


def clean_line(text: str, limit: int = 200) -> str:
    """Clean text for one line: newlines and tabs become spaces. More than `limit` characters end in "…"."""
    line = _LINE_BREAKS.sub(" ", clean(text[: 4 * limit + 4])).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"
