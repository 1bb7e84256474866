"""The composer's document: typed text, pasted text, and pastes folded into one line.

In the document, a stand-in replaces each character that must be told from a typed one. It is a lone
surrogate, one cell wide, which no keyboard, paste or file can bring. So the difference outlives every edit,
undo and recall, and nobody can type it. `said`, `seen` and `by_hand` read a document.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from tui.clean import EMOJI, REPLACEMENT, clean

_BEGIN, _END = "\ud800", "\ud801"
"""The marks around the label of a folded paste."""
_AT, _SLASH = "\ud802", "\ud803"
"""The stand-ins of a pasted @ and /: these name no file and begin no command."""
_LINE, _PARAGRAPH, _JOINER = "\ud804", "\ud805", "\ud806"
"""Separators, at which Python's `splitlines` would break a line, and a joiner outside emoji: Rich gives no
cell to the letter behind one."""

MARK: Final = re.compile(f"{_BEGIN}([^{_BEGIN}{_END}]*){_END}")
_ALONE: Final = re.compile(f"(?<![{EMOJI}])\u200d|\u200d(?=[^{EMOJI}])")
_QUOTED: Final = str.maketrans("@/", _AT + _SLASH)
_STANDING: Final = str.maketrans("\u2028\u2029", _LINE + _PARAGRAPH)
_SAID: Final = str.maketrans(_AT + _SLASH + _LINE + _PARAGRAPH + _JOINER, "@/\u2028\u2029\u200d")
_SEEN: Final = str.maketrans(
    _BEGIN + _END + _AT + _SLASH + _LINE + _PARAGRAPH + _JOINER, "[]@/" + 3 * REPLACEMENT
)
_NOT_TYPED: Final = "\ufffc"
_BY_HAND: Final = str.maketrans(
    _BEGIN + _END + _AT + _SLASH + _LINE + _PARAGRAPH + _JOINER, 3 * _NOT_TYPED + "/\u2028\u2029\u200d"
)


def standing(text: str, before: str = "") -> str:
    """Return `text` as the document holds it behind the character `before`."""
    text = _ALONE.sub(_JOINER, before + text)[len(before) :] if "\u200d" in text else text
    return text.translate(_STANDING)


def quoted(text: str) -> str:
    """Return pasted `text`: the same words, which name no file and give no command."""
    return text.translate(_QUOTED)


def recalled(text: str, names: Iterable[str] = (), *, command: bool = False) -> str:
    """Return an earlier prompt as pasted text, except for the files that it named and its command."""
    found = quoted(text)
    if either := "|".join(re.escape(quoted(name)) for name in sorted(names, key=len, reverse=True)):
        found = re.sub(rf'(?<!\S){_AT}(?="?(?:{either})[.,;:!?)]*(?:["\s]|\Z))', "@", found)
    return "/" + found[1:] if command and found.startswith(_SLASH) else found


def folded(label: str) -> str:
    """Return the unit that stands for a folded paste."""
    return _BEGIN + label + _END


def said(document: str, pasted: Mapping[str, str]) -> str:
    """Return the text to send, character by character; `pasted` has the folded texts by label."""
    return MARK.sub(lambda mark: pasted[mark[1]], document).translate(_SAID)


def seen(document: str) -> str:
    """Return the text as the screen shows it, cell by cell."""
    return document.translate(_SEEN)


def shown(document: str) -> str:
    """Return the text as a person sees it, clean."""
    return clean(seen(document))


def by_hand(document: str) -> str:
    """Return a text of the same length, with U+FFFC for each pasted @, each pasted first / and each mark."""
    text = document.translate(_BY_HAND)
    return _NOT_TYPED + text[1:] if document.startswith(_SLASH) else text
