"""A JSON schema as a GBNF grammar, by llama-cpp-python's converter.

A few words of schema can ask for a grammar without end, so the converter runs in a process of its own
(`schema_worker`). It does not say which parts of a schema the converter leaves out.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from .. import ModelError
from . import gbnf

_SECONDS = 10.0
_HINT = "Change the JSON schema."


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
        reason = str(error).partition(": ")[2]
        raise ModelError(f"the JSON schema cannot be used: in its grammar, {reason}", _HINT) from None
    return grammar
