"""Answers that follow a grammar: what may be written, and that a draft changes none of it.

Plain decoding, and drafting with good, bad and hostile proposals, must choose the same tokens under grammars,
penalties and logit biases. What ends within a JSON schema must be JSON that obeys it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.support import models
from tests.support.grammars import JSON, ConstrainedGapSampler
from tests.support.starter import TIE, load, randomised, tokens_of
from tui.engine.backends import LoadedModel, ModelError
from tui.engine.backends.constraint import Constraints
from tui.engine.backends.grammars import of_gbnf, of_schema
from tui.engine.speculation.loop import NO_PICK, NoValidToken, Proposal, Proposer, generate, prefill
from tui.engine.speculation.policy import FixedLength
from tui.engine.speculation.proposers import DraftModel, NullProposer, ProposersInTurn
from tui.engine.speculation.sampling import Chain, Constraint, Sampler
from tui.engine.starter import DRAFT, MAIN

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 8},
        "count": {"type": "integer"},
        "kind": {"enum": ["draft", "main", 'a "b"', "c\\d\te", "ö"]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
        "note": {"type": ["string", "null"]},
    },
    "required": ["name", "count", "kind", "tags"],
}
PROMPTS = ["What is a draft model?", "fibonacci"]
CHAINS = {
    "plain": Chain(),
    "penalties": Chain(repeat_penalty=1.5, presence_penalty=3.0, frequency_penalty=1.0, penalty_last_n=24),
    "biases": Chain(bias={4: 2.0, 16: -np.inf, 67: 1.5, 15: -3.0}),
    "both": Chain(repeat_penalty=0.8, frequency_penalty=0.8, penalty_last_n=500, bias={4: -1.0, 16: 4.0}),
}
TOKENS = 40
FORMS = ("free", "json", "schema")

Answers = dict[tuple[str, str, float, str], tuple[list[int], dict[int, float]]]


class Hostile:
    """Proposes what the answer will be for some tokens, and then any tokens at all."""

    def __init__(self, main: LoadedModel, start: int, answer: Sequence[int]) -> None:
        self._every = main.vocabulary.size
        self._start = start
        self._answer = answer

    def propose(self, context: Sequence[int], proposal: Proposal) -> None:
        draw = Random(len(context))
        place = len(context) - self._start
        right = list(self._answer[place : place + draw.randint(0, 4)])
        for token in [*right, *(draw.randrange(self._every) for _ in range(draw.randint(0, 3)))]:
            if not proposal.add(token, 1.0, looked_up=True):
                return

    def settle(self, context: Sequence[int]) -> None:
        pass


@pytest.fixture(scope="module")
def main() -> Iterator[LoadedModel]:
    model = load(MAIN, "main")
    yield model
    model.close()


@pytest.fixture(scope="module")
def drafts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, LoadedModel]]:
    random = randomised(DRAFT, tmp_path_factory.mktemp("draft") / "random.gguf")
    models = {"starter": load(DRAFT, "draft"), "random": load(random, "draft")}
    yield models
    for model in models.values():
        model.close()


@pytest.fixture(scope="module")
def grammars() -> dict[str, str]:
    return dict(zip(FORMS, ("", of_gbnf(JSON), of_schema(json.dumps(SCHEMA))), strict=True))


def sampler(model: LoadedModel, chain: Chain, seed: int, start: int, grammar: str, **more: Any) -> Sampler:
    return Sampler(chain, seed, start, constraint=model.constraint(grammar) if grammar else None, **more)


def begin(model: LoadedModel, chooser: Sampler, context: Sequence[int]) -> None:
    model.rewind(0)
    model.start(chooser)
    prefill(model, context, end=lambda at: at + 512, cancelled=lambda: False, progress=lambda *_: None)


def decode(
    main: LoadedModel, proposer: Proposer, context: list[int], length: int, most: int = TOKENS
) -> list[int]:
    start, ends = len(context), main.vocabulary.end_tokens
    for _ in generate(main, proposer, context, policy=FixedLength(length), end_tokens=ends, max_tokens=most):
        pass
    return context[start:]


@pytest.fixture(scope="module")
def plain(main: LoadedModel, grammars: dict[str, str]) -> Answers:
    """Plain decoding of everything, with the lead of each choice."""
    answers: Answers = {}
    for form, grammar in grammars.items():
        for name, chain in CHAINS.items():
            for temperature in (0.0, 0.8):
                for seed, prompt in enumerate(PROMPTS):
                    context = tokens_of(main, prompt)
                    heated = replace(chain, temperature=temperature)
                    constraint = main.constraint(grammar) if grammar else None
                    chooser = ConstrainedGapSampler(heated, seed, len(context), constraint=constraint)
                    begin(main, chooser, context)
                    answers[form, name, temperature, prompt] = (
                        decode(main, NullProposer(), context, 0),
                        chooser.gaps,
                    )
    return answers


@pytest.mark.parametrize(
    ("drafting", "length"),
    # The hostile draft tries all that a grammar forbids, also where nothing may be drafted.
    [*product(("hostile",), (0, 1, 8)), ("starter", 3), ("random", 8)],
)
@pytest.mark.parametrize("form", FORMS)
def test_same_seed_same_text_by_any_grammar(
    main: LoadedModel,
    drafts: dict[str, LoadedModel],
    grammars: dict[str, str],
    plain: Answers,
    form: str,
    drafting: str,
    length: int,
) -> None:
    """Eight settings of the sampler, with two prompts each. A choice that differs must be a proven tie."""
    draft, ties = drafts.get(drafting, drafts["starter"]), 0
    for (found_form, name, temperature, prompt), (expected, gaps) in plain.items():
        if found_form != form:
            continue
        context = tokens_of(main, prompt)
        chain, seed = replace(CHAINS[name], temperature=temperature), PROMPTS.index(prompt)
        begin(main, sampler(main, chain, seed, len(context), grammars[form]), context)
        begin(draft, sampler(draft, chain, seed, len(context), grammars[form], confident=True), context)
        proposer: Proposer = DraftModel(draft, main.vocabulary.end_tokens)
        if drafting == "hostile":
            proposer = ProposersInTurn(Hostile(main, len(context), expected), proposer)
        found = decode(main, proposer, context, length)
        if found != expected:
            place = next(i for i, pair in enumerate(zip(found, expected, strict=False)) if len({*pair}) == 2)
            assert gaps[place] < TIE, (name, temperature, prompt, place, gaps[place])
            ties += 1
    assert ties <= 2


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_by_a_grammar_goes_on_where_it_was_broken_off(
    main: LoadedModel, grammars: dict[str, str], plain: Answers, form: str
) -> None:
    for (found_form, name, temperature, prompt), (expected, gaps) in plain.items():
        if found_form != form or not expected:
            continue
        for count in (1, len(expected) // 2):
            context = tokens_of(main, prompt)
            chain, seed = replace(CHAINS[name], temperature=temperature), PROMPTS.index(prompt)
            chooser = sampler(main, chain, seed, len(context), grammars[form])
            context += expected[:count]
            begin(main, chooser, context)
            found = decode(main, NullProposer(), context, 0, TOKENS - count) if count < len(expected) else []
            if found != expected[count:]:
                pairs = enumerate(zip(found, expected[count:], strict=False), count)
                assert gaps[next(place for place, (a, b) in pairs if a != b)] < TIE


def test_the_settings_do_change_the_answers(plain: Answers) -> None:
    for name in CHAINS:
        for temperature in (0.0, 0.8):
            answers = {form: str(plain[form, name, temperature, PROMPTS[0]][0]) for form in FORMS}
            assert len(set(answers.values())) == len(FORMS)
    for form in FORMS:
        answers = {name: str([plain[form, name, 0.8, prompt][0] for prompt in PROMPTS]) for name in CHAINS}
        assert len(set(answers.values())) >= 3, form


@pytest.mark.parametrize("form", ["json", "schema"])
def test_what_ends_is_json_and_obeys_the_schema(
    main: LoadedModel, grammars: dict[str, str], form: str
) -> None:
    complete = 0
    for seed in range(8):
        chain = replace(list(CHAINS.values())[seed % 4], temperature=(0.0, 0.8, 2.0)[seed % 3])
        context = tokens_of(main, "What is a draft model?")
        start = len(context)
        begin(main, sampler(main, chain, seed, start, grammars[form]), context)
        decode(main, NullProposer(), context, 0, most=300)
        if context[-1] in main.vocabulary.end_tokens:
            text = b"".join(map(main.vocabulary.piece, context[start:-1])).decode("utf-8")
            found = json.loads(text)
            assert isinstance(found, dict)
            assert form == "json" or obeys(found), text
            complete += 1
    assert complete >= 2  # the others go on until they are cut: the starter was not taught to write JSON


def obeys(found: dict[str, Any]) -> bool:
    tags = found.get("tags")
    return (
        set(SCHEMA["required"]) <= set(found) <= set(SCHEMA["properties"])
        and isinstance(found["name"], str)
        and 1 <= len(found["name"]) <= 8
        and type(found["count"]) is int
        and found["kind"] in SCHEMA["properties"]["kind"]["enum"]
        and isinstance(tags, list)
        and 2 <= len(tags) <= 3
        and all(type(tag) is bool for tag in tags)
        and isinstance(found.get("note"), str | None)
    )


# The constraint


def ids(*tokens: int) -> np.ndarray:
    return np.array(tokens, np.int64)


def admitted(constraint: Constraint, main: LoadedModel, answer: Sequence[int]) -> list[int]:
    every = np.arange(main.vocabulary.size)
    return [int(token) for token in every[constraint.allowed(answer, every)]]


def test_only_what_the_grammar_says_may_follow_and_an_end_only_at_its_end(main: LoadedModel) -> None:
    constraint = main.constraint(of_gbnf('root ::= "ab" [0-9]?'))
    a, b, seven = (main.vocabulary.encode(text)[0] for text in "ab7")
    ends = main.vocabulary.end_tokens
    assert {main.vocabulary.piece(token) for token in admitted(constraint, main, [])} <= {b"a", b"ab"}
    assert admitted(constraint, main, [a]) == [b]
    after = set(admitted(constraint, main, [a, b]))
    assert {main.vocabulary.piece(token) for token in after - ends} == {b"%d" % i for i in range(10)}
    assert ends <= after
    assert set(admitted(constraint, main, [a, b, seven])) == ends


def test_where_one_text_may_follow_all_tokens_that_begin_it_may(main: LoadedModel) -> None:
    pieces = {token: main.vocabulary.piece(token) for token in range(main.vocabulary.size)}
    for grammar, text in (
        (of_gbnf('root ::= "the capital"'), b"the capital"),
        (of_schema('{"const": "the capital"}'), b'"the capital"'),
    ):
        first = next(token for token, piece in pieces.items() if piece == text[:1])
        expected = [token for token, piece in pieces.items() if piece and text[1:].startswith(piece)]
        assert len(expected) > 1
        assert admitted(main.constraint(grammar), main, [first]) == expected


def test_behind_a_token_that_is_not_allowed_everything_is_until_it_is_taken_back(main: LoadedModel) -> None:
    constraint = main.constraint(of_gbnf('root ::= "ab" "c"*'))
    a, b, c, x = (main.vocabulary.encode(text)[0] for text in "abcx")
    end = next(iter(main.vocabulary.end_tokens))
    everything = list(range(main.vocabulary.size))
    for wrong in ([x], [a, x, b], [end], [a, b, end], [a, b, c, end, c], [257] * 20):
        assert admitted(constraint, main, wrong) == everything
        assert admitted(constraint, main, [a]) == [b]
    assert c in admitted(constraint, main, [a, b, *[c] * 50])


def test_tokens_whose_text_is_never_shown_follow_no_grammar(main: LoadedModel) -> None:
    found = admitted(main.constraint(of_gbnf("root ::= .*")), main, [])
    assert not (main.vocabulary.control_tokens - main.vocabulary.end_tokens) & set(found)
    assert all(main.vocabulary.piece(token) for token in set(found) - main.vocabulary.end_tokens)


def test_characters_of_several_tokens_are_whole(main: LoadedModel) -> None:
    constraint = main.constraint(of_gbnf('root ::= [日語]+ "a"'))
    answer = main.vocabulary.encode("日語")
    assert len(answer) > 2
    for length, token in enumerate(answer):
        followers = admitted(constraint, main, answer[:length])
        assert token in followers
        for follower in followers:
            text = b"".join(map(main.vocabulary.piece, [*answer[:length], follower]))
            text.decode("utf-8", "strict") if not text[-1] & 0x80 else None
    assert main.vocabulary.encode("a")[0] not in admitted(constraint, main, answer[:-1])


def test_bytes_that_are_no_text_are_not_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E0 80 80 would be a zero character, in more bytes than it needs."""
    texts, merges = models._vocabulary(512)
    stand_ins = list(models._byte_characters())
    odd = [bytes([0x80, 0x80]), b"\xc3a", b"a\0b", b"\xed\xa0\x80"]
    spelt = ["".join(stand_ins[byte] for byte in text) for text in odd]
    monkeypatch.setattr(models, "_vocabulary", lambda _: ((*texts[:-4], *spelt), merges))
    toy = load(models.write_model(tmp_path / "toy.gguf"), "main")
    begun = [next(token for token in range(256) if toy.vocabulary.piece(token) == b"\xe0")]
    constraint = toy.constraint(of_gbnf("root ::= .*"))
    assert [toy.vocabulary.piece(token) for token in range(508, 512)] == odd
    assert not constraint.allowed(begun, ids(508))[0]
    assert not constraint.allowed([], ids(508, 509, 510, 511)).any()
    assert constraint.allowed([*begun, 508], ids(*range(512))).all()
    assert constraint.allowed([509], ids(*range(512))).all()
    toy.close()


