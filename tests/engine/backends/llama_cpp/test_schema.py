"""JSON schemas as grammars: what they stand for, and that no schema harms the engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from tests.support.starter import load
from tui.engine.backends import LoadedModel, ModelError
from tui.engine.backends.llama_cpp.schema import to_gbnf
from tui.engine.starter import MAIN


@pytest.fixture(scope="module")
def main() -> Iterator[LoadedModel]:
    model = load(MAIN, "main")
    yield model
    model.close()


def accepts(main: LoadedModel, schema: Any, text: str) -> bool:
    """Whether a grammar of `schema` allows `text` token by token, and an end behind it."""
    constraint = main.constraint(to_gbnf(json.dumps(schema)))
    tokens = [*main.vocabulary.encode(text), min(main.vocabulary.end_tokens)]
    return all(constraint.allowed(tokens[:place], np.array([token]))[0] for place, token in enumerate(tokens))


ITEMS = {"type": "array", "items": {"type": "boolean"}}
CASES: list[tuple[Any, list[str], list[str]]] = [
    ({"const": 'a\\b"c\n\td'}, [json.dumps('a\\b"c\n\td')], ['"a\\b"', '"a\\\\b\\"c\n\td"']),
    ({"const": "é"}, ['"\\u00e9"'], ['"e"']),
    ({"type": "object", "properties": {'a"\\': {"type": "null"}}, "required": ['a"\\']},
     ['{"a\\"\\\\": null}'], ['{"a"\\": null}', "{}"]),
    ({"type": "string"}, ['""', '"a\\n\\u00e9"'], ['"a\nb"', '"\t"', '"\\a"', '"a"b"']),
    ({"type": "string", "minLength": 2, "maxLength": 4}, ['"ab"', '"abcd"', '"\\n\\n"'], ['"a"', '"abcde"']),
    ({"type": "string", "maxLength": 0}, ['""'], ['"a"']),
    ({"type": "string", "maxLength": 1500}, [json.dumps("a" * 1500)], [json.dumps("a" * 1501)]),
    ({"type": "string", "pattern": "^a.c$"}, ['"abc"'], ['"a"c"', '"a\\c"', '"ac"', '"abc']),
    ({"type": "string", "pattern": "^(ab|c){2,3}[0-9]?$"}, ['"abc"', '"ccc1"'], ['"ab"', '"abababab"']),
    ({"type": "array", "items": {}, "minItems": 1}, ['[1, "a"]', "[[], {}]"], ["[]"]),
    ({"type": "array", "items": {"enum": [{"items": {}}]}}, ['[{"items": {}}]'], ["[1]"]),
    (ITEMS, ["[]", "[true, false]"], ["[1]", "[true,]"]),
    ({**ITEMS, "minItems": 1}, ["[true]", "[true,true]"], ["[]"]),
    ({**ITEMS, "minItems": 2, "maxItems": 3}, ["[true,true]", "[true,true,true]"],
     ["[true]", "[true,true,true,true]"]),
    ({**ITEMS, "maxItems": 2}, ["[]", "[true]", "[true,true]"], ["[true,true,true]"]),
    ({**ITEMS, "maxItems": 0}, ["[]"], ["[true]"]),
    ({**ITEMS, "minItems": 3, "maxItems": 3}, ["[true,true,true]"], ["[true,true]"]),
    ({"type": "integer"}, ["-12", "0"], ["1.5", "01"]),
    ({"type": ["null", "boolean"]}, ["null", "true"], ["1"]),
    ({"$ref": "#/$defs/t", "$defs": {"t": {"type": "object", "properties": {"t": {"$ref": "#/$defs/t"}}}}},
     ["{}", '{"t": {"t": {}}}'], ['{"t": 1}']),
    ({"type": "object", "properties": {"t": {"$ref": "#"}}}, ["{}", '{"t": {"t": {}}}'], ['{"t": 1}']),
    ({"type": "array", "items": {"anyOf": [{"$ref": "#"}, {"$ref": "#/$defs/n"}]},
      "$defs": {"n": {"const": "#"}}}, ["[]", '[[], "#", [["#"]]]'], ['["x"]', "[1]"]),
    ({}, ['{"a": [1, {"b": null}]}'], ["1"]),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "right", "wrong"), CASES, ids=range(len(CASES)))
def test_what_a_schema_allows(main: LoadedModel, schema: Any, right: list[str], wrong: list[str]) -> None:
    for text in right:
        json.loads(text)
        assert accepts(main, schema, text), text
    for text in wrong:
        assert not accepts(main, schema, text), text


BROKEN = [
    "", "{", "[1", "nul", "\ud800", '{"a": 1,}', "[]", "1", '"x"', "null", "true", "[{}]",
    '{"type": "unknown"}', '{"type": 5}', '{"type": {}}', '{"enum": 5}', '{"const": 1, "type": ["a"]}',
    '{"$ref": 5}', '{"$ref": "#"}', '{"$ref": "#/nowhere"}', '{"$ref": "other.json"}',
    '{"$ref": "https://example.org/s.json"}', '{"properties": []}', '{"properties": {"a": 1}}',
    '{"type": "object", "required": 5, "properties": {"a": {}}}', '{"anyOf": [5]}', '{"allOf": [5]}',
    '{"type": "string", "minLength": "x"}', '{"type": "string", "minLength": 3, "maxLength": 2}',
    '{"type": "string", "minLength": -5}', '{"type": "string", "maxLength": 1.5}',
    '{"type": "string", "maxLength": 1000000000}', '{"type": "string", "minLength": 1000000000}',
    '{"type": "array", "items": {}, "minItems": 5, "maxItems": 1}',
    '{"type": "array", "items": {}, "minItems": 1000000000}',
    '{"type": "array", "items": {}, "maxItems": 1000000000}',
    *(json.dumps({"type": "string", "pattern": pattern}) for pattern in (
        "a", "^(", "^[$", "^a)$", "^a{2$", "^*$", "^\\d+$", "^(?=a)$", "^a{99999999999}$", '^"$', "^[^a]$",
        "^\\\\$", "^[ -~]$", "^[A-z]$", "^" + "(" * 500 + ")" * 500 + "$",
    )),
    '{"type": "array", "items": ' * 3000 + "{}" + "}" * 3000,
    "[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("schema", BROKEN, ids=range(len(BROKEN)))
def test_a_schema_that_cannot_be_used_is_one_line(schema: str) -> None:
    started = perf_counter()
    with pytest.raises(ModelError) as caught:
        to_gbnf(schema)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert perf_counter() - started < 20


STRING = {"type": "string"}
MANY = {"type": "object", "properties": {f"p{i}": {**STRING, "maxLength": 1900} for i in range(100)}}


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({**STRING, "minLength": 100_000}, "its minLength is 100,000, and at most 1,999 is possible"),
        (
            {"properties": {"a": {"enum": ["b"]}, "b": {**STRING, "maxLength": 2_000}}},
            "its maxLength is 2,000,",
        ),
        ({"anyOf": [ITEMS, {**ITEMS, "minItems": 5_000}]}, "its minItems is 5,000,"),
        ({**STRING, "pattern": "^a{2}(bc){7,3000}$"}, "a pattern in it repeats 3,000 times,"),
        (MANY, "its grammar is too large once its repetitions are written out"),
        ({"enum": ["x" * (1 << 21)]}, "its grammar is longer than 1 MiB"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_a_schema_that_is_too_large_names_its_keyword(schema: Any, reason: str) -> None:
    with pytest.raises(ModelError, match=f"the JSON schema cannot be used: {reason}") as caught:
        to_gbnf(json.dumps(schema))
    assert "line" not in str(caught.value)


def test_a_schema_that_is_large_is_read(main: LoadedModel) -> None:
    choices = [f"choice number {i}" for i in range(2000)]
    assert accepts(main, {"enum": choices}, '"choice number 1234"')
    optional = {"type": "object", "properties": {f"p{i}": {"type": "boolean"} for i in range(60)}}
    assert accepts(main, optional, '{"p3": true, "p59": false}')
