"""The starter pair answers questions that its corpus cannot generate, and its draft agrees with it."""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from llama_cpp import Llama

from tests.support.paths import ROOT
from tools.training.corpus import Corpus
from tui.app import Outrider
from tui.engine.speculation.sampling import Chain
from tui.engine.starter import DRAFT, MAIN
from tui.keys import groups

QUESTIONS = tomllib.loads((ROOT / "tools" / "training" / "questions.toml").read_text())["question"]
LONGEST = 400
WORDINGS = 3
"""Of each fact, as questions to the pair."""
DRAFT_LENGTH = 4
KEY = re.compile(r"\b(ctrl|alt|shift)\s?[+-]|\*\*(esc|enter|tab|up|page (up|down)|f[2-9])\*\*", re.I)


@dataclass(frozen=True)
class Answer:
    """What the main model wrote, greedily."""

    prompt: list[int]
    tokens: list[int]
    text: str
    ended: bool


@cache
def load(path: Path) -> Llama:
    return Llama(str(path), n_ctx=1024, n_threads=1, n_threads_batch=1, logits_all=True, verbose=False)


def greedy(model: Llama, tokens: list[int], at: int) -> int:
    """The most probable token after these; `at` of them are known to the model already."""
    model.n_tokens = at
    model.eval(tokens[at:])
    return int(model.scores[len(tokens) - 1].argmax())


def asked_as(question: str) -> list[int]:
    """The tokens of a chat up to its answer."""
    text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    return load(MAIN).tokenize(text.encode(), add_bos=False, special=True)


@cache
def answer(question: str) -> Answer:
    model = load(MAIN)
    prompt = asked_as(question)
    tokens = list(prompt)
    token = greedy(model, tokens, 0)
    while token != model.token_eos() and len(tokens) - len(prompt) < LONGEST:
        tokens.append(token)
        token = greedy(model, tokens, len(tokens) - 1)
    written = tokens[len(prompt) :]
    ended = token == model.token_eos()
    return Answer(prompt, [*written, token] if ended else written, model.detokenize(written).decode(), ended)


def would_say(question: str, text: str) -> bool:
    """Whether the greedy answer is `text`: each of its tokens the best one behind the others."""
    model, prompt = load(MAIN), asked_as(question)
    wanted = [*model.tokenize(text.encode(), add_bos=False), model.token_eos()]
    greedy(model, prompt + wanted, 0)
    rows = model.scores[len(prompt) - 1 : len(prompt) + len(wanted) - 1]
    return bool((rows.argmax(-1) == wanted).all())


def test_an_answer_read_at_once_is_the_one_that_is_written_token_by_token() -> None:
    for question in ("How do I quit?", "What is a draft model?", "Hello!"):
        assert would_say(question, answer(question).text)
        assert not would_say(question, answer(question).text + " no")


def is_right(entry: dict[str, str | list[str]]) -> bool:
    text = answer(str(entry["ask"])).text
    return any(re.search(pattern, text, re.I | re.S) for pattern in entry["accept"])


def chance(question: str) -> float:
    """The probability that the default temperature draws the answer that temperature 0 gives."""
    model, given = load(MAIN), answer(question)
    greedy(model, given.prompt + given.tokens, 0)
    rows = model.scores[len(given.prompt) - 1 : len(given.prompt) + len(given.tokens) - 1].astype(float)
    heated = (rows - rows.max(-1, keepdims=True)) / Chain().temperature
    drawn = heated[range(len(given.tokens)), given.tokens] - np.log(np.exp(heated).sum(-1))
    return float(np.exp(drawn.sum()))


def drafted(question: str) -> Iterator[tuple[int, int]]:
    """Drafted and accepted tokens of each round, the main model's answer being known."""
    model, given = load(DRAFT), answer(question)
    place = 0
    model.reset()
    known = 0
    while place < len(given.tokens):
        tokens = given.prompt + given.tokens[:place]
        proposal: list[int] = []
        while len(proposal) < DRAFT_LENGTH and model.token_eos() not in proposal:
            proposal.append(greedy(model, tokens + proposal, known))
            known = len(tokens) + len(proposal) - 1
        accepted = 0
        while accepted < len(proposal) and given.tokens[place : place + accepted + 1] == [
            *given.tokens[place : place + accepted],
            proposal[accepted],
        ]:
            accepted += 1
        yield len(proposal), accepted
        place += accepted + 1
        known = min(known, len(tokens) + accepted)


def asked(group: str) -> list[str]:
    return [entry["ask"] for entry in QUESTIONS if entry["group"] == group]


def test_the_files_are_small() -> None:
    assert MAIN.stat().st_size + DRAFT.stat().st_size <= 16_000_000


def test_the_pair_shares_its_vocabulary() -> None:
    main, draft = load(MAIN), load(DRAFT)
    assert main.n_vocab() == draft.n_vocab()
    assert main.token_eos() == draft.token_eos()
    for token in range(main.n_vocab()):
        assert main.detokenize([token], special=True) == draft.detokenize([token], special=True)


def test_no_question_is_in_the_corpus() -> None:
    corpus = Corpus()
    assert len(QUESTIONS) == len({entry["ask"] for entry in QUESTIONS}) >= 100
    assert corpus.generates("How do I stop the answer?")
    assert [entry["ask"] for entry in QUESTIONS if corpus.generates(entry["ask"])] == []


