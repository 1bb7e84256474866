"""GBNF, the grammars of llama.cpp, as Lark, the grammars of llguidance. It matches no text itself.

Every terminal of the result is one character. llguidance takes the longest terminal that fits, so longer
ones would change the language: `("a" | "ab") "bc"` would no longer allow "abc". Its own converter writes such
terminals, and it cannot read some escapes, repetitions and names.

Source of the language: grammars/README.md and src/llama-grammar.cpp of llama.cpp.
"""

from __future__ import annotations

import re

from . import ModelError

LONGEST = 1 << 20
"""Bytes of the longest grammar."""
_MOST_ELEMENTS = 1 << 16
"""Characters, ranges and rule names."""
_DEEPEST = 100
"""Brackets within brackets."""

_ESCAPE = r"\\(?:[tnr\"\\\[\]-]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})"
_SYMBOL = re.compile(
    rf"""(?P<name>[a-zA-Z0-9-]+)
    | "(?P<literal> (?: [^"\\] | {_ESCAPE} )* )"
    | \[(?P<not>\^?+) (?P<class> (?: [^\]\\] | {_ESCAPE} )+ ) \]
    | (?P<any> \. )
    | (?P<group> \( )
    | (?P<token> [<!] )""",
    re.VERBOSE,
)
_CHARACTER = re.compile(f"{_ESCAPE}|.", re.DOTALL)
_RANGE = re.compile(f"({_CHARACTER.pattern})(?:-({_CHARACTER.pattern}))?", re.DOTALL)
_CONTROLS = {"t": 9, "n": 10, "r": 13}
_IN_LINE = re.compile(r"(?:[ \t]|#[^\r\n]*+)*+")
_IN_GROUP = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*+)*+")
_TIMES = re.compile(r"\{_([0-9]{1,9})_(?:(,)_(?:([0-9]{1,9})_)?)?\}".replace("_", _IN_LINE.pattern))
_NEVER = "{0,0}"
_OFTEN = re.compile(r"[*+?]")
_NAME = re.compile(r"[a-zA-Z0-9-]+")
_DEFINITION = re.compile("::=")
_OR = re.compile(r"\|")
_END_OF_GROUP = re.compile(r"\)")
_END_OF_RULE = re.compile(r"\r\n?|\n|\Z")


def to_lark(grammar: str) -> str:
    """Return the Lark grammar of the texts that `grammar` describes. Raises `ModelError`, with the line."""
    if len(grammar.encode("utf-8", "surrogatepass")) > LONGEST:
        raise rejection(f"it is longer than {LONGEST >> 20} MiB")
    if not grammar.isascii() and re.search("[\ud800-\udfff]", grammar):
        raise rejection("it is not Unicode text")
    if "\0" in grammar:
        raise rejection("it contains a zero character")
    return _Translator(grammar).lark()


def rejection(reason: str) -> ModelError:
    """Return the error for a grammar that cannot be used."""
    return ModelError(f"the grammar cannot be used: {reason}", "Change the grammar.")


