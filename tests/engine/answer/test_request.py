"""What an answer may be asked to be, through a real engine: a wrong wish is one line, and the next works."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import Engine, question, text_of
from tests.support.grammars import JSON
from tui.choices import DraftLength
from tui.protocol import Failed, Finished, Rounds, Sampling, encode

ID_OF_A, LAST = 67, 3071
SCHEMA = json.dumps({"type": "object", "properties": {"n": {"enum": [1, 22, 333]}}, "required": ["n"]})


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("engine") / "log")
    engine.load("starter", "starter")
    yield engine
    engine.close()


def bias(*pairs: tuple[int | str, float | None]) -> dict[str, Any]:
    return {"sampling": Sampling(temperature=0, logit_bias=pairs)}


def failure(engine: Engine, command: bytes) -> Failed:
    engine.send(command)
    failed, before = engine.until(Failed)
    assert not any(isinstance(event, Rounds) for event in before)
    return failed


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"grammar": 'root ::= "a'}, "The grammar cannot be used: line 1: expected"),
    ({"grammar": "root ::= root"}, "The grammar cannot be used: it allows no text."),
    ({"grammar": " \n"}, 'The grammar cannot be used: it has no rule "root".'),
    ({"grammar": 'root ::= "\0"'}, "a zero character."),
    ({"grammar": 'root ::= "\udc80"'}, "not Unicode text."),
    ({"grammar": "a" * (1 << 21)}, "longer than 1 MiB."),
    ({"grammar": JSON, "json_schema": SCHEMA}, "cannot follow both a grammar and a JSON schema."),
    ({"grammar": JSON, "ignore_eos": True}, "must end where that does."),
    ({"json_schema": SCHEMA, "ignore_eos": True}, "must end where that does."),
    ({"json_schema": "{"}, "The JSON schema cannot be used: not JSON: "),
    ({"json_schema": '"text"'}, "The JSON schema cannot be used: "),
    ({"json_schema": '{"$ref": "https://example.org/schema"}'}, "The JSON schema cannot be used: "),
    (
        {"json_schema": '{"type": "array", "maxItems": -1}'},
        "Expected positive integer for 'maxItems', got -1.",
    ),
    (bias((LAST + 1, 1.0)), f"Token {LAST + 1} of a logit-bias is not among the {LAST + 1} of Starter"),
    (bias((-1, 1.0)), "Token -1 of a logit-bias is not among"),
    (bias((10**30, None)), "of a logit-bias is not among"),
    (bias(("two words", 1.0)), "'two words' of a logit-bias is "),
    (bias(("", 1.0)), "'' of a logit-bias is 0 tokens, and must be one."),
    (bias((5, 1e5)), "A logit-bias must be -10000 to 10000, not 100000.0."),
    (bias((5, float("inf"))), "A logit-bias must be -10000 to 10000, not inf."),
    (bias((5, float("nan"))), "A logit-bias must be -10000 to 10000, not nan."),
    *(
        ({"sampling": Sampling(**{name: value})}, f"{name.replace('_', '-')} must be")
        for name, values in {
            "temperature": (float("nan"), float("inf"), -1.0, 1e9),
            "top_p": (float("nan"), -0.1, 2.0),
            "min_p": (float("nan"), 1.5),
            "top_k": (-1, 10**20),
            "repeat_penalty": (0.0, float("nan"), float("inf")),
            "presence_penalty": (float("-inf"), 101.0),
            "frequency_penalty": (float("nan"), -101.0),
            "penalty_last_n": (-1, 10**20),
        }.items()
        for value in values
    ),
]


@pytest.mark.parametrize(("wish", "line"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_wish_is_one_line(engine: Engine, wish: dict[str, Any], line: str) -> None:
    failed = failure(engine, encode(question(7, **wish)))
    assert failed.id == 7
    assert line.casefold() in failed.message.casefold()
    assert "\n" not in failed.message + failed.hint
    assert len(failed.message) < 500
    assert "bug" not in failed.hint


@pytest.mark.parametrize(
    "field",
    [
        {"sampling": {"temperature": "hot"}},
        {"sampling": {"top_k": 1.5}},
        {"sampling": {"logit_bias": {"5": 1}}},
        {"sampling": {"logit_bias": [[5]]}},
        {"sampling": {"logit_bias": [[5, 1, 2]]}},
        {"sampling": {"logit_bias": [[5.0, 1]]}},
        {"sampling": {"logit_bias": [[True, 1]]}},
        {"sampling": {"logit_bias": [[None, 1]]}},
        {"sampling": {"logit_bias": [["a", "1"]]}},
        {"sampling": {"logit_bias": [["a", False]]}},
        {"grammar": None},
        {"json_schema": {"type": "object"}},
    ],
    ids=str,
)
def test_a_wish_of_the_wrong_shape_is_no_command(engine: Engine, field: dict[str, Any]) -> None:
    data = {**json.loads(encode(question(7))), **field}
    failed = failure(engine, json.dumps(data).encode() + b"\n")
    assert (failed.id, failed.message[:29]) == (0, "A command was not understood:")


def test_what_was_rejected_leaves_the_next_answer_as_it_is(engine: Engine) -> None:
    fresh = engine.answer(question(8, fresh=True))
    failure(engine, encode(question(9, grammar="root ::= [")))
    assert engine.answer(question(10))[0] == fresh[0]


@pytest.mark.parametrize("draft_length", [0, 4, "auto"])
def test_a_schema_and_its_answer(engine: Engine, draft_length: DraftLength) -> None:
    for seed in range(4):
        text, finished = engine.answer(
            question(11, json_schema=SCHEMA, seed=seed, draft_length=draft_length, lookup=True)
        )
        assert json.loads(text) in [{"n": 1}, {"n": 22}, {"n": 333}]
        assert finished.reason == "stop"


@pytest.mark.parametrize("draft_length", [0, 4])
def test_a_dead_end_is_one_line_behind_what_was_written(engine: Engine, draft_length: int) -> None:
    command = question(12, grammar='root ::= "b" [a]', draft_length=draft_length, **bias((ID_OF_A, None)))
    engine.send(encode(command))
    failed, before = engine.until(Failed)
    assert text_of(before) == "b"
    assert failed.message == "No token of this model may follow here."
    assert "grammar" in failed.hint


@pytest.mark.parametrize("draft_length", [0, 4])
def test_a_grammar_that_is_too_complex_ends_the_answer_and_nothing_else(
    engine: Engine, draft_length: int
) -> None:
    grammar = 'root ::= "b" ' + '"a"? ' * 3000
    engine.send(encode(question(12, grammar=grammar, draft_length=draft_length, **bias((ID_OF_A + 1, 50.0)))))
    failed, before = engine.until(Failed)
    assert text_of(before) == "b"
    assert failed.message == "The grammar is too complex to be followed here."
    assert engine.answer(question(12, grammar='root ::= "c"'))[0] == "c"


@pytest.mark.parametrize("draft_length", [0, 4])
def test_biases_force_and_ban(engine: Engine, draft_length: int) -> None:
    def answer(*pairs: tuple[int | str, float | None], **more: Any) -> tuple[str, Finished]:
        return engine.answer(question(13, max_tokens=5, draft_length=draft_length, **bias(*pairs), **more))

    free = answer()[0]
    assert answer(("a", 100.0))[0] == answer((ID_OF_A, 100.0))[0] == "aaaaa"
    assert answer(("a", 100.0), ("a", None))[0] == free
    assert answer(*((token, None) for token in range(2000)), (ID_OF_A, -10_000.0))[0] != free
    assert answer(("<|im_end|>", 100.0))[1].reason == "stop"
    assert answer(("<|im_end|>", 100.0), ignore_eos=True)[1].reason == "length"


def test_a_scripted_model_follows_no_grammar(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "log")
    engine.load("scripted:echo", "scripted:draft")
    for wish in ({"grammar": JSON}, {"json_schema": SCHEMA}):
        failed = failure(engine, encode(question(1, **wish)))
        assert failed.message == "A scripted model follows no grammar and no JSON schema."
    assert engine.answer(question(2))[0] == "Hello?"
    engine.close()
