"""A GBNF grammar, read and judged before llama.cpp sees it.

llama.cpp ends the process or never comes back on some grammars: it recurses once for each bracket and each
rule that begins with a rule, it looks for left recursion in exponential time, and misses what hides behind
a rule that may be empty only through others. So this module reads the same language with the same
repetitions written out, and refuses what cannot be followed within bounds. It matches no text itself.

Source of the language: grammars/README.md and src/llama-grammar.cpp of llama.cpp.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set

from .. import ModelError

LONGEST = 1 << 20
"""Bytes of the longest grammar."""
_MOST_ELEMENTS = 1 << 17
"""Characters, ranges and rule names once repetitions are written out. To copy a state, llama.cpp searches all
of them for each symbol that it waits for."""
MOST_REPETITIONS = 1999
"""Times the rules that are repeated; llama.cpp takes more for "any number", or refuses it."""
_DEEPEST = 100
"""Brackets within brackets."""
_LONGEST_CHAIN = 500
"""Rules that begin with a rule that begins with a rule ..."""
_MOST_BEGINNINGS = 5_000
"""Ways in which a rule may begin or go on; llama.cpp follows each, and compares all with all."""

_Item = int | str
"""A terminal, as the number of its elements in llama.cpp, or the name of a rule."""
_Rules = dict[str, list[list[_Item]]]
"""For each rule its alternatives."""

_ESCAPE = r"\\(?:[tnr\"\\\[\]-]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})"
_SYMBOL = re.compile(
    rf"""(?P<name>[a-zA-Z0-9-]+)
    | "(?P<literal> (?: [^"\\] | {_ESCAPE} )* )"
    | \[\^?+ (?P<class> (?: [^\]\\] | {_ESCAPE} )+ ) \]
    | (?P<any> \. )
    | (?P<group> \( )
    | (?P<token> [<!] )""",
    re.VERBOSE,
)
_IN_LINE = re.compile(r"(?:[ \t]|#[^\r\n]*+)*+")
_IN_GROUP = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*+)*+")
_TIMES = re.compile(r"\{_([0-9]{1,9})_(?:(,)_(?:([0-9]{1,9})_)?)?\}".replace("_", _IN_LINE.pattern))
_OFTEN = {"*": (0, None), "+": (1, None), "?": (0, 1)}
_NAME = re.compile(r"[a-zA-Z0-9-]+")
_DEFINITION = re.compile("::=")
_OR = re.compile(r"\|")
_END_OF_GROUP = re.compile(r"\)")
_END_OF_RULE = re.compile(r"\r\n?|\n|\Z")


def check(grammar: str) -> None:
    """Raises `ModelError`, with the line, for a grammar that llama.cpp cannot follow safely."""
    if len(grammar.encode("utf-8", "surrogatepass")) > LONGEST:
        raise _refusal(f"it is longer than {LONGEST >> 20} MiB")
    if not grammar.isascii() and re.search("[\ud800-\udfff]", grammar):
        raise _refusal("it is not Unicode text")
    if "\0" in grammar:
        raise _refusal("it contains a zero character")
    _judge(_Reader(grammar).read())


class _Reader:
    """Reads rules as llama.cpp does, with every group and repetition as a rule of its own."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._elements = 0
        self._rules: _Rules = {}
        self._used: dict[str, int] = {}
        self._names: set[str] = set()
        """Of all rules, be they read, used or made."""

    def read(self) -> _Rules:
        self._take(_IN_GROUP)
        while self._at < len(self._text):
            self._rule()
        for name, place in self._used.items():
            if name not in self._rules:
                self._at = place
                raise self._error(f'there is no rule "{name[:40]}"')
        if "root" not in self._rules:
            raise _refusal('it has no rule "root"')
        return self._rules

    def _rule(self) -> None:
        name = self._expect(_NAME, "the name of a rule")[0]
        if name in self._rules:
            raise self._error(f'the rule "{name[:40]}" is there already')
        self._take(_IN_LINE)
        self._expect(_DEFINITION, '"::="')
        self._take(_IN_GROUP)
        self._names.add(name)
        self._rules[name] = []
        self._rules[name] = self._alternatives(name, 0)
        self._expect(_END_OF_RULE, "a character, a rule or a new line")
        self._take(_IN_GROUP)

    def _alternatives(self, name: str, depth: int) -> list[list[_Item]]:
        """What stands behind a `::=` or within brackets, which are `depth`."""
        found = [self._sequence(name, depth)]
        while self._take(_OR):
            self._take(_IN_GROUP)
            found.append(self._sequence(name, depth))
        return found

    def _sequence(self, name: str, depth: int) -> list[_Item]:
        items: list[_Item] = []
        symbol: list[_Item] = []
        """The last item, to which a repetition belongs, and what it has become."""
        rules = 1
        """How many it is made of, as llama.cpp counts them."""
        while True:
            before = len(self._names)
            if times := self._repetition():
                rules *= times[1] or times[0] or 1
                if rules > MOST_REPETITIONS:
                    raise self._error(f"it repeats more than {MOST_REPETITIONS} times")
                symbol = self._repeated(name, symbol, *times)
            elif (another := self._symbol(name, depth)) is not None:
                items += symbol
                symbol, rules = another, max(1, len(self._names) - before)
            else:
                return items + symbol
            self._take(_IN_GROUP if depth else _IN_LINE)

    def _symbol(self, name: str, depth: int) -> list[_Item] | None:
        """The next character, class, rule or group; None if there is none."""
        found = self._take(_SYMBOL)
        kind = found and found.lastgroup
        if found is None or kind is None:
            return None
        if kind == "token":
            raise self._error("tokens by name or number are not supported")
        if kind == "group":
            return [self._group(name, depth + 1)]
        if kind == "name":
            self._used.setdefault(found[0], found.start())
            self._names.add(found[0])
        width = 1 if kind == "name" else len(found[kind])  # an escape counts for more than it is
        self._count(width)
        if kind == "name":
            return [found[0]]
        return [width] if width else []

    def _group(self, name: str, depth: int) -> str:
        if depth > _DEEPEST:
            raise self._error(f"more than {_DEEPEST} brackets lie within each other")
        self._take(_IN_GROUP)
        rule = self._new_rule(name, [])
        self._rules[rule] = self._alternatives(name, depth)
        self._expect(_END_OF_GROUP, '")"')
        return rule

    def _repetition(self) -> tuple[int, int | None] | None:
        """The fewest and the most times that the item before may stand there, if that is what follows."""
        if often := _OFTEN.get(self._text[self._at : self._at + 1]):
            self._at += 1
            return often
        if not self._text.startswith("{", self._at):
            return None
        found = self._expect(_TIMES, "a repetition such as {2} or {2,5}")
        fewest = int(found[1])
        most = int(found[3]) if found[3] else None if found[2] else fewest
        if most is not None and most < fewest:
            raise self._error("a repetition ends below its beginning")
        return fewest, most

    def _repeated(self, name: str, symbol: list[_Item], fewest: int, most: int | None) -> list[_Item]:
        """`symbol` `fewest` to `most` times: the least written out, each further one a rule."""
        if not symbol:
            raise self._error("there is nothing to repeat")
        width = sum(item if isinstance(item, int) else 1 for item in symbol)
        optional = 1 if most is None else most - fewest
        self._count(width * fewest + (width + 3) * optional)
        rest: str | None = None
        for _ in range(optional):
            rule = self._new_rule(name, [])
            following = rule if most is None else rest
            self._rules[rule] = [symbol if following is None else [*symbol, following], []]
            rest = rule
        return symbol * fewest + ([] if rest is None else [rest])

    def _new_rule(self, name: str, alternatives: list[list[_Item]]) -> str:
        rule = f"{name}_{len(self._rules)}"  # a name that no grammar can contain
        self._rules[rule] = alternatives
        self._names.add(rule)
        return rule

    def _count(self, elements: int) -> None:
        self._elements += elements
        if self._elements > _MOST_ELEMENTS:
            raise self._error("it is too large once its repetitions are written out")

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        if found:
            self._at = found.end()
        return found

    def _expect(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        found = self._take(pattern)
        if found is None:
            raise self._error(f"expected {what}")
        return found

    def _error(self, reason: str) -> ModelError:
        return _refusal(f"line {self._text.count(chr(10), 0, self._at) + 1}: {reason}")


def _judge(rules: _Rules) -> None:
    """Refuse rules that begin with themselves, begin or go on in too many ways, or after too many others."""
    empty = _may_be_empty(rules)
    beginnings: dict[str, int] = {}
    chain: dict[str, int] = {}

    def ways(items: Iterable[_Item]) -> int:
        return sum(1 if isinstance(item, int) else beginnings[item] for item in items)

    for name in _innermost_first(rules, empty):
        first = [item for sequence in rules[name] for item in _first(sequence, empty)]
        beginnings[name] = ways(first) + (name in empty)
        chain[name] = 1 + max((chain[item] for item in first if isinstance(item, str)), default=0)
        if beginnings[name] > _MOST_BEGINNINGS or chain[name] > _LONGEST_CHAIN:
            raise _refusal(f'the rule "{_written(name)}" may begin in too many ways')
    for name, alternatives in rules.items():
        if any(ways(run) > _MOST_BEGINNINGS for sequence in alternatives for run in _runs(sequence, empty)):
            raise _refusal(f'the rule "{_written(name)}" may go on in too many ways')


def _first(sequence: list[_Item], empty: Set[str]) -> list[_Item]:
    """The items that a sequence may begin with: up to the first that cannot be empty."""
    return next(_runs(sequence, empty), [])


def _runs(sequence: list[_Item], empty: Set[str]) -> Iterator[list[_Item]]:
    """A sequence cut behind each item that cannot be empty: what comes next is one of such a piece."""
    begun = 0
    for end, item in enumerate(sequence, 1):
        if item not in empty or end == len(sequence):
            yield sequence[begun:end]
            begun = end


def _may_be_empty(rules: _Rules) -> set[str]:
    """The rules that match an empty text."""
    empty: set[str] = set()
    waiting: Mapping[str, list[tuple[str, list[_Item]]]] = defaultdict(list)
    unsettled = [(name, sequence) for name, alternatives in rules.items() for sequence in alternatives]
    while unsettled:
        name, sequence = unsettled.pop()
        blocking = next((item for item in sequence if item not in empty), None)
        if isinstance(blocking, str):
            waiting[blocking].append((name, sequence))
        elif blocking is None and name not in empty:
            empty.add(name)
            unsettled += waiting[name]
    return empty


def _innermost_first(rules: _Rules, empty: Set[str]) -> Iterator[str]:
    """Every rule behind all those that it may begin with. Refuses a rule that may begin with itself."""
    done: set[str] = set()
    for start in rules:
        path = [] if start in done else [(start, _rules_first(rules[start], empty))]
        within = {start}
        while path:
            name, ahead = path[-1]
            following = next((each for each in ahead if each not in done), None)
            if following is None:
                path.pop()
                within.discard(name)
                done.add(name)
                yield name
            elif following in within:
                raise _refusal(f'the rule "{_written(following)}" may begin with itself (left recursion)')
            else:
                path.append((following, _rules_first(rules[following], empty)))
                within.add(following)


def _rules_first(alternatives: list[list[_Item]], empty: Set[str]) -> Iterator[str]:
    for sequence in alternatives:
        for item in _first(sequence, empty):
            if isinstance(item, str):
                yield item


def _written(name: str) -> str:
    """The rule of the grammar that a rule was made for."""
    return name.partition("_")[0][:40]


def _refusal(reason: str) -> ModelError:
    return ModelError(f"the grammar cannot be used: {reason}", "Change the grammar.")