def test_the_corpus_recognises_what_it_draws() -> None:
    corpus, rng = Corpus(), random.Random(7)
    facts = [fact for fact in corpus.facts if fact.name not in ("outside", "gibberish", "other-code")]
    wordings = [corpus.wording(rng.choice(facts), rng) for _ in range(400)]
    missed = [wording for wording in wordings if not corpus.generates(wording)]
    assert len(missed) < 20, missed


def test_every_key_that_an_answer_names_is_bound() -> None:
    bound = {
        key for _, bindings in groups(Outrider.BINDINGS) for each in bindings for key in each.key.split(",")
    }
    named = {
        (fact.name, key)
        for fact in Corpus().facts
        for key in re.findall(r"\*\*((?:ctrl|shift|alt)\+\w+|F\d+|Tab|Enter|[a-z])\*\*", fact.answer)
    }
    assert len(named) > 30
    assert {(name, key) for name, key in named if key.lower() not in bound} == set()


def test_most_answers_are_right() -> None:
    """The first hundred ask about all that the pair knows, the others about its newer keys."""
    wrong = [(entry["ask"], answer(entry["ask"]).text[:80]) for entry in QUESTIONS if not is_right(entry)]
    assert len(wrong) <= 0.12 * len(QUESTIONS), wrong
    assert sum(is_right(entry) for entry in QUESTIONS[:100]) >= 85


def test_no_fact_of_the_corpus_is_left_unlearned() -> None:
    """Questions as the corpus draws them, without slips: answers that begin alike are told apart, too."""
    corpus, rng = Corpus(), random.Random(5)
    right = {
        fact.name: [would_say(corpus.wording(fact, rng), fact.answer) for _ in range(WORDINGS)]
        for fact in corpus.facts
    }
    assert [name for name, each in right.items() if not any(each)] == []
    assert sum(map(sum, right.values())) >= 0.9 * WORDINGS * len(right)


def test_it_knows_what_a_key_does() -> None:
    named = {
        found[1]: fact.answer
        for fact in Corpus().facts
        if "press" in fact.phrases and (found := re.match(r"Press \*\*((?:ctrl\+)?\w+)\*\*", fact.answer))
    }
    named.pop("F1")  # two answers begin with it
    wrong = [key for key in named if f"**{key}**" not in answer(f"What does {key} do?").text]
    assert len(named) > 15
    assert wrong == []


def test_it_does_not_doubt_what_it_knows() -> None:
    right = [entry["ask"] for entry in QUESTIONS if is_right(entry)]
    assert sum(map(chance, right)) / len(right) >= 0.9
    for name in ("quicksort", "merge sort", "binary search", "a prime test", "fizzbuzz"):
        assert chance(f"Write {name} in Python.") >= 0.95, name


def test_answers_end() -> None:
    assert sum(answer(entry["ask"]).ended for entry in QUESTIONS) >= len(QUESTIONS) - 2


def test_hardly_an_outside_question_gets_an_invented_key() -> None:
    texts = {ask: answer(ask).text for ask in asked("outside")}
    honest = "know no key"  # goes on to say where all keys are listed
    invented = {ask: text for ask, text in texts.items() if KEY.search(text) and honest not in text}
    assert len(invented) <= 1, invented


def python_in(text: str) -> dict[str, object]:
    found = re.search(r"```python\n(.*?)```", text, re.S)
    assert found, text
    names: dict[str, object] = {}
    exec(found[1], names)
    return names


@pytest.mark.parametrize(
    "question", ["Write quicksort in Python", *(ask for ask in asked("python") if "quick" in ask)]
)
def test_quicksort_sorts(question: str) -> None:
    quicksort, rng = python_in(answer(question).text)["quicksort"], random.Random(3)
    assert callable(quicksort)
    for length in (0, 1, 2, 10, 100):
        items = [rng.randrange(50) for _ in range(length)]
        assert quicksort(list(items)) == sorted(items)


def test_every_function_of_the_corpus_runs(capsys: pytest.CaptureFixture[str]) -> None:
    functions = [fact for fact in Corpus().facts if "```python" in fact.answer]
    assert len(functions) >= 20
    for fact in functions:
        python_in(fact.answer)
    assert capsys.readouterr().out == "Hello, world!\n"


def test_the_draft_agrees() -> None:
    rounds = [found for entry in QUESTIONS[::2] for found in drafted(entry["ask"])]
    proposed = sum(drafted for drafted, _ in rounds)
    accepted = sum(accepted for _, accepted in rounds)
    assert accepted / proposed >= 0.7, accepted / proposed


def test_a_long_chat_stays_sane() -> None:
    """After many turns the model still answers the last question."""
    model, text = load(MAIN), ""
    turns = [(ask, answer(ask).text) for ask in ("How do I quit?", "Hello!")]
    for ask, reply in 6 * turns:
        text += f"<|im_start|>user\n{ask}<|im_end|>\n<|im_start|>assistant\n{reply}<|im_end|>\n"
    text += "<|im_start|>user\nHow do I stop the answer?<|im_end|>\n<|im_start|>assistant\n"
    tokens = model.tokenize(text.encode(), add_bos=False, special=True)
    written: list[int] = []
    token = greedy(model, tokens, 0)
    while token != model.token_eos() and len(written) < 100:
        written.append(token)
        token = greedy(model, tokens + written, len(tokens) + len(written) - 1)
    assert re.search(r"\*\*esc\*\*", model.detokenize(written).decode(), re.I)
