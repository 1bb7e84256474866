"""A JSON schema as a GBNF grammar, by llama-cpp-python's converter.

A few words of schema can ask for a grammar without end, so the converter runs in a process of its own
(`schema_worker`). It does not say which parts of a schema the converter leaves out.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from .. import ModelError
from . import gbnf

_SECONDS = 10.0
_HINT = "Change the JSON schema."
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems")
"""Keywords whose number becomes repetitions of a grammar."""
_TIMES = re.compile(r"\{(\d*),?(\d*)\}")
_PLACE = re.compile(r"(?:line \d+: )?it ")


def to_gbnf(schema: str) -> str:
    """The grammar of the JSON texts that `schema` describes. Raises `ModelError` if it has none."""
    spec = find_spec("llama_cpp")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    command = [
        sys.executable, "-I", "-S",
        str(Path(__file__).with_name("schema_worker.py")),
        str(Path(spec.submodule_search_locations[0]) / "llama_grammar.py"),
    ]  # fmt: skip
    try:
        data = schema.encode("utf-8", "surrogatepass")
        done = subprocess.run(command, input=data, stdout=subprocess.PIPE, timeout=_SECONDS, env={}, cwd="/")
        answer = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        raise ModelError("the JSON schema takes too much time or memory to read", _HINT) from None
    if "error" in answer:
        raise ModelError(f"the JSON schema cannot be used: {answer['error']}", _HINT)
    grammar = str(answer["grammar"])
    try:
        gbnf.check(grammar)
    except ModelError as error:
        reason = _too_large(json.loads(schema)) or _of_grammar(str(error).partition(": ")[2])
        raise ModelError(f"the JSON schema cannot be used: {reason}", _HINT) from None
    return grammar


def _of_grammar(fault: str) -> str:
    """A fault of the grammar in words for somebody who has written only the schema."""
    place = _PLACE.match(fault)
    return f"its grammar {fault[place.end() :]}" if place else f"in its grammar, {fault}"


def _too_large(schema: object) -> str:
    """The first keyword with a number that no grammar can count to; empty if there is none."""
    waiting, most = [schema], gbnf.MOST_REPETITIONS
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += reversed(part)
        if not isinstance(part, dict):
            continue
        for key, value in part.items():
            if key in _COUNTS and isinstance(value, int) and value > most:
                return f"its {key} is {value:,}, and at most {most:,} is possible"
            if key == "pattern" and isinstance(value, str) and (times := _most_times(value)) > most:
                return f"a pattern in it repeats {times:,} times, and at most {most:,} is possible"
        waiting += [part[key] for key in reversed(part) if key not in ("const", "enum")]
    return ""


def _most_times(pattern: str) -> int:
    """The largest number in the braces of a pattern."""
    return max((int(number) for pair in _TIMES.findall(pattern) for number in pair if number), default=0)