def test_any_order_of_questions_gives_the_answers_of_a_fresh_constraint(
    main: LoadedModel, grammars: dict[str, str]
) -> None:
    every = np.arange(main.vocabulary.size)
    for grammar in (grammars["json"], grammars["schema"], of_gbnf('root ::= ("a" | "aa" | "ab")*')):
        draw = Random(0)
        constraint, answer = main.constraint(grammar), [0][:0]
        for _ in range(150):
            if draw.random() < 0.25:
                answer = answer[: draw.randint(max(0, len(answer) - 17), len(answer))]
            elif draw.random() < 0.05:
                answer = []
            allowed = every[constraint.allowed(answer, every)]
            assert np.array_equal(allowed, every[main.constraint(grammar).allowed(answer, every)])
            choices = allowed if allowed.size and draw.random() < 0.9 else every
            answer = [*answer, int(draw.choice(choices))]


def test_few_tokens_and_all_tokens_get_the_same_answers(main: LoadedModel, grammars: dict[str, str]) -> None:
    """A few are tried one by one; for many the mask is computed."""
    every, draw = np.arange(main.vocabulary.size), Random(2)
    for grammar in (grammars["json"], grammars["schema"], of_gbnf('root ::= "é"* [a-z]{1,9} "."')):
        many, few, answer = main.constraint(grammar), main.constraint(grammar), list[int]()
        for _ in range(60):
            allowed = many.allowed(answer, every)
            asked = [int(token) for token in draw.sample(range(every.size), 4)]
            asked += [*main.vocabulary.end_tokens, int(draw.choice(every[allowed]))]
            for token in asked:
                assert few.allowed(answer, ids(token))[0] == allowed[token], (answer, token)
            if asked[-1] in main.vocabulary.end_tokens:
                answer = []
            else:
                answer.append(asked[-1])


