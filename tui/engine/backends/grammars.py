"""A GBNF grammar or a JSON schema as a grammar of llguidance, which has been tried.

The trial runs in a process of its own (`grammar_worker`), because some grammars would end this one or keep it
busy for hours. This module knows no tokens.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from . import ModelError, gbnf

_SECONDS = 10.0
_TOO_LARGE = "it takes too much time or memory"
_RULES = '%llguidance {"no_forcing": true}\n'
"""A place where only one text is possible still allows every token that begins it."""
_OPTIONS = {
    "coerce_one_of": True,
    "lenient": True,
    "json_allow_general_unicode_escapes": True,
    "whitespace_pattern": r" ?|\n[ \t]{0,20}",
}
"""`oneOf` is read as `anyOf`, unknown keywords are ignored, and no model can write white space for ever."""
_PLACE = re.compile(r"^(?:at )?\d+\(\d+\): ")
"""A line and column of a text that only this module has seen."""
_DATA = ("const", "enum", "default", "examples")
_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_COMBINED = {"anyOf", "oneOf", "$ref"}
_MORE = {"additionalProperties", "patternProperties", "unevaluatedProperties"}


def of_gbnf(text: str) -> str:
    """Return the grammar of the texts that a GBNF grammar describes. Raises `ModelError`."""
    grammar = json.dumps({"grammars": [{"lark_grammar": _RULES + gbnf.to_lark(text)}]})
    if fault := _fault(grammar):
        raise gbnf.rejection(fault)
    return grammar


def of_schema(text: str) -> str:
    """Return the grammar of the JSON texts that a JSON schema describes. Raises `ModelError`."""
    try:
        schema = _read(text)
        start = {"name": "start", "lark_grammar": f"{_RULES}start: @schema\n"}
        grammar = json.dumps({"grammars": [start, {"name": "schema", "json_schema": schema}]})
    except RecursionError:
        raise _rejection("it is nested too deeply") from None
    if fault := _fault(grammar):
        raise _rejection(fault)
    return grammar


def _read(text: str) -> dict[str, Any]:
    if len(text.encode("utf-8", "surrogatepass")) > gbnf.LONGEST:
        raise _rejection(f"it is longer than {gbnf.LONGEST >> 20} MiB")
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise _rejection(f"not JSON: {error}") from None
    if not isinstance(schema, dict):
        raise _rejection("it is no JSON object")
    if '"allOf"' not in text:
        _close(schema)
    schema["x-guidance"] = _OPTIONS
    return schema


def _close(schema: Any, alone: bool = True) -> None:
    """Allow only the named properties, where a schema does not say otherwise.

    JSON Schema allows any others too, and small models would go on with them. A schema that is not `alone`
    describes the same object as another one.
    """
    for part in schema if isinstance(schema, list) else ():
        _close(part, alone)
    if not isinstance(schema, dict):
        return
    named = "properties" in schema
    for key, value in schema.items():
        if key in _MAPS and isinstance(value, dict):
            _close([*value.values()])
        elif key not in _DATA:
            _close(value, not (named and key in _COMBINED))
    if named and alone and not schema.keys() & (_COMBINED | _MORE):
        schema["additionalProperties"] = False


def _fault(grammar: str) -> str:
    """Return the reason why a grammar cannot be used; empty if it can."""
    spec = find_spec("llguidance")
    if spec is None or spec.origin is None:
        raise ModelError("llguidance is not installed", "Install it: pip install llguidance")
    worker = Path(__file__).with_name("grammar_worker.py")
    command = [sys.executable, "-I", "-S", str(worker), str(Path(spec.origin).parents[1])]
    try:
        done = subprocess.run(
            command, input=grammar.encode(), capture_output=True, timeout=_SECONDS, env={}, cwd="/"
        )
        fault = str(json.loads(done.stdout)["fault"])
    except (subprocess.TimeoutExpired, ValueError):
        return _TOO_LARGE
    return _worded(fault) if fault else ""


def _worded(fault: str) -> str:
    """Return a fault that llguidance found, in one line."""
    if fault.startswith(("panic", "lexer error", "parser error")):
        return _TOO_LARGE
    if fault.startswith("NoExtension"):
        return "it allows no text"
    if fault.startswith("recursion limit"):
        return "it is nested too deeply"
    first, *more = _PLACE.sub("", fault).splitlines()
    reasons = [line.removeprefix("error: ") for line in more if line.startswith("error: ")]
    return " ".join((first, *reasons))[:300]


def _rejection(reason: str) -> ModelError:
    return ModelError(f"the JSON schema cannot be used: {reason}", "Change the JSON schema.")
