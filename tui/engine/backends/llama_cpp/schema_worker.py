"""The process in which a JSON schema becomes a grammar, behind hard limits.

Run by its path, with `-I -S` and an empty environment; the one argument is llama-cpp-python's converter, a
file that needs nothing of the package around it. Reads the schema, answers with one JSON object. It imports
nothing of ours. The converter is behind llama.cpp's own in places where its texts would not be JSON; these
are put right here, or refused.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from contextlib import suppress
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

MEMORY = 512 << 20
"""Bytes of address space."""
CPU_SECONDS = 5

_TYPES = ["object", "array", "string", "number", "boolean", "null"]
_CHARACTER = r'[^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})'
_WHOLE = "#/$defs/the-whole"
_NOT_IN_TEXT = re.compile(r'"|\\\\|\[\^')
_CLASS = re.compile(r"\[((?:[^\]\\]|\\.)*)\]")
_RANGE = re.compile(r"(\\?.)-(\\?.)", re.DOTALL)


def converter(path: str) -> Any:
    """llama-cpp-python's converter, put right."""
    spec = spec_from_file_location("llama_grammar", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = module_from_spec(spec)
    spec.loader.exec_module(module)
    module.PRIMITIVE_RULES["char"].content = _CHARACTER
    module.DOT = r'[^"\\\x00-\x1F\x7F]'
    module.GRAMMAR_LITERAL_ESCAPE_RE = re.compile(r'[\r\n"\\]')
    module.GRAMMAR_LITERAL_ESCAPES["\\"] = "\\\\"
    module._build_repetition = repetition
    patterns = module.SchemaConverter._visit_pattern

    def visit_pattern(self: Any, pattern: str, name: str) -> Any:
        check_pattern(pattern)
        return patterns(self, pattern, name)

    module.SchemaConverter._visit_pattern = visit_pattern
    return module


def repetition(
    item: str, fewest: int, most: int | None, separator_rule: str | None = None,
    item_rule_is_literal: bool = False,
) -> str:  # fmt: skip
    """`item` `fewest` to `most` times, in GBNF's own form: brackets would lie as deep as `most` says."""
    if most is not None and (fewest > most or most < 1):
        if fewest > most:
            raise ValueError(f"{fewest} to {most} items")
        return '""'
    if not separator_rule:
        return f"{item}{{{fewest},{'' if most is None else most}}}"
    further = repetition(f"({separator_rule} {item})", max(fewest - 1, 0), None if most is None else most - 1)
    whole = f"{item} {further}"
    return whole if fewest else f"({whole})?"


def check_pattern(pattern: str) -> None:
    """Raises ValueError where the converter would write a quote or a backslash into a JSON text as it is."""
    ranges = (pair for inside in _CLASS.findall(pattern) for pair in _RANGE.findall(inside))
    if _NOT_IN_TEXT.search(pattern) or any(
        first[-1] <= special <= last[-1] for first, last in ranges for special in '"\\'
    ):
        raise ValueError(f"the pattern {pattern} covers quotes or backslashes, which is not supported")


def convert(module: Any, text: str) -> str:
    """The grammar of a schema, of which what the converter overlooks is said in other words."""
    schema = json.loads(text)
    if "#" in _references(schema):  # it resolves paths from the root, and knows no path to the root itself
        _move_below(schema, _WHOLE)
        schema = {"$ref": _WHOLE, "$defs": {_WHOLE.rpartition("/")[2]: schema}}
    if isinstance(schema, dict) and "$ref" in schema:  # it looks at nothing that stands beside a reference
        schema["anyOf"] = [{"$ref": schema.pop("$ref")}]
    _say_any(schema)
    return str(module.json_schema_to_gbnf(json.dumps(schema)))


def _references(schema: Any) -> set[str]:
    """Every reference that stands in a schema."""
    if isinstance(schema, list):
        return set().union(*map(_references, schema))
    if not isinstance(schema, dict):
        return set()
    own = {schema["$ref"]} if isinstance(schema.get("$ref"), str) else set()
    inner = (_references(value) for key, value in schema.items() if key not in ("const", "enum"))
    return own.union(*inner)


def _move_below(schema: Any, place: str) -> None:
    """Let references into a schema stay right when it comes to stand at `place`."""
    for value in schema if isinstance(schema, list) else ():
        _move_below(value, place)
    for key, value in schema.items() if isinstance(schema, dict) else ():
        if key == "$ref" and isinstance(value, str) and value.startswith("#"):
            schema[key] = place + value[1:]
        elif key not in ("const", "enum"):
            _move_below(value, place)


def _say_any(schema: Any) -> None:
    """Write out what `"items": {}` means."""
    if isinstance(schema, dict):
        if schema.get("items") in ({}, True):
            schema["items"] = {"type": _TYPES}
        for key, value in schema.items():
            if key not in ("const", "enum"):
                _say_any(value)
    elif isinstance(schema, list):
        for value in schema:
            _say_any(value)


def reason(error: Exception) -> str:
    """Why there is no grammar, in one line."""
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error}"
    if isinstance(error, MemoryError):
        return f"it needs more than {MEMORY >> 20} MB of memory"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    said = " ".join(str(error).split())[:300]
    if isinstance(error, ValueError | AssertionError):
        return said
    return f"llama-cpp-python's converter cannot read it ({type(error).__name__}: {said})"


def main() -> None:
    with suppress(ValueError, OSError):  # not every system can limit the address space
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    try:
        schema = sys.stdin.buffer.read().decode("utf-8")
        answer = {"grammar": convert(converter(sys.argv[1]), schema)}
    except Exception as error:  # the process edge: the converter fails in any way that it likes
        answer = {"error": reason(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
