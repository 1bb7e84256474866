"""GBNF grammars, good and bad with the reason for the rejection; and a sampler that sees close choices."""

from __future__ import annotations

from typing import Any

import numpy as np

from tui.engine.speculation.sampling import Logits, Sampler, gumbel

JSON = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws

string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws

number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws

# Optional space: by convention, applied in this grammar after literal chars when allowed
ws ::= | " " | "\n" [ \t]{0,20}
"""
"""llama.cpp's grammars/json.gbnf."""

GOOD = {
    "json": JSON,
    "arithmetic": r"""
        root  ::= (expr "=" ws term "\n")+
        expr  ::= term ([-+*/] term)*
        term  ::= ident | num | "(" ws expr ")" ws
        ident ::= [a-z] [a-z0-9_]* ws
        num   ::= [0-9]+ ws
        ws    ::= [ \t\n]*""".replace("        ", ""),
    "lists": 'root ::= item+\nitem ::= "- " [^\\r\\n\\x0b\\x0c\\x85\\u2028\\U00002029]+ "\\n"',
    "words": '# a comment\r\nroot ::= a-1 B2\r\na-1 ::= .\r\nB2 ::= 日本 | "語"'.replace("日本", '"日本"'),
    "nothing": 'root ::= ""',
    "empty alternatives": "root ::= | a\na ::= [a-] | [--a] | [\\]\\[\\-]",
    "a group over lines": 'root ::= (\n "a" # why\n | "b"\n)*',
    "repetitions": 'root ::= "a"{3} "b"{2,} "c"{0,4} "d"{0} "e"{0,0} "f"{ 1 , 2 } "g"+* "h"??',
    "as many as can be": "root ::= a{1999}\na ::= [a]",
    "a newline in quotes": 'root ::= "a\nb"',
    "deep": f"root ::= {'(' * 100}[a]{')' * 100}",
    "right recursion": 'root ::= "a" root | e e "b"\ne ::= "" | "c"',
}

BAD = {
    "": 'no rule "root"',
    "# nothing\n": 'no rule "root"',
    'other ::= "a"': 'no rule "root"',
    'root ::= "a"\n\nb ::= c': 'line 3: there is no rule "c"',
    'root ::= "a"\nroot ::= "b"': 'line 2: the rule "root" is there already',
    'root : "a"': 'line 1: expected "::="',
    'root ::= "a': "line 1: expected a character, a rule or a new line",
    "root ::= [a": "line 1: expected",
    "root ::= []": "line 1: expected",
    "root ::= [z-a]": "line 1: a range ends before its beginning",
    "root ::= [\\uD800]": r"line 1: \\uD800 is no character",
    "root ::= [\\U00110000]": r"line 1: \\U00110000 is no character",
    "root ::= [^]": "line 1: expected",
    'root ::= [^] root | "a"': "line 1: expected",
    'root ::= ("a"': r'line 1: expected "\)"',
    'root ::= "a")': "line 1: expected",
    '\n| "a"': "line 2: expected the name of a rule",
    'root ::= "a"\n  | "b"': "line 2: expected the name of a rule",
    'root ::= "\\q"': "line 1: expected",
    'root ::= "\\x4"': "line 1: expected",
    'root ::= "\\u123"': "line 1: expected",
    "root ::= *": "line 1: there is nothing to repeat",
    'root ::= "" *': "line 1: there is nothing to repeat",
    'root ::= "a"{': "line 1: expected a repetition",
    'root ::= "a"{,3}': "line 1: expected a repetition",
    'root ::= "a"{1,2': "line 1: expected a repetition",
    'root ::= "a"{2#}': "line 1: expected a repetition",
    'root ::= "a"{\n2}': "line 1: expected a repetition",
    'root ::= "a"{9999999999}': "line 1: expected a repetition",
    'root ::= "a"{3,2}': "line 1: a repetition ends below its beginning",
    "root ::= <[5]>": "line 1: tokens by name or number",
    "root ::= !<think>": "line 1: tokens by name or number",
    f"root ::= {'(' * 101}[a]{')' * 101}": "line 1: more than 100 brackets",
    'root ::= "\0"': "zero character",
    'root ::= "\ud800"': "not Unicode",
    'root ::= "' + "a" * (1 << 20) + '"': "longer than 1 MiB",
    'root ::= "' + "a" * 200_000 + '"': "too large",
}


class ConstrainedGapSampler(Sampler):
    """Keeps, for each place, the least by which a choice led the next best one."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.gaps: dict[int, float] = {}

    def _choice(self, scores: Logits, index: int) -> Any:
        heated = scores.astype(np.float64)
        if self._chain.temperature:
            heated = heated / self._chain.temperature + gumbel(self._seed, index, np.arange(scores.size))
            heated = heated[scores >= np.partition(scores, -self._chain.top_k)[-self._chain.top_k]]
        second, best = np.partition(heated, -2)[-2:]
        self.gaps[index] = min(self.gaps.get(index, np.inf), float(best - second))
        return super()._choice(scores, index)
