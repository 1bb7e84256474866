"""GBNF grammars: the texts that they allow, and that a bad one is rejected with its line."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tests.support.grammars import BAD, GOOD
from tests.support.paths import ROOT
from tui.engine.backends import LoadedModel, ModelError, Options
from tui.engine.backends.gbnf import to_lark
from tui.engine.backends.grammars import of_gbnf
from tui.engine.backends.selection import open_backend
from tui.engine.starter import MAIN


def chained(count: int, rule: str) -> str:
    """Rules a0, a1, ... of which each is `rule` with the next for `{}`."""
    rules = "\n".join(f"a{i} ::= {rule.replace('{}', f'a{i + 1}')}" for i in range(count))
    return f'root ::= "x" a0\n{rules}\na{count} ::= "y"'


WORDS = 'root ::= word " " word\nword ::= [a-z ]+'
ALLOWED: list[tuple[str, list[str], list[str]]] = [
    ('root ::= ("a" | "ab") "bc"', ["abc", "abbc"], ["ab", "abb", "bc"]),
    (WORDS, ["ab cd", "a b c"], ["ab", "ab ", "A b"]),
    ('root ::= "a"* "a"', ["a", "aaa"], ["", "b"]),
    ('root ::= "ab"{2}', ["abab"], ["ab", "abb"]),
    ('root ::= ("a" | "b"){1,2} "c"{2,}', ["acc", "abcccc"], ["cc", "ac", "abacc"]),
    ('root ::= "a"{0} "b"{0,0} "c"?+', ["", "ccc"], ["a", "b"]),
    ('root ::= ("a"?){1000} "b"', ["b", "aab"], ["a", "ba"]),
    ('root ::= "a"{3000}', ["a" * 3000], ["a" * 2999, "a" * 3001]),
    ("root ::= .", ["\n", "ö", "語"], ["", "ab"]),
    (r'root ::= "\u0041\x42\t\U0001F600\"\\"', ['AB\t😀"\\'], ["AB"]),
    (r"root ::= [\u00e0-\u00ff\]^-]", ["é", "]", "^", "-"], ["e", "à-"]),
    (r"root ::= [^a\n/]", ["b", "]", "語"], ["a", "\n", "/"]),
    ("root ::= [--a] [a-]", ["-a", "a-", "/a"], ["b-", "-b"]),
    ("root ::= a-B A-b start\na-B ::= [x]\nA-b ::= [y]\nstart ::= [z]", ["xyz"], ["xxz", "xy"]),
    ('root ::= root "+" root | [0-9]', ["1", "1+2+3"], ["+1", "1+"]),
    ('root ::= e root | "a"\ne ::= f?\nf ::= "b"', ["a", "ba", "bba"], ["b", "ab"]),
    ('root ::= ("a"*)*', ["", "aaa"], ["b"]),
    ('root ::= "x" ' + "[a-z]? " * 900 + '"."', ["x.", "xab."], ["x", "1."]),
    ("root ::= " + "[a-z]? " * 900 + '"."', [".", "ab."], ["1."]),
    ('root ::= "<|im_end|>"', ["<|im_end|>"], ["<|im_end"]),
    (chained(100, '{} "a" | {} "b"'), ["xy" + "ab" * 50], ["xy", "x" + "ab" * 50]),
]
"""Grammars with texts that they allow, and with others."""

TOO_MUCH = {
    "a chain of rules": chained(20_000, '{} "a"'),
    "all rules may be empty": chained(20_000, "{}? {}?"),
    "no text has an end": "root ::= a\na ::= b\nb ::= a",
    "itself alone": "root ::= root",
    "itself at the beginning": 'root ::= root "a"',
    "in brackets": 'root ::= "a" ' + '("b" ' * 101 + ")" * 101,
}


@pytest.fixture(scope="module")
def main() -> LoadedModel:
    options = Options(role="main", context_length=512, threads=1)
    return open_backend(str(MAIN)).load(str(MAIN), options, lambda _: True)


def accepts(main: LoadedModel, grammar: str, text: str) -> bool:
    """Whether `grammar`, made by `grammars`, allows `text` byte by byte, and an end behind it."""
    constraint = main.constraint(grammar)
    bytes_of = {main.vocabulary.piece(token): token for token in range(main.vocabulary.size - 1, -1, -1)}
    tokens = [bytes_of[bytes([byte])] for byte in text.encode()] + [min(main.vocabulary.end_tokens)]
    return all(constraint.allowed(tokens[:place], np.array([token]))[0] for place, token in enumerate(tokens))


@pytest.mark.parametrize("grammar", GOOD.values(), ids=GOOD)
def test_a_good_grammar_is_accepted(grammar: str, main: LoadedModel) -> None:
    constraint = main.constraint(of_gbnf(grammar))
    assert constraint.allowed([], np.arange(main.vocabulary.size)).any()


@pytest.mark.parametrize(("grammar", "right", "wrong"), ALLOWED, ids=range(len(ALLOWED)))
def test_the_texts_that_a_grammar_allows(
    main: LoadedModel, grammar: str, right: list[str], wrong: list[str]
) -> None:
    made = of_gbnf(grammar)
    for text in right:
        assert accepts(main, made, text), text
    for text in wrong:
        assert not accepts(main, made, text), text


@pytest.mark.parametrize(("grammar", "reason"), BAD.items(), ids=range(len(BAD)))
def test_a_bad_grammar_is_rejected_with_the_reason(grammar: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        to_lark(grammar)
    assert str(caught.value).startswith("the grammar cannot be used: ")
    assert caught.value.hint


@pytest.mark.parametrize("grammar", TOO_MUCH.values(), ids=TOO_MUCH)
def test_a_grammar_that_is_too_much_is_rejected_in_one_line(grammar: str) -> None:
    reasons = "allows no text|too much time or memory|too large|100 brackets"
    with pytest.raises(ModelError, match=f"^the grammar cannot be used: .*({reasons})") as caught:
        of_gbnf(grammar)
    assert "\n" not in str(caught.value)


FUZZ = r"""
import random
import sys
import numpy as np
from tests.support.grammars import BAD, GOOD
from tui.engine.backends import ModelError, Options, grammars
from tui.engine.backends.selection import open_backend
from tui.engine.starter import MAIN

grammars._fault = lambda grammar: ""  # here they are tried for good
model = open_backend(str(MAIN)).load(str(MAIN), Options("main", 256, threads=1), lambda _: True)
every = np.arange(model.vocabulary.size)
bits = [*'"[]()|*+?\n\r\t\\^-.#<eé', "{2}", "{0,3}", "{1,}", "{7}", "::=", "root", "ws",
        "a ::= ", " a ", '"x"', '""', "[^a]", "\\x41"]
small = [text for text in (*4 * list(GOOD.values()), *BAD) if len(text) < 999]
accepted = 0
for seed in range(int(sys.argv[1])):
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
        grammar = grammars.of_gbnf(text)
    except ModelError:
        continue
    constraint = model.constraint(grammar)
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


def test_the_library_reads_and_survives_every_grammar_that_is_accepted() -> None:
    """Mutated grammars, and answers that follow them, leave them and go back, in a process that may die."""
    child = subprocess.run(
        [sys.executable, "-c", FUZZ, "2000"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        check=False,
    )
    assert child.returncode == 0, child.stderr.splitlines()[-3:]
    assert int(child.stdout) > 300
