"""Turns conversations into token ids: by the model's own chat template, or as one text without a template.

The template runs in a separate process (`template_worker`), because a sandbox stops code but not endless
work. Typed text can never become a control token: a mark breaks its spelling before rendering, and the
rendered text is cut at the marks before it is encoded.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import Any

from ...protocol import Message
from ...protocol.marks import SWITCHES
from ...protocol.spans import any_of
from ...protocol.thoughts import without_thought
from ..backends import ModelError, Vocabulary, prompt_form
from ..library.forms import CHATML, CHATML_MARKS
from .turns import Turn, holds, shapes, turns_of

MARK = "\ufdd0"
"""A noncharacter. It never stands in text, so cutting a text at it loses nothing."""

_PARAGRAPH = "\n\n"
_START_SECONDS = 10.0
_RENDER_SECONDS = 2.0
_HINT = "Choose another model, or one whose file has a working chat template."


class TemplateError(ModelError):
    """A template cannot or will not render this input. Another input may work."""


class TemplateRenderer:
    """Renders templates in a worker that is started in advance, and replaced when it had to be killed."""

    def __init__(self, seconds: float = _RENDER_SECONDS) -> None:
        """`seconds` is the time limit for one template."""
        self._seconds = seconds
        self._worker = _start_worker()
        self._fresh = True

    def render(self, template: str, values: dict[str, Any], limit: int) -> str:
        """Return the rendered text, at most `limit` characters. Raises `ModelError` for every fault."""
        request = json.dumps({"template": template, "values": values, "limit": limit}).encode("ascii")
        if self._worker.poll() is not None:
            self._restart()
        line = self._exchange(request + b"\n", limit)
        try:
            answer = json.loads(line)
            if "text" in answer:
                return str(answer["text"])
        except ValueError:
            reason = self._reason_of_death()
            self._restart()
            raise ModelError(f"the model's chat template was ended: {reason}", _HINT) from None
        if "spent" in answer:
            raise ModelError(f"the model's chat template has an error: {answer['spent']}", _HINT)
        if "rejected" in answer:
            raise TemplateError(f"the model's chat template rejects this conversation: {answer['rejected']}")
        if missing := re.fullmatch(r"'(\w*functions|\w*tools)' is undefined.*", answer["error"]):
            reason = f"the model's chat template is for {missing[1]}, and this chat has none"
            raise TemplateError(reason, _HINT)
        raise TemplateError(f"the model's chat template has an error: {answer['error']}", _HINT)

    def close(self) -> None:
        """End the worker."""
        for pipe in (self._worker.stdin, self._worker.stdout):
            if pipe is not None:
                pipe.close()
        self._worker.kill()
        self._worker.wait()

    def _exchange(self, request: bytes, limit: int) -> bytes:
        """Return the worker's answer; empty if it died or was killed."""
        stdin, stdout = self._worker.stdin, self._worker.stdout
        assert stdin is not None
        assert stdout is not None

        def ask() -> bytes:
            stdin.write(request)
            stdin.flush()
            return stdout.readline(12 * limit + 4096)

        try:
            if self._fresh:
                self._within(_START_SECONDS, stdout.readline)
                self._fresh = False
            return self._within(self._seconds, ask)
        except OSError:
            return b""

    def _within(self, seconds: float, call: Callable[[], bytes]) -> bytes:
        """Return the result of `call`. The worker, and with it `call`, is ended after `seconds`."""
        timer = threading.Timer(seconds, self._worker.kill)
        timer.start()
        try:
            return call()
        finally:
            timer.cancel()

    def _reason_of_death(self) -> str:
        self._worker.kill()
        status = self._worker.wait()
        if status in (-signal.SIGKILL, -signal.SIGXCPU):
            return f"it took longer than {self._seconds:g} s"
        return f"its process ended with status {status}"

    def _restart(self) -> None:
        self.close()
        self._worker = _start_worker()
        self._fresh = True


def _start_worker() -> subprocess.Popen[bytes]:
    """Start a worker that sees no environment, no site-packages but jinja2's, and not this folder."""
    found = find_spec("jinja2")
    assert found is not None
    assert found.origin is not None
    command = [
        sys.executable, "-I", "-S",
        str(Path(__file__).with_name("template_worker.py")),
        str(Path(found.origin).parent.parent),
    ]  # fmt: skip
    zone = {name: os.environ[name] for name in ("TZ", "TZDIR") if name in os.environ}  # for today's date
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=zone, cwd="/")


