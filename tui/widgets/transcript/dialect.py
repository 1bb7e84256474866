"""Markdown as models write it: the rules in which it differs from CommonMark.

It changes a parser and reads nothing itself. Headings by underlining are not known, emphasis works beside the
punctuation of scripts without spaces, formulas stay as they are written, and code inside a fence of Markdown
does not end that fence.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Final

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline

from tui.widgets.transcript.formulas import in_unicode

_SENTENCE_ENDS: Final = frozenset('.:;,!?…"”’')
_QUOTES: Final = frozenset('"“‘')

_FENCE: Final = re.compile(r"([ \t]*)(`{3,}|~{3,})([^\n]*)\n?")
DEEPEST: Final = 16
"""Fences of Markdown inside each other."""
_FENCE_LINE: Final = re.compile(r"^[ \t]*(?:`{3,}|~{3,})[^\n]*(?:\n|\Z)", re.MULTILINE)

_DISPLAY: Final = re.compile(r"^(\\\[|\$\$(?!\$)|\\begin\{\w+\*?\})|(\\\[)[ \t]*$", re.MULTILINE)
"""The beginning of a formula that may continue over several lines."""
_OPENING: Final = re.compile(r"\\\(|\\\[|(?<!\$)\$\$(?!\$)|\\begin\{\w+\*?\}")
_DOLLARS: Final = re.compile(r"(?<!\$)\$(?![\s$])(?:\\.|[^\\$`])+(?<!\s)\$(?![0-9A-Za-z_{$])", re.DOTALL)
"""Formulas in dollars as Pandoc reads them, but never around a backtick or before a letter: `$a=$b` is a
shell's."""
_PRICE: Final = re.compile(r"\$\d[\d.,]*[KMBkmb]?(?:\*\*|/[^\W\d_]{2}|\s+(?:\*|[^\W\d_]{2}))")
"""Prices, which are no formulas: "$5 each, 10$ for both"."""


def learn(parser: MarkdownIt, unicode: bool) -> MarkdownIt:
    """Teach a parser the dialect; with `unicode`, simple formulas are shown in Unicode."""
    parser.disable("lheading")
    block, inline = parser.block.ruler, parser.inline.ruler
    blocks = dict(zip(block.get_active_rules(), block.getRules(""), strict=True))
    block.at("fence", _nesting(blocks["fence"]), {"alt": ["paragraph", "reference", "blockquote", "list"]})
    block.at(
        "html_block", _but_breaks(blocks["html_block"]), {"alt": ["paragraph", "reference", "blockquote"]}
    )
    block.at("paragraph", _whole_formulas(blocks["paragraph"]))
    spans = dict(zip(inline.get_active_rules(), inline.getRules(""), strict=True))
    inline.at("emphasis", _without_spaces(spans["emphasis"], "*_"))
    inline.at("strikethrough", _without_spaces(spans["strikethrough"], "~"))
    inline.at("escape", _formula_or(spans["escape"], unicode))
    return parser


# Emphasis


def _spaceless(char: str) -> bool:
    """Whether a character is of a script that puts no spaces between words: CJK, Thai, Khmer, Burmese."""
    return (
        char >= "\u2e80"
        or "\u0e00" <= char <= "\u109f"
        or "\u1100" <= char <= "\u11ff"
        or "\u1780" <= char <= "\u17ff"
    )


def _without_spaces(rule: Any, marks: str) -> Any:
    """Return a rule in which all marks but `_` also open and close between punctuation and a letter."""

    def tokenize(state: StateInline, silent: bool) -> bool:
        mark = state.src[state.pos]
        if mark not in marks:
            return False
        start, known = state.pos, len(state.delimiters)
        matched: bool = rule(state, silent)
        if matched and mark != "_" and len(state.delimiters) > known:
            opens, closes = _flanking(state.src, start, state.pos)
            for delimiter in state.delimiters[known:]:
                delimiter.open |= opens
                delimiter.close |= closes
        return matched

    return tokenize


def _flanking(text: str, start: int, end: int) -> tuple[bool, bool]:
    """Whether marks may open and close although CommonMark wants a space beside the punctuation there."""
    before, after = text[start - 1 : start], text[end : end + 1]
    if not before or not after or before.isspace() or after.isspace():
        return False, False
    if _spaceless(before) or _spaceless(after):
        return (
            unicodedata.category(after) not in ("Pe", "Pf"),
            unicodedata.category(before) not in ("Ps", "Pi"),
        )
    return end - start == 2 and after in _QUOTES, end - start == 2 and before in _SENTENCE_ENDS


# Formulas


def _closing(opening: str) -> str:
    return {"\\[": "\\]", "\\(": "\\)", "$$": "$$"}.get(opening) or opening.replace("begin", "end", 1)


def _formula_or(rule: Any, unicode: bool) -> Any:
    """Return a rule that reads a formula as one token with its text as written; else it does as `rule`."""

    def formula(state: StateInline, silent: bool) -> bool:
        if state.src[state.pos] not in "\\$":
            return False
        end = _formula_end(state.src, state.pos, state.posMax)
        if end < 0:
            return bool(rule(state, silent))
        if not silent:
            token = state.push("formula", "", 0)
            token.content = state.src[state.pos : end]
            token.meta["shown"] = in_unicode(token.content) if unicode else None
        state.pos = end
        return True

    return formula


