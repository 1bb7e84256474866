"""GBNF grammars: what is refused, with its line, and that llama.cpp survives whatever is not."""

from __future__ import annotations

import subprocess
import sys
from time import perf_counter

import pytest

from tests.support.paths import ROOT
from tui.engine.backends import LoadedModel, ModelError, Options, open_backend
from tui.engine.backends.llama_cpp import gbnf
from tui.engine.starter import MAIN

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
    'root ::= "a"{0}*': "line 1: there is nothing to repeat",
    'root ::= "a"{': "line 1: expected a repetition",
    'root ::= "a"{,3}': "line 1: expected a repetition",
    'root ::= "a"{1,2': "line 1: expected a repetition",
    'root ::= "a"{2#}': "line 1: expected a repetition",
    'root ::= "a"{\n2}': "line 1: expected a repetition",
    'root ::= "a"{9999999999}': "line 1: expected a repetition",
    'root ::= "a"{3,2}': "line 1: a repetition ends below its beginning",
    'root ::= "a"{2000}': "line 1: it repeats more than 1999 times",
    'root ::= "a"{0,2001}': "line 1: it repeats more than 1999 times",
    'root ::= "a"{50}{50}': "line 1: it repeats more than 1999 times",
    'root ::= ("a"? "b"? "c"?){600}': "line 1: it repeats more than 1999 times",
    "root ::= <[5]>": "line 1: tokens by name or number",
    "root ::= !<think>": "line 1: tokens by name or number",
    f"root ::= {'(' * 101}[a]{')' * 101}": "line 1: more than 100 brackets",
    'root ::= "\0"': "zero character",
    'root ::= "\ud800"': "not Unicode",
    'root ::= "' + "a" * (1 << 20) + '"': "longer than 1 MiB",
    'root ::= "' + "a" * 200_000 + '"': "too large",
    'root ::= root "a"': 'the rule "root" may begin with itself',
    "root ::= a\na ::= b\nb ::= a": 'the rule "a" may begin with itself',
    'root ::= e root | "a"\ne ::= ""': 'the rule "root" may begin with itself',
    'root ::= e root | "a"\ne ::= f f\nf ::= g | "b"\ng ::= | "c"': 'the rule "root" may begin with itself',
    'root ::= ("a"? "b"*) root': 'the rule "root" may begin with itself',
    'root ::= ("a"*)*': 'the rule "root" may begin with itself',
    'root ::= [a] c\nc ::= d\nd ::= ("x"* c)+': "may begin with itself",
}


def chained(count: int, rule: str) -> str:
    """Rules a0, a1, ... of which each is `rule` with the next for `{}`."""
    rules = "\n".join(f"a{i} ::= {rule.replace('{}', f'a{i + 1}')}" for i in range(count))
    return f'root ::= "x" a0\n{rules}\na{count} ::= "y"'


ENDLESS = {
    "two ways at each step": chained(60, '{} "a" | {} "b"'),
    "long chain": chained(2000, '{} "a"'),
    "many alternatives": "root ::= " + " | ".join(f'"{i}"' for i in range(6000)),
    "many that may be left out": 'root ::= "a" ' + " ".join(f'"{i}"?' for i in range(6000)),
    "multiplied": f'root ::= "{"a" * 100}"{{1999}}',
}


@pytest.fixture(scope="module")
def main() -> LoadedModel:
    options = Options(role="main", context_length=512, threads=1)
    return open_backend(str(MAIN)).load(str(MAIN), options, lambda _: True)


@pytest.mark.parametrize("grammar", GOOD.values(), ids=GOOD)
def test_good_grammars_are_accepted_here_and_by_the_library(grammar: str, main: LoadedModel) -> None:
    main.constraint(grammar)


@pytest.mark.parametrize(("grammar", "reason"), BAD.items(), ids=range(len(BAD)))
def test_a_bad_grammar_is_refused_with_the_reason(grammar: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        gbnf.check(grammar)
    assert str(caught.value).startswith("the grammar cannot be used: ")
    assert caught.value.hint


@pytest.mark.parametrize("grammar", ENDLESS.values(), ids=ENDLESS)
def test_what_would_take_llama_cpp_for_ever_is_refused_at_once(grammar: str) -> None:
    started = perf_counter()
    with pytest.raises(ModelError, match=r"too many ways|too large"):
        gbnf.check(grammar)
    assert perf_counter() - started < 5


FUZZ = r"""
import random
import sys
sys.path[:0] = sys.argv[1:2]
import numpy as np
from tests.test_gbnf import BAD, GOOD
from tui.engine.backends import ModelError, Options, open_backend
from tui.engine.starter import MAIN

model = open_backend(str(MAIN)).load(str(MAIN), Options("main", 256, threads=1), lambda _: True)
every = np.arange(model.vocabulary_size)
bits = [*'"[]()|*+?\n\r\t\\^-.#<eé', "{2}", "{0,3}", "{1,}", "{7}", "::=", "root", "ws",
        "a ::= ", " a ", '"x"', '""', "[^a]", "\\x41"]
small = [text for text in (*4 * list(GOOD.values()), *BAD) if len(text) < 999]
small = [text for text in small if "1999" not in text and "600" not in text]  # would take too long
accepted = 0
for seed in range(int(sys.argv[2])):
    draw = random.Random(seed)
    text = draw.choice(small)
    for _ in range(draw.randint(0, 3)):
        at, until = (draw.randint(0, len(text)) for _ in range(2))
        if draw.random() < 0.5:
            text = text[:at] + draw.choice(bits) + text[at:]
        elif abs(at - until) < 20:
            text = text[:min(at, until)] + text[max(at, until):]
        else:
            text = text[:at] + text[at:until][:40] + text[at:]
    print(repr(text), file=sys.stderr, flush=True)
    try:
        constraint = model.constraint(text)
    except ModelError as error:
        assert "llama.cpp cannot read" not in str(error), (text, error)
        continue
    accepted += 1
    answer = []
    for step in range(12):
        allowed = every[constraint.allowed(answer, every)]
        if not allowed.size or draw.random() < 0.2:
            allowed = every
        answer.append(int(draw.choice(allowed)))
        if draw.random() < 0.2:
            del answer[draw.randint(0, len(answer)):]
print(accepted)
"""


def test_the_library_survives_every_grammar_that_is_accepted() -> None:
    """Mutated grammars, and answers that follow them, leave them and go back, in a process that may die."""
    child = subprocess.run(
        [sys.executable, "-c", FUZZ, str(ROOT), "2000"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        check=False,
    )
    assert child.returncode == 0, child.stderr.splitlines()[-3:]
    assert int(child.stdout) > 300
