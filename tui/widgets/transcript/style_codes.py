"""The kind of a character in the rendered answer, in one byte. The palette gives it a style."""

from __future__ import annotations

from typing import Final

# Inline looks are flags, so that they combine; a heading adds its own bit group to them.
BOLD: Final = 1
ITALIC: Final = 2
CODE: Final = 4
STRIKE: Final = 8
LINK: Final = 16
FAINT: Final = 32
HEADING: Final = 64
SUBHEADING: Final = 128

# From here on a look stands alone.
ALONE: Final = 192
MARKER: Final = 193
BAR: Final = 194
RULE: Final = 195
USER: Final = 196
USER_BAR: Final = 197
NOTE: Final = 198
ERROR: Final = 199
FENCE: Final = 208
"""Looks from here on are code and stand on the code background."""
KEYWORD: Final = 209
FUNCTION: Final = 210
BUILTIN: Final = 211
STRING: Final = 212
NUMBER: Final = 213
COMMENT: Final = 214
OPERATOR: Final = 215
TYPE: Final = 216
INSERTED: Final = 217
DELETED: Final = 218


def heading(level: int) -> int:
    """Return the look of the letters in a heading of level 1 to 6."""
    return {1: HEADING | BOLD, 2: SUBHEADING | BOLD}.get(level, BOLD)