@pytest.mark.parametrize("draft_length", [0, 8])
def test_a_limit_that_is_met_is_a_dead_end_there_and_nowhere_else(
    main: LoadedModel, draft_length: int
) -> None:
    grammar = of_gbnf('root ::= "x"* "a" ' + '"b"? ' * 3000)
    constraint = main.constraint(grammar)
    a, b, x = (main.vocabulary.encode(text)[0] for text in "abx")
    every = np.arange(main.vocabulary.size)
    assert constraint.allowed([x], ids(a, x, b)).tolist() == [True, True, False]
    assert not constraint.met_limit
    for answer in ([x, a], [x, a, b]):
        assert not constraint.allowed(answer, every).any()
        assert constraint.met_limit
        assert constraint.allowed([x], every)[a]
    context = tokens_of(main, "hi")
    start = len(context)
    chooser = sampler(main, Chain(temperature=0, bias={a: 50.0}), 0, start, grammar)
    begin(main, chooser, context)
    with pytest.raises(NoValidToken):
        decode(
            main, ProposersInTurn(Fixed([a, b, b])) if draft_length else NullProposer(), context, draft_length
        )
    assert context[start:] == [a]
    assert chooser.met_limit


class Words:
    """A vocabulary of these words."""

    bos_text = eos_text = ""
    chat_template = None
    control_texts = ()

    def __init__(
        self, words: Sequence[bytes], ends: Sequence[int] = (), controls: Sequence[int] = ()
    ) -> None:
        self._words = words
        self.end_tokens = frozenset(ends)
        self.control_tokens = frozenset(controls)

    def encode(self, text: str) -> list[int]:
        raise AssertionError("nobody needs the tokens of a text")

    def encode_start(self) -> list[int]:
        return []

    def piece(self, token: int) -> bytes:
        return self._words[token]