def _formula_end(text: str, at: int, limit: int) -> int:
    """Return the end of the formula that begins at `at`, or -1. An open formula reaches as far as it may."""
    opening = _OPENING.match(text, at, limit)
    if opening is None:
        dollars = _DOLLARS.match(text, at, limit)
        return dollars.end() if dollars and not _PRICE.match(text, at, limit) else -1
    closing = _closing(opening[0])
    end = text.find(closing, opening.end(), limit)
    if end >= 0:
        return end + len(closing)
    if opening[0] == "\\(":
        newline = text.find("\n", at, limit)
        return newline if newline >= 0 else limit
    line = text.rfind("\n", 0, at) + 1
    begins_line = not text[line:at].strip()
    ends_line = opening[0] == "\\[" and not text[opening.end() : limit].partition("\n")[0].strip()
    return limit if begins_line or ends_line else -1


def _still_open(line: str, closing: str) -> str:
    """Return the text that will close the formula that is open after a line; "" for none. `closing` is the
    same for the line before."""
    if not closing:
        opening = _DISPLAY.search(line)
        if opening is None:
            return ""
        closing, line = _closing(opening[1] or opening[2]), line[opening.end() :]
    return "" if closing in line else closing


def _whole_formulas(rule: Any) -> Any:
    """Return the rule for paragraphs with formulas kept whole: inside one, no line begins a new block."""

    def paragraph(state: StateBlock, start: int, end: int, silent: bool) -> bool:
        text = state.src
        if "\\[" in text or "$$" in text or "\\begin" in text:
            return _paragraph(state, start)
        return bool(rule(state, start, end, silent))

    return paragraph


def _paragraph(state: StateBlock, start: int) -> bool:
    kind, state.parentType = state.parentType, "paragraph"
    rules = state.md.block.ruler.getRules("paragraph")
    end, closing = start + 1, _still_open(_line(state, start), "")
    while end < state.lineMax and not state.isEmpty(end):
        lazy = state.sCount[end] - state.blkIndent > 3 or state.sCount[end] < 0
        if not closing and not lazy and any(rule(state, end, state.lineMax, True) for rule in rules):
            break
        closing = _still_open(_line(state, end), closing)
        end += 1
    state.line = end
    state.push("paragraph_open", "p", 1).map = [start, end]
    token = state.push("inline", "", 0)
    token.content = state.getLines(start, end, state.blkIndent, False).strip()
    token.map, token.children = [start, end], []
    state.push("paragraph_close", "p", -1)
    state.parentType = kind
    return True


def _line(state: StateBlock, number: int) -> str:
    """Return a line without its indentation and the marks of its containers."""
    return state.src[state.bMarks[number] + state.tShift[number] : state.eMarks[number]]


# HTML


def _but_breaks(rule: Any) -> Any:
    """Return the rule for HTML blocks, which leaves a line that begins with <br> to the paragraph."""

    def html(state: StateBlock, start: int, end: int, silent: bool) -> bool:
        begin = state.bMarks[start] + state.tShift[start]
        is_break = state.src[begin : begin + 3].lower() == "<br"
        return not is_break and bool(rule(state, start, end, silent))

    return html


# Fences


def holds_markdown(info: str) -> bool:
    """Whether a fence with that info string holds Markdown, and so may hold fences itself."""
    return info.strip().partition(" ")[0].lower() in ("markdown", "md", "mdx")


class Fences:
    """The fences inside a fence of Markdown that was opened with `mark`, as its lines go by."""

    __slots__ = ("_mark", "_open")

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._open: tuple[tuple[str, bool], ...] = ()

    def end(self, source: str, begin: int, end: int) -> re.Match[str] | None:
        """Return the end of the line in source[begin:end] that closes the outer fence. Nothing is
        remembered."""
        known = self._open
        found = next(
            (line for line in _FENCE_LINE.finditer(source, begin, end) if self.closes(line[0])), None
        )
        self._open = known
        return found

    def pass_by(self, source: str, begin: int, end: int) -> None:
        """Remember the fences that source[begin:end] opens and closes."""
        for line in _FENCE_LINE.finditer(source, begin, end):
            self.closes(line[0])

    def closes(self, line: str) -> bool:
        """Whether the next line closes the outer fence."""
        fence = _FENCE.fullmatch(line)
        if fence is None or not fence[2].startswith(self._mark):
            return False
        if not fence[3].strip():
            if not self._open:
                return len(fence[1].expandtabs(4)) < 4
            if fence[2].startswith(self._open[-1][0]):
                self._open = self._open[:-1]
        elif self._may_open() and not (fence[2][0] == "`" and "`" in fence[3]):
            self._open += ((fence[2], holds_markdown(fence[3])),)
        return False

    def _may_open(self) -> bool:
        return not self._open or (self._open[-1][1] and len(self._open) < DEEPEST)


def _nesting(rule: Any) -> Any:
    """Return the rule for fences, in which a fence of Markdown continues to its own end."""

    def fence(state: StateBlock, start: int, end: int, silent: bool) -> bool:
        matched: bool = rule(state, start, end, silent)
        if matched and not silent and holds_markdown(state.tokens[-1].info):
            token = state.tokens[-1]
            fences, line = Fences(token.markup), start + 1
            while line < end and (state.isEmpty(line) or state.sCount[line] >= state.blkIndent):
                if fences.closes(" " * (state.sCount[line] - state.blkIndent) + _line(state, line)):
                    break
                line += 1
            closed = line < end and (state.isEmpty(line) or state.sCount[line] >= state.blkIndent)
            state.line = line + closed
            token.content = state.getLines(start + 1, line, state.sCount[start], True)
            token.map = [start, state.line]
        return matched

    return fence
