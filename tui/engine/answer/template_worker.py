"""The process that renders a model's chat template, a program by a stranger, under hard limits.

It is run by its path, with `-I -S` and an empty environment. Its one argument is the folder of jinja2. It
reads a JSON request per line, answers with a JSON line, and ends with its input. It knows no model and no
tokens, opens no file, and imports none of our modules, so that it starts fast and holds nothing to steal.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from math import ceil
from typing import Any

sys.path.append(sys.argv[1])

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY = 512 << 20
"""Bytes of address space."""
CPU_SECONDS = 2


class TemplateRejected(Exception):
    """The template itself rejects the input, by `raise_exception`."""


class GenerationTag(Extension):
    """`{% generation %}`: marks an assistant's text, for training. Here only its body matters."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment() -> ImmutableSandboxedEnvironment:
    """Return the environment that Hugging Face's `apply_chat_template` offers a template, and no more."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols]
    )
    for name in ("lipsum", "cycler", "joiner"):
        del made.globals[name]
    made.globals["raise_exception"] = _raise
    made.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    made.filters["tojson"] = _to_json
    return made


def _raise(message: object) -> None:
    raise TemplateRejected(str(message))


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Hugging Face's filter, because jinja2's own would escape HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def render(compiled: Callable[[str], Any], request: dict[str, Any]) -> dict[str, str]:
    """Return {"text": ...} or the fault: {"rejected": ...}, {"error": ...}, {"spent": ...} beyond a limit."""
    values = {"add_generation_prompt": True, "tools": None, "documents": None, **request["values"]}
    limit, length, parts = request["limit"], 0, []
    try:
        for part in compiled(request["template"]).generate(values):
            length += len(part)
            if length > limit:
                return {"spent": f"its text is longer than {limit} characters"}
            parts.append(part)
        return {"text": "".join(parts)}
    except TemplateRejected as rejection:
        return {"rejected": str(rejection)[:1000]}
    except MemoryError:
        return {"spent": f"it needs more than {MEMORY >> 20} MB of memory"}
    except RecursionError:
        return {"spent": "it calls itself without end"}
    except TemplateError as error:
        return {"error": f"{error.message} (line {getattr(error, 'lineno', '?')})"[:1000]}
    except Exception as error:  # the process edge: any error that a stranger's template causes
        return {"error": f"{type(error).__name__}: {error}"[:1000]}


def main() -> None:
    with suppress(ValueError, OSError):  # some systems cannot limit the address space
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    made = environment()
    compiled = lru_cache(maxsize=1)(made.from_string)
    _write({"ready": "yes"})
    for line in sys.stdin.buffer:
        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = ceil(used.ru_utime + used.ru_stime) + CPU_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        _write(render(compiled, json.loads(line)))


def _write(answer: dict[str, str]) -> None:
    try:
        sys.stdout.buffer.write(json.dumps(answer).encode("ascii") + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # the engine is gone
        os._exit(0)


if __name__ == "__main__":
    main()