@pytest.mark.parametrize(
    ("words", "first", "second"),
    [
        (Words([b"a", b"b", b"ab", b"abc"]), [0, 2], []),
        (Words([b"a", b"b", b"ab", b"c"], ends=[3]), [0, 2], [3]),
        (Words([b"a", b"b", b"ab", b"<end>"], ends=[3, 7], controls=[3, 2, 9]), [0], [3]),
        (Words([b"ab", b"ab", b"", b"b"], ends=[3]), [0, 1], [3]),
        (Words([b"ab", b"ab" * 10_000, b"\xff", b"b\0"], ends=[3]), [0], [3]),
        (Words([b"x" * 10_000, b"", b"\0", b"b"], ends=[0]), [], [0]),
    ],
    ids=["no end", "an end", "tokens that are not scored", "the same text", "a long token", "a long end"],
)
def test_every_vocabulary_can_follow_a_grammar(words: Words, first: list[int], second: list[int]) -> None:
    made, every = Constraints(words, 4), np.arange(4)
    grammar = of_gbnf('root ::= "ab"')
    assert every[made.constraint(grammar).allowed([], every)].tolist() == first
    for answer in [[first[-1]], [0, 1]] if first else []:
        if b"".join(map(words.piece, answer)) == b"ab":
            found = made.constraint(grammar)
            assert every[found.allowed(answer, every)].tolist() == second
            assert [token for token in range(4) if found.allowed(answer, ids(token))[0]] == second


