"""Text that wants to be more than text: control characters, escape sequences, markup."""

from __future__ import annotations

import random

KEPT = [
    "plain text, ünïcode, 中文, العربية, עברית, हिन्दी",
    "a\nb\tc",
    "👩\u200d💻 👨\u200d👩\u200d👧 ❤\ufe0f 🏳\ufe0f\u200d🌈",  # ZWJ and selectors inside emoji
    "می\u200cخواهم",  # ZWNJ inside a Persian word
    "a\u00a0b\u202fc\u2009d\u3000e",  # spaces that are not U+0020
    "e\u0301 \ue0b0",  # combining, private use
]

TAKEN = [
    *map(chr, (*range(0, 9), *range(11, 32), *range(127, 160))),
    *"\xad\u061c\u180e\u200b\u200e\u200f\u2028\u2029\u202a\u202e\u2060\u2066\u2069\ufeff\ufff9\ufffe\uffff\ufdd0",
    *"\U000e0001\U000e0041\U000e007f\U000e0100\U0001fffe\U0010ffff\U0001d173",
    "\ud800",
    "\udfff",
]

ESCAPES = [
    *(
        "\x1b[2J",
        "\x1b[31m",
        "\x1b]52;c;SGFja2Vk\x07",
        "\x1b]0;title\x07",
        "\x1b]8;;http://x\x1b\\",
        "\x1bP+q544e\x1b\\",
    ),
    *(
        "\x9b2J",
        "\x9d0;x\x9c",
        "\x1b[6n",
        "\x1b[?1049l",
        "\x1b_Gx\x1b\\",
        "\x1b]52;c;",
        "\x1bc",
        "\x0e",
        "\x05",
        "\r",
        "\b",
    ),
    *("&#27;", "&#x9b;", "&#8238;", "&zwj;", "&NewLine;", "&Tab;", "&#x200b;", "&shy;"),
]

MARKUP = [
    *(
        "# ",
        "- ",
        "> ",
        "```",
        "`",
        "**",
        "[",
        "](http://h/",
        ")",
        "![",
        "<",
        ">",
        "|",
        "\n|---|\n",
        "\n\n",
        "\n",
        "    ",
    ),
    *("<b>", "&", ";", "~~", "1. ", "\\", "text", "[@click=app.quit]x[/]"),
]


def hostile(draw: random.Random) -> str:
    parts = [
        draw.choice((draw.choice(ESCAPES), draw.choice(TAKEN), draw.choice(MARKUP), draw.choice(KEPT)))
        for _ in range(12)
    ]
    return "".join(parts)
