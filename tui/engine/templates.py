"""Conversations to token ids: by the model's own chat template, or as one text where it has none.

The template runs in a process of its own (`template_worker`), because a sandbox stops code but not work.
What people typed can never become a control token: its spelling is broken by a mark before rendering,
and the rendered text is cut at the marks before it is encoded.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..protocol import Message, PromptForm
from ..protocol.thoughts import without_thought
from .backends import ModelError, Vocabulary
from .library.forms import CHATML, CHATML_MARKS, form_of

MARK = "\ufdd0"
"""A noncharacter: it has no place in text, so nothing is lost when a text is cut where it stands."""

_PARAGRAPH = "\n\n"
_KNOWS_THOUGHTS = "think"
"""A template with this word in it leaves thoughts out, or keeps them, as its model is used to."""
_START_SECONDS = 10.0
_RENDER_SECONDS = 2.0
_HINT = "Choose another model, or one whose file has a working chat template."


class TemplateRenderer:
    """Renders templates in a worker that is started in advance and replaced when it had to be ended."""

    def __init__(self, seconds: float = _RENDER_SECONDS) -> None:
        """`seconds` is the longest that one template may take."""
        self._seconds = seconds
        self._worker = _start_worker()
        self._fresh = True

    def render(self, template: str, values: dict[str, Any], limit: int) -> str:
        """The rendered text, at most `limit` characters. Raises `ModelError` for whatever goes wrong."""
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
        if "refused" in answer:
            raise ModelError(f"the model's chat template refuses this conversation: {answer['refused']}")
        raise ModelError(f"the model's chat template has an error: {answer['error']}", _HINT)

    def close(self) -> None:
        """End the worker."""
        for pipe in (self._worker.stdin, self._worker.stdout):
            if pipe is not None:
                pipe.close()
        self._worker.kill()
        self._worker.wait()

    def _exchange(self, request: bytes, limit: int) -> bytes:
        """The worker's answer; empty if it died or had to be ended."""
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
        """`call`, which ends soon after the worker does; the worker is ended after `seconds`."""
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
    """Isolated from the environment, from site-packages other than jinja2's, and from the current folder."""
    found = find_spec("jinja2")
    assert found is not None
    assert found.origin is not None
    command = [
        sys.executable, "-I", "-S",
        str(Path(__file__).with_name("template_worker.py")),
        str(Path(found.origin).parent.parent),
    ]  # fmt: skip
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}, cwd="/")


def prompt_form(vocabulary: Vocabulary) -> PromptForm:
    """How a model with this vocabulary is given a conversation."""
    return form_of(vocabulary.chat_template, lambda mark: len(vocabulary.encode(mark)) == 1)


def turn_marks(vocabulary: Vocabulary) -> tuple[str, ...]:
    """Texts that end an answer: those of a form that was assumed, for its file says of none what ends one."""
    return CHATML_MARKS if prompt_form(vocabulary) == "chatml" else ()


def encode_conversation(
    vocabulary: Vocabulary, renderer: TemplateRenderer, messages: Sequence[Message], limit: int
) -> list[int]:
    """The token ids of a conversation, up to where the answer begins; for a base model, of its one text.

    No text of a message becomes a control token. An ordinary conversation is encoded in one piece. The
    rendered text may have `limit` characters. Raises `ModelError`.
    """
    broken = _breaker(vocabulary.control_texts)
    if prompt_form(vocabulary) == "text":
        return _encode_text(vocabulary, messages)
    template = vocabulary.chat_template or CHATML
    values = {
        "messages": [{"role": m.role, "content": broken(_said(m, template))} for m in messages],
        "bos_token": vocabulary.bos_text,
        "eos_token": vocabulary.eos_text,
    }
    rendered = renderer.render(template, values, limit)
    tokens = [token for part in rendered.split(MARK) if part for token in vocabulary.encode(part)]
    start = vocabulary.encode_start()
    return tokens if tokens[: len(start)] == start else start + tokens


def _encode_text(vocabulary: Vocabulary, messages: Sequence[Message]) -> list[int]:
    """The tokens of `joined`, part by part: so the tokens of earlier turns stay, and with them the cache."""
    broken = _breaker(vocabulary.control_texts)
    parts = joined(messages)
    if vocabulary.piece(vocabulary.encode("a")[0]) != b"a":  # it puts a space before whatever it encodes
        parts = ["".join(parts)]
    pieces = (piece for part in parts for piece in broken(part).split(MARK) if piece)
    return vocabulary.encode_start() + [token for piece in pieces for token in vocabulary.encode(piece)]


def joined(messages: Sequence[Message]) -> list[str]:
    """The one text that a base model continues, a part for each message. No word is added to it.

    An answer goes on where the text ends. The system prompt is the first paragraph, and each prompt begins
    one; a prompt that begins with a space or a line break goes on where the text ends.
    """
    parts: list[str] = []
    end = _PARAGRAPH
    for message in messages:
        said = _said(message, "")
        if message.role != "assistant" and not said[:1].isspace():
            said = _PARAGRAPH[len(end) - len(end.rstrip("\n")) :] + said
        parts.append(said)
        end = (end + said)[-len(_PARAGRAPH) :]
    return parts


def _said(message: Message, template: str) -> str:
    """What of a message the template is given: thoughts only where it knows what to do with them."""
    if message.role != "assistant" or _KNOWS_THOUGHTS in template:
        return message.content
    return without_thought(message.content)


def _breaker(control_texts: Iterable[str]) -> Callable[[str], str]:
    """A function that puts a mark into every spelling of a control token, behind its first character."""
    spellings = sorted((text for text in control_texts if len(text) > 1), key=len, reverse=True)
    control = re.compile("|".join(map(re.escape, spellings))) if spellings else None

    def broken(text: str) -> str:
        while control and control.search(text):
            text = control.sub(lambda match: match[0][0] + MARK + match[0][1:], text)
        return text

    return broken