def test_a_panic_of_the_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Panic(BaseException):
        pass

    def panic(*_: object, **__: object) -> None:
        raise Panic

    monkeypatch.setattr("tui.engine.backends.constraint.LLTokenizer", panic)
    with pytest.raises(ModelError, match="no grammar can be followed with these tokens"):
        Constraints(Words([b"a"]), 1)


def test_a_sampler_asks_about_its_choice_alone_where_that_is_allowed() -> None:
    class Asked:
        def __init__(self, *banned: int) -> None:
            self.banned = banned
            self.sizes: list[int] = []

        def allowed(self, answer: Sequence[int], candidates: np.ndarray) -> np.ndarray:
            self.sizes.append(candidates.size)
            return ~np.isin(candidates, self.banned)

    row = np.random.default_rng(0).normal(0, 3, 50_000).astype(np.float32)
    for chain in (Chain(temperature=0), Chain(), Chain(top_k=0)):
        free = Sampler(chain, 1, 0).pick(row, [0] * 7, 7)
        kind = Asked()
        assert Sampler(chain, 1, 0, constraint=kind).pick(row, [0] * 7, 7) == free
        assert kind.sizes == [1]
        strict = Asked(free.token)
        masked = row.copy()
        masked[free.token] = -np.inf
        assert Sampler(chain, 1, 0, constraint=strict).pick(row, [0] * 7, 7) == Sampler(chain, 1, 0).pick(
            masked, [0] * 7, 7
        )
        assert strict.sizes == [1, 512, 50_000][: 3 if chain.top_k == 0 and chain.temperature else 2]
        last = Asked(*np.argsort(-row)[:40_000])
        expected = np.where(np.isin(np.arange(row.size), last.banned), -np.inf, row).astype(np.float32)
        assert Sampler(chain, 1, 0, constraint=last).pick(row, [0] * 7, 7) == Sampler(chain, 1, 0).pick(
            expected, [0] * 7, 7
        )
        assert Sampler(chain, 1, 0, constraint=Asked(*range(row.size))).pick(row, [0] * 7, 7) == NO_PICK


# Where nothing may follow


@pytest.mark.parametrize("length", [0, 1, 3, 8])
def test_a_dead_end_comes_at_the_same_place_and_only_where_the_answer_gets_there(
    main: LoadedModel, drafts: dict[str, LoadedModel], length: int
) -> None:
    """Of "ö" only the first byte can be written, for the second is banned: what leads there is a dead end."""
    grammar = of_gbnf('root ::= ("a" | "b")* "ö"')
    first, second = main.vocabulary.encode("ö")
    for favoured, seed in ((None, 1), (first, 1), (first, 2)):
        chain = Chain(bias={second: -np.inf} | ({} if favoured is None else {favoured: 6.0}))
        found = []
        for drafted in (0, length):
            context = tokens_of(main, "hi")
            start, draft = len(context), drafts["random"]
            begin(main, sampler(main, chain, seed, start, grammar), context)
            begin(draft, sampler(draft, chain, seed, start, grammar, confident=True), context)
            proposer = ProposersInTurn(
                Fixed([first, second, 65]), DraftModel(draft, main.vocabulary.end_tokens)
            )
            try:
                ended = ""
                decode(main, proposer if drafted else NullProposer(), context, drafted)
            except NoValidToken:
                ended = "nothing follows"
            found.append((ended, context[start:]))
        assert found[0] == found[1]
        assert bool(found[0][0]) == (found[0][1][-1] == first)


class Fixed:
    """Proposes the same tokens each time."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = tokens

    def propose(self, context: Sequence[int], proposal: Proposal) -> None:
        for token in self._tokens:
            if not proposal.add(token, 1.0, looked_up=True):
                return

    def settle(self, context: Sequence[int]) -> None:
        pass
