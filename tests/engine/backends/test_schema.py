"""JSON schemas as grammars: what they stand for, and that no schema harms the engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.support.starter import load
from tui.engine.backends import LoadedModel, ModelError
from tui.engine.backends.grammars import of_schema
from tui.engine.starter import MAIN


@pytest.fixture(scope="module")
def main() -> Iterator[LoadedModel]:
    model = load(MAIN, "main")
    yield model
    model.close()


def accepts(main: LoadedModel, schema: Any, text: str) -> bool:
    """Whether a grammar of `schema` allows `text` token by token, and an end behind it."""
    constraint = main.constraint(of_schema(json.dumps(schema)))
    tokens = [*main.vocabulary.encode(text), min(main.vocabulary.end_tokens)]
    return all(constraint.allowed(tokens[:place], np.array([token]))[0] for place, token in enumerate(tokens))


ITEMS = {"type": "array", "items": {"type": "boolean"}}
STRING = {"type": "string"}
NULL_B = {"properties": {"b": {"type": "null"}}}
OBJECT = {"type": "object", "properties": {"a": {"type": "integer"}}}
CASES: list[tuple[Any, list[str], list[str]]] = [
    ({"const": 'a\\b"c\n\td'}, [json.dumps('a\\b"c\n\td')], ['"a\\b"', '"a\\\\b\\"c\n\td"']),
    ({"const": "é"}, ['"é"'], ['"e"']),
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
    ({}, ['{"a": [1, {"b": null}]}', "1"], ["x", "[1"]),
    ({"type": "string", "pattern": "b"}, ['"abc"', '"b"'], ['"a"']),
    ({"type": "string", "pattern": '^"[^a]$'}, ['"\\"\\\\"', '"\\"b"'], ['""b"', '"\\"a"', '"\\"\n"']),
    ({"type": "string", "pattern": "^[ -~]{2}$"}, ['"a\\""', '"\\\\ "'], ['"a""', '"é "']),
    ({**STRING, "minLength": 2500, "maxLength": 10**9}, [json.dumps("a" * 2600)], [json.dumps("a" * 2400)]),
    ({**ITEMS, "minItems": 0, "maxItems": 10**9}, ["[]", "[true]"], ["[1]"]),
    ({**ITEMS, "uniqueItems": True, "title": "t", "x-own": [1], "not": {}}, ["[true, true]"], ["[1]"]),
    ({"type": "string", "format": "nobody's"}, ['"a"'], ["1"]),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, ["1", "1.5"], ['"1"']),
    (OBJECT, ['{"a": 1}', '{"a":1}', '{\n  "a": 1\n}'], ['{"a": 1, "b": 2}', '{"b": 2}', '{  "a": 1}']),
    ({**OBJECT, "additionalProperties": True}, ['{"a": 1, "b": "c"}'], ['{"a": "c"}']),
    ({**OBJECT, "patternProperties": {"^b": {"type": "null"}}}, ['{"a": 1, "bc": null}'], ['{"bc": 1}']),
    ({"allOf": [OBJECT, NULL_B]}, ['{"a": 1, "b": null}'], ['{"a": null}', '{"b": 1}', "1"]),
    ({**OBJECT, "anyOf": [NULL_B, {}]}, ['{"a": 1, "b": null}'], ['{"a": null}']),
    ({"anyOf": [OBJECT, {"type": "null"}]}, ['{"a": 1}', "null"], ['{"b": 1}']),
    ({"properties": {"properties": OBJECT, "const": OBJECT}, "type": "object"},
     ['{"properties": {"a": 1}, "const": {}}'], ['{"properties": {"b": 1}}', '{"const": {"b": 1}}']),
    ({"enum": [{"properties": {"b": 1}}]}, ['{"properties": {"b": 1}}'], ["{}"]),
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
    '{"type": "array", "items": {}, "minItems": 5, "maxItems": 1}',
    *(json.dumps({"type": "string", "pattern": pattern}) for pattern in (
        "^(", "^[$", "^a)$", "^a{2$", "^*$", "^(?=a)$", "^a{99999999999}$", "^" + "(" * 500 + ")" * 500 + "$",
    )),
    '{"type": "array", "items": ' * 3000 + "{}" + "}" * 3000,
    "[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("schema", BROKEN, ids=range(len(BROKEN)))
def test_a_schema_that_cannot_be_used_is_one_line(schema: str) -> None:
    with pytest.raises(ModelError, match=r"^the JSON schema cannot be used: .+") as caught:
        of_schema(schema)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_the_reason_is_named() -> None:
    for schema, reason in (
        ('{"type": "unknown"}', "Invalid type: unknown"),
        ('{"$ref": "#/nowhere"}', "Pointer '/nowhere' does not exist"),
        ('{"type": "string", "pattern": "^("}', "unclosed group"),
        (
            '{"type": "string", "minLength": 3, "maxLength": 2}',
            r"minLength \(3\) is greater than maxLength \(2\)",
        ),
        ("[" * 100_000, "it is nested too deeply"),
        (json.dumps({"enum": ["x" * (1 << 20)]}), "it is longer than 1 MiB"),
        ('{"$ref": "#"}', "it allows no text"),
    ):
        with pytest.raises(ModelError, match=reason):
            of_schema(schema)


CHAIN = {f"d{i}": {"type": "array", "items": {"$ref": f"#/$defs/d{i + 1}"}} for i in range(15_000)}
PATTERNS = [{"type": "string", "pattern": f"^(.*a.{{{i}}}b.*)$"} for i in range(3, 60)]
TOO_MUCH = {
    "a chain of references": {"$ref": "#/$defs/d0", "$defs": {**CHAIN, "d15000": {}}},
    "many patterns for one string": {"allOf": PATTERNS},
    "many ways to combine": {
        "allOf": [{"anyOf": [{"required": [f"{i}{j}"]} for j in range(9)]} for i in range(9)]
    },
}


@pytest.mark.parametrize("schema", TOO_MUCH.values(), ids=TOO_MUCH)
def test_a_schema_that_is_too_much_is_one_line(schema: Any) -> None:
    """llguidance would end the process at the first and take for ever over the second."""
    with pytest.raises(ModelError, match=r"too much time or memory|schema too large") as caught:
        of_schema(json.dumps(schema))
    assert "\n" not in str(caught.value)


def test_a_schema_that_is_large_is_read(main: LoadedModel) -> None:
    choices = [f"choice number {i}" for i in range(2000)]
    assert accepts(main, {"enum": choices}, '"choice number 1234"')
    optional = {"type": "object", "properties": {f"p{i}": {"type": "boolean"} for i in range(60)}}
    assert accepts(main, optional, '{"p3": true, "p59": false}')