class _Translator:
    """Reads rules as llama.cpp does and writes each as Lark."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._elements = 0
        self._rules: dict[str, str] = {}
        """The Lark text of each rule that was read."""
        self._used: dict[str, int] = {}
        """The place of the first use of each rule."""
        self._names: dict[str, str] = {}
        """The rules, named anew: names that differ in GBNF can be the same in Lark."""
        self._groups: dict[str, str] = {}
        """Each group as a rule, because llguidance reads few brackets within brackets."""
        self._terminals: dict[str, str] = {}
        """The name of each terminal, by its regular expression."""

    def lark(self) -> str:
        self._take(_IN_GROUP)
        while self._at < len(self._text):
            self._rule()
        for name, place in self._used.items():
            if name not in self._rules:
                self._at = place
                raise self._error(f'there is no rule "{name[:40]}"')
        if "root" not in self._rules:
            raise rejection('it has no rule "root"')
        rules = (f"{self._named(name)}: {body}" for name, body in self._rules.items())
        groups = (f"{name}: {body}" for name, body in self._groups.items())
        terminals = (f"{name}: /{pattern}/" for pattern, name in self._terminals.items())
        return "\n".join((f"start: {self._named('root')}", *rules, *groups, *terminals, ""))

    def _rule(self) -> None:
        name = self._expect(_NAME, "the name of a rule")[0]
        if name in self._rules:
            raise self._error(f'the rule "{name[:40]}" is there already')
        self._take(_IN_LINE)
        self._expect(_DEFINITION, '"::="')
        self._take(_IN_GROUP)
        self._rules[name] = self._alternatives(0)
        self._expect(_END_OF_RULE, "a character, a rule or a new line")
        self._take(_IN_GROUP)

    def _alternatives(self, depth: int) -> str:
        """Return the text after a `::=` or within brackets, which are `depth`."""
        found = [self._sequence(depth)]
        while self._take(_OR):
            self._take(_IN_GROUP)
            found.append(self._sequence(depth))
        return " | ".join(found)

    def _sequence(self, depth: int) -> str:
        items: list[str] = []
        while True:
            if times := self._repetition():
                if not items or not items[-1]:
                    raise self._error("there is nothing to repeat")
                item = items[-1] if items[-1].isalnum() else f"({items[-1]})"
                items[-1] = f"{item}{times}" if times != _NEVER else '""'
            elif (another := self._symbol(depth)) is not None:
                items.append(another)
            else:
                return " ".join(filter(None, items)) or '""'
            self._take(_IN_GROUP if depth else _IN_LINE)

    def _symbol(self, depth: int) -> str | None:
        """Return the next literal, class, rule or group; None if there is none."""
        found = self._take(_SYMBOL)
        if found is None:
            return None
        match found.lastgroup:
            case "name":
                self._used.setdefault(found[0], found.start())
                self._count(1)
                return self._named(found[0])
            case "literal":
                return " ".join(map(self._exactly, _CHARACTER.findall(found["literal"])))
            case "class":
                return self._class(found["class"], found["not"])
            case "any":
                return self._terminal("(?s:.)")
            case "group":
                return self._group(depth + 1)
        raise self._error("tokens by name or number are not supported")

    def _group(self, depth: int) -> str:
        if depth > _DEEPEST:
            raise self._error(f"more than {_DEEPEST} brackets lie within each other")
        self._take(_IN_GROUP)
        inside = self._alternatives(depth)
        self._expect(_END_OF_GROUP, '")"')
        group = f"g{len(self._groups)}"
        self._groups[group] = inside
        return group

    def _repetition(self) -> str:
        """Return how often the item before may stand there, as Lark; empty if it stands there once."""
        if often := self._take(_OFTEN):
            return often[0]
        if not self._text.startswith("{", self._at):
            return ""
        fewest, more, most = self._expect(_TIMES, "a repetition such as {2} or {2,5}").groups()
        if most and int(most) < int(fewest):
            raise self._error("a repetition ends below its beginning")
        if more and not most:
            return f"{{{int(fewest)},}}"
        return f"{{{int(fewest)},{int(most or fewest)}}}"

    def _class(self, text: str, inverted: str) -> str:
        ranges = []
        for first, last in _RANGE.findall(text):
            low = self._code(first)
            high = self._code(last) if last else low
            if high < low:
                raise self._error("a range ends before its beginning")
            ranges.append(rf"\x{{{low:x}}}-\x{{{high:x}}}")
            self._count(1)
        return self._terminal(f"[{inverted}{''.join(ranges)}]")

    def _exactly(self, character: str) -> str:
        return self._terminal(rf"\x{{{self._code(character):x}}}")

    def _code(self, character: str) -> int:
        """Return the code point of a character that may be written as an escape."""
        if len(character) == 1:
            return ord(character)
        kind = character[1]
        code = int(character[2:], 16) if len(character) > 2 else _CONTROLS.get(kind, ord(kind))
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise self._error(f"{character} is no character")
        return code

    def _terminal(self, pattern: str) -> str:
        self._count(1)
        return self._terminals.setdefault(pattern, f"T{len(self._terminals)}")

    def _named(self, rule: str) -> str:
        return self._names.setdefault(rule, f"r{len(self._names)}")

    def _count(self, elements: int) -> None:
        self._elements += elements
        if self._elements > _MOST_ELEMENTS:
            raise self._error("it is too large")

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        if found:
            self._at = found.end()
        return found

    def _expect(self, pattern: re.Pattern[str], wanted: str) -> re.Match[str]:
        found = self._take(pattern)
        if found is None:
            raise self._error(f"expected {wanted}")
        return found

    def _error(self, reason: str) -> ModelError:
        return rejection(f"line {self._text.count(chr(10), 0, self._at) + 1}: {reason}")
