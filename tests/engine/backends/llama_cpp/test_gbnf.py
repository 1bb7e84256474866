"""GBNF grammars: what is refused, with its line, and that llama.cpp survives whatever is not."""

from __future__ import annotations

import subprocess
import sys
from time import perf_counter

import numpy as np
import pytest

from tests.support.grammars import BAD, GOOD
from tests.support.paths import ROOT
from tui.engine.backends import LoadedModel, ModelError, Options
from tui.engine.backends.llama_cpp import gbnf
from tui.engine.backends.selection import open_backend
from tui.engine.starter import MAIN


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
    """Accepted, and followed: some tokens may begin an answer, or its end, and not every token may."""
    gbnf.check(grammar)
    allowed = main.constraint(grammar).allowed([], np.arange(main.vocabulary_size))
    assert 0 < allowed.sum() < main.vocabulary_size


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
from tests.support.grammars import BAD, GOOD
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