def turn_marks(vocabulary: Vocabulary) -> tuple[str, ...]:
    """Return texts that end an answer, for a form that was assumed because the file names no end."""
    return CHATML_MARKS if prompt_form(vocabulary) == "chatml" else ()


def encode_conversation(
    vocabulary: Vocabulary, renderer: TemplateRenderer, messages: Sequence[Message], limit: int,
    wishes: Mapping[str, Any] = MappingProxyType({}), tell: Callable[[str], None] = lambda notice: None,
) -> list[int]:  # fmt: skip
    """Return the token ids of a conversation, up to the start of the answer; of a base model, those of its
    one text.

    No text of a message becomes a control token. An ordinary conversation is encoded in one piece. The
    rendered text may have `limit` characters. `wishes` are values for templates that know them. `tell`
    receives a notice for each deviation from the request. Raises `ModelError`.
    """
    broken = _breaker(vocabulary.control_texts)
    if prompt_form(vocabulary) == "text":
        parts = [piece for part in joined(messages) for piece in broken(part).split(MARK) if piece]
        return vocabulary.encode_start() + _encoded(vocabulary, parts)
    rendered = _rendered(vocabulary, renderer, turns_of(messages, broken), limit, wishes, tell)
    tokens = _encoded(vocabulary, [part for part in rendered.split(MARK) if part])
    start = vocabulary.encode_start()
    return tokens if tokens[: len(start)] == start else start + tokens


def _rendered(
    vocabulary: Vocabulary, renderer: TemplateRenderer, turns: Sequence[Turn], limit: int,
    wishes: Mapping[str, Any], tell: Callable[[str], None],
) -> str:  # fmt: skip
    """Return the whole text of `turns`, in the first shape that the template accepts."""
    template = vocabulary.chat_template or CHATML
    tokens = {"bos_token": vocabulary.bos_text, "eos_token": vocabulary.eos_text}
    failure: ModelError | None = None
    end = monotonic() + _RENDER_SECONDS
    for shape in shapes(turns, wishes):
        if failure and monotonic() > end:
            break
        try:
            text = renderer.render(template, tokens | shape.values, limit)
        except TemplateError as error:
            failure = failure or error
            continue
        if holds(text, turns):
            for notice in shape.notices:
                tell(notice)
            return text
    raise failure or ModelError("the model's chat template leaves out what you wrote", _HINT)


def _encoded(vocabulary: Vocabulary, parts: Sequence[str]) -> list[int]:
    """Return the tokens of consecutive texts, each encoded separately.

    SentencePiece puts a space before each text that it encodes, but only the first needs one. So the others
    are encoded after a mark that cannot merge with any text.
    """
    if not parts:
        return []
    tokens = vocabulary.encode(parts[0])
    mark = vocabulary.encode(MARK) if len(parts) > 1 else []
    for part in parts[1:]:
        behind = vocabulary.encode(MARK + part)
        whole = mark and behind[: len(mark)] == mark
        tokens += behind[len(mark) :] if whole else vocabulary.encode(part)
    return tokens


def puts_space(vocabulary: Vocabulary) -> bool:
    """Return whether the tokenizer puts a space before each text that it encodes."""
    return vocabulary.piece(vocabulary.encode("a")[0]).startswith(b" ")


def joined(messages: Sequence[Message]) -> list[str]:
    """Return the one text that a base model continues, with a part for each message. No word is added to it.

    An answer continues at the end of the text. The system prompt is the first paragraph, and each prompt
    begins a new one; but a prompt that begins with a space or a line break continues the text directly.
    """
    parts: list[str] = []
    end = _PARAGRAPH
    for message in messages:
        said = without_thought(message.content) if message.role == "assistant" else message.content
        if message.role != "assistant" and not said[:1].isspace():
            said = _PARAGRAPH[len(end) - len(end.rstrip("\n")) :] + said
        parts.append(said)
        end = (end + said)[-len(_PARAGRAPH) :]
    return parts


def _breaker(control_texts: Iterable[str]) -> Callable[[str], str]:
    """Return a function that puts a mark after the first character of every control token's spelling."""
    control = any_of(tuple(text for text in control_texts if len(text) > 1 and text not in SWITCHES))

    def broken(text: str) -> str:
        while control.search(text):
            text = control.sub(lambda match: match[0][0] + MARK + match[0][1:], text)
        return text

    return broken
