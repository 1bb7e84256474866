"""Inline Markdown to `StyledText`: emphasis, code, links, images, breaks, entities.

It follows markdown-it's tokens through the text that they were parsed from, so every visible letter has its
place in the source. It shows HTML as text and opens no link.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from typing import Any, Final

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from tui.clean import clean, clean_line
from tui.widgets.transcript import style_codes
from tui.widgets.transcript.styled_text import Pen, StyledText

_SPANS: Final = {"strong": style_codes.BOLD, "em": style_codes.ITALIC, "s": style_codes.STRIKE}
_TARGET_LIMIT: Final = 400
_BREAK: Final = re.compile(r"</?br\b[^>]*>", re.IGNORECASE)


def remember_ends(parser: MarkdownIt) -> MarkdownIt:
    """Make the parser's link, image and autolink tokens carry meta["end"]: their end in the text."""
    rules = dict(zip(parser.inline.ruler.get_active_rules(), parser.inline.ruler.getRules(""), strict=True))
    for name in ("link", "image", "autolink"):
        parser.inline.ruler.at(name, _remembering(rules[name]))
    return parser


def _remembering(rule: Any) -> Any:
    def remember(state: StateInline, silent: bool) -> bool:
        matched: bool = rule(state, silent)
        if matched and not silent:
            state.tokens[-1].meta["end"] = state.pos
        return matched

    return remember


def render(
    children: Sequence[Token], text: str, places: array[int], origins: Sequence[int], base: int = 0
) -> StyledText:
    """Return the rendered text of one inline token.

    `children` are its tokens, `text` is their source text, `places` the source offset of every character of
    `text`, and `base` the look that all of it shares.
    """
    walk = _Walk(text, places, base)
    walk.follow(children)
    marked = walk.pen.done(origins)
    return marked.cut(0, len(marked.text.rstrip("\n"))) if marked.text.endswith("\n") else marked


class _Walk:
    """A position in the text. Each token moves it on."""

    def __init__(self, text: str, places: array[int], base: int) -> None:
        self.pen = Pen()
        self.text = text
        self.places = places
        self.look = base
        self.at = 0
        self.broke = -1
        """The end of the last <br>, or -1 once a line has ended since."""
        self.labels: list[tuple[int, str]] = []

    def follow(self, tokens: Sequence[Token]) -> None:
        for token in tokens:
            kind = token.type
            if kind == "html_inline" and _BREAK.fullmatch(token.content):
                self.html_break(token.content)
            elif kind == "formula" and token.meta["shown"]:
                self.formula(token.content, token.meta["shown"])
            elif kind in ("text", "html_inline", "formula"):
                self.verbatim(token.content)
            elif kind == "softbreak" or kind == "hardbreak":
                self.line_break()
            elif kind == "text_special":
                self.special(token)
            elif kind == "code_inline":
                self.code(token)
            elif kind == "link_open":
                self.open_link(token)
            elif kind == "link_close":
                self.close_link(token)
            elif kind == "image":
                self.image(token)
            elif (flag := _SPANS.get(kind.rpartition("_")[0])) is not None:
                self.look = self.look | flag if token.nesting > 0 else self.look & ~flag
                self.at += len(token.markup)

    def place(self, at: int) -> int:
        return self.places[min(at, len(self.places) - 1)]

    def verbatim(self, content: str, look: int = 0) -> None:
        """Write content that stands in the text unchanged, here or a little further on."""
        if not content:
            return
        at = self.at if self.text.startswith(content, self.at) else self.text.find(content, self.at)
        if at < 0:
            self.pen.stamp(content, self.look | look, self.place(self.at))
            return
        self.at = at + len(content)
        self.pen.write(content.replace("\t", " "), self.look | look, self.places[at : self.at])

    def formula(self, written: str, shown: Sequence[tuple[str, int]]) -> None:
        """Write a formula in other characters than its source."""
        at = self.text.find(written, self.at)
        self.pen.write(
            "".join(char for char, _ in shown), self.look, [self.places[at + place] for _, place in shown]
        )
        self.at = at + len(written)

    def special(self, token: Token) -> None:
        """Write an entity or an escape. An entity may name any code point, so it is cleaned again."""
        if token.content == token.markup:  # a backslash before a letter
            self.verbatim(token.content)
            return
        content = clean(token.content).replace("\n", " ").replace("\t", " ")
        self.pen.stamp(content, self.look, self.place(self.at + (token.info == "escape")))
        self.at += len(token.markup)

    def html_break(self, tag: str) -> None:
        """Read <br> and the newline after it as one break."""
        self.at = self.text.find(tag, self.at)
        self.pen.stamp("\n", self.look, self.place(self.at))
        self.at += len(tag)
        self.broke = self.at

    def line_break(self) -> None:
        newline = self.text.find("\n", self.at)
        if self.broke < 0 or self.text[self.broke : newline].strip():
            self.pen.stamp("\n", self.look, self.place(newline if newline >= 0 else self.at))
        self.broke = -1
        self.at = newline + 1 if newline >= 0 else self.at + 1
        while self.text[self.at : self.at + 1] in (" ", "\t"):
            self.at += 1

    def code(self, token: Token) -> None:
        self.at += len(token.markup)
        if self.text[self.at : self.at + len(token.content)].replace("\n", " ") != token.content:
            self.at += 1  # one space on each side belongs to the markup
        end = self.at + len(token.content)
        content = token.content.replace("\t", " ").replace("\n", " ")
        self.pen.write(content, self.look | style_codes.CODE, self.places[self.at : end])
        self.at = self.text.find(token.markup, end) + len(token.markup)

    def open_link(self, token: Token) -> None:
        self.at += 1
        self.look |= style_codes.LINK
        self.labels.append((self.at, str(token.attrs.get("href", ""))))

    def close_link(self, token: Token) -> None:
        start, target = self.labels.pop()
        self.look &= ~style_codes.LINK
        label = self.text[start : self.at]
        if token.markup != "autolink":
            self.target(target, label, token.meta["end"])
        self.at = token.meta["end"]

    def image(self, token: Token) -> None:
        self.at += 2
        start = self.at
        self.look |= style_codes.LINK
        if token.children:
            self.follow(token.children)
        else:
            self.pen.stamp("image", self.look, self.place(start))
        self.look &= ~style_codes.LINK
        self.target(str(token.attrs.get("src", "")), "", token.meta["end"])
        self.at = token.meta["end"]

    def target(self, target: str, label: str, end: int) -> None:
        """Write the target of a link after its text; leave it out if the text is the target."""
        shown = clean_line(target, _TARGET_LIMIT)
        if not shown or label in (target, target.removeprefix("mailto:")):
            return
        look = self.look | style_codes.FAINT
        at = self.text.find(shown, self.at, end)
        self.pen.stamp(" (", look, self.place(self.at))
        if at < 0:
            self.pen.stamp(shown, look, self.place(self.at))
        else:
            self.pen.write(shown, look, self.places[at : at + len(shown)])
        self.pen.stamp(")", look, self.place(end - 1))
