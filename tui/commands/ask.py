"""`outrider ask`: one question, one answer on stdout, no screen.

In a pipe, stdout carries only the text as the model wrote it, or one JSON object. All remarks go to stderr.
Text for a terminal is cleaned. No conversation is stored.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, TextIO, cast

from msgspec import structs

from .. import protocol
from ..chat.formatting import finished
from ..chat.requests import generate_request, load_request
from ..chat.worker_notices import worker_notices
from ..choices import SAMPLING
from ..clean import clean, clean_line, clean_next
from ..client import AnswerEvent, EngineClient, running
from ..config import Settings
from ..paths import find_told
from ..quantities import percent, prompt_form
from .setup import UsageError, set_up, with_models

if TYPE_CHECKING:
    import argparse

_OWN, _FAINT, _RESET, _CLEAR_LINE = "\x1b[33m", "\x1b[2m", "\x1b[0m", "\r\x1b[K"
_LONGEST_FORM = 1 << 20
"""Bytes of the longest grammar or JSON schema."""
_LONGEST_PROMPT = 2 << 20
"""Bytes of the longest prompt from a pipe."""
_SHORT = 0.5
"""Seconds of a wait that is not worth a status line."""
_FIGURES = (
    *("rounds", "drafted", "accepted", "looked_up", "prompt_tokens"),
    *("tokens_per_second", "time_to_first_token", "speed_up"),
)
"""The values of `Statistics` that the JSON has too."""


def run(arguments: argparse.Namespace) -> int:
    """Answer the question in `arguments` and return the exit code. Raises `UsageError` or `EngineError`."""
    prompt = read_prompt(arguments.prompt, sys.stdin)
    if not prompt.strip():
        raise UsageError('nothing to ask; for example: outrider ask "What is a draft model?"')
    grammar, json_schema = read_form(arguments.grammar), read_form(arguments.json_schema)
    setup = set_up(arguments)
    for problem in setup.problems:
        _remark(str(problem))
    settings = with_options(setup.settings, arguments)
    seed = settings.generation.seed if settings.generation.seed >= 0 else secrets.randbits(32)
    question = generate_request(1, _messages(settings, prompt), seed, settings.generation)
    question = structs.replace(
        question,
        sampling=structs.replace(question.sampling, logit_bias=_logit_bias(arguments)),
        raw=arguments.raw,
        ignore_eos=arguments.ignore_eos,
        grammar=grammar,
        json_schema=json_schema,
    )
    output = _output(arguments, question, os.environ)
    asyncio.run(_answer(setup.client(), settings, question, output))
    return 0


def read_prompt(words: Sequence[str], source: TextIO | None) -> str:
    """Return the prompt: the words of the command line, the piped text, or both with an empty line between.

    Reads at most one byte more than the longest prompt. Raises `UsageError` if it is too long.
    """
    piped = ""
    if source is not None and not source.isatty():
        data = source.buffer.read(_LONGEST_PROMPT + 1)
        if len(data) > _LONGEST_PROMPT:
            raise UsageError(
                f"the piped text is longer than {_LONGEST_PROMPT >> 20} MiB: no context holds that"
            )
        piped = data.decode("utf-8", "replace").strip("\n")
    return "\n\n".join(part for part in (" ".join(map(_argument, words)), piped) if part)


def read_form(path: Path | None) -> str:
    """Return the text of a grammar or a JSON schema from a file. Raises `UsageError`."""
    if path is None:
        return ""
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST_FORM + 1)
        if len(data) > _LONGEST_FORM:
            raise UsageError(f"{path}: longer than {_LONGEST_FORM >> 20} MiB")
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"{path}: not UTF-8 text") from None
    if not text.strip():
        raise UsageError(f"{path}: empty")
    return text


def _argument(text: str) -> str:
    """Return an argument as UTF-8, also if the locale is not UTF-8 and Python could not decode it."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return os.fsencode(text).decode("utf-8", "replace")


def with_options(settings: Settings, arguments: argparse.Namespace) -> Settings:
    """Return `settings` with the options of the command line."""
    options = vars(arguments)
    names = ("seed", "draft_length", "max_tokens", "thinking", "effort", *SAMPLING)
    given: dict[str, Any] = {name: options[name] for name in names if options[name] is not None}
    if arguments.system is not None:
        given["system_prompt"] = _argument(arguments.system)
    if arguments.stop:
        given["stop"] = tuple(map(_argument, arguments.stop))
    settings = with_models(settings, arguments.main, arguments.draft, arguments.backend, arguments.exact)
    return replace(settings, generation=replace(settings.generation, **given))


def _logit_bias(arguments: argparse.Namespace) -> tuple[tuple[int | str, float | None], ...]:
    given = arguments.logit_bias or ()
    return tuple((_argument(token) if isinstance(token, str) else token, bias) for token, bias in given)


def _messages(settings: Settings, prompt: str) -> tuple[protocol.Message, ...]:
    system = settings.generation.system_prompt
    return (*((protocol.Message("system", system),) if system else ()), protocol.Message("user", prompt))


async def _answer(
    client: EngineClient, settings: Settings, question: protocol.Generate, output: Output
) -> None:
    """Start an engine, ask, and end the engine in any case."""
    async with running(client):
        try:
            loaded = await client.load(load_request(settings), output.loading)
            if loaded.obstacle:
                _remark(f"no draft: {clean_line(loaded.obstacle.text, 500)}")
            for notice in worker_notices(loaded.workers, find_told()):
                _remark(clean_line(notice, 500))
            if not question.raw and (form := prompt_form(loaded.main)):
                _remark(form)
            async for event in client.generate(question):
                output.show(event)
            output.finish(loaded)
        finally:
            output.end()


def _output(arguments: argparse.Namespace, question: protocol.Generate, environ: Mapping[str, str]) -> Output:
    status, target = _Status(sys.stderr), cast(io.TextIOWrapper, sys.stdout)
    if arguments.json:
        return _Json(target, status, question.seed)
    if not target.isatty():
        target.reconfigure(encoding="utf-8", errors="replace")
        return Output(target, status)
    target.reconfigure(errors="replace")
    color = not (arguments.no_color or environ.get("NO_COLOR") or environ.get("TERM", "dumb") == "dumb")
    return _Terminal(target, status, color, question.seed)


class Output:
    """Prints the text as it arrives, exactly as the model wrote it."""

    def __init__(self, target: TextIO, status: _Status) -> None:
        self._target = target
        self._status = status
        self._finished: protocol.Finished | None = None
        self._obstacle: protocol.Obstacle | None = None
        """Why nothing was drafted; None if something was."""
        self._line_open = False

    def loading(self, event: protocol.Loading) -> None:
        self._status.show(clean_line(event.stage), event.fraction)

    def show(self, event: AnswerEvent) -> None:
        if isinstance(event, protocol.Prefill):
            self._status.show("Reading the prompt", event.done / max(event.total, 1))
        elif isinstance(event, protocol.TextRound):
            self._status.clear()
            self._round(event)
        elif isinstance(event, protocol.Notice):
            self._status.clear()
            _remark(clean_line(event.message, 500))
        elif isinstance(event, protocol.NotDrafting):
            self._obstacle = event.obstacle
        elif isinstance(event, protocol.Finished):
            self._finished = event

    def finish(self, loaded: protocol.Loaded) -> None:
        """The answer is complete."""
        self.end()
        if self._finished is not None and self._finished.reason == "context":
            _remark("the context is full; the answer is cut there")

    def end(self) -> None:
        """No more text comes, complete or not. May be called again."""
        self._status.clear()
        if self._line_open:
            self._write("\n")
        self._target.flush()

    def _round(self, event: protocol.TextRound) -> None:
        for text, origin in event.pieces:
            if origin != protocol.Origin.REJECTED:
                self._piece(text, origin)
        self._target.flush()

    def _piece(self, text: str, origin: int) -> None:
        self._write(text)

    def _write(self, text: str) -> None:
        if text:
            self._target.write(text)
            self._line_open = not text.endswith("\n")


class _Terminal(Output):
    """Prints cleaned text, with the main model's own tokens in color and the figures at the end."""

    def __init__(self, target: TextIO, status: _Status, color: bool, seed: int) -> None:
        super().__init__(target, status)
        self._color = color
        self._seed = seed
        self._own = False
        self._before = ""
        self._held = ""

    def finish(self, loaded: protocol.Loaded) -> None:
        super().finish(loaded)
        if self._finished is not None and self._status.visible:
            figures = _figures(self._finished.statistics, self._seed, self._obstacle)
            _remark(f"{_FAINT}{figures}{_RESET}" if self._color else figures, name="")

    def end(self) -> None:
        self._write(clean(self._held))
        self._held = ""
        self._paint(own=False)
        super().end()

    def _piece(self, text: str, origin: int) -> None:
        self._paint(origin == protocol.Origin.MAIN)
        text, self._held = clean_next(self._before, self._held + text)
        self._before = text[-1:] or self._before
        self._write(text)

    def _paint(self, own: bool) -> None:
        if self._color and own != self._own:
            self._target.write(_OWN if own else _RESET)
            self._own = own


class _Json(Output):
    """Prints one object with everything about the complete answer. ASCII, which every terminal can show."""

    def __init__(self, target: TextIO, status: _Status, seed: int) -> None:
        super().__init__(target, status)
        self._seed = seed
        self._text: list[str] = []
        self._tokens: list[int] = []

    def finish(self, loaded: protocol.Loaded) -> None:
        super().finish(loaded)
        if self._finished is None:
            return
        answer = {
            "text": "".join(self._text),
            "seed": self._seed,
            "token_ids": self._tokens,
            **{name: getattr(self._finished.statistics, name) for name in _FIGURES},
            "main": loaded.main.name,
            "draft": loaded.draft.name if loaded.draft else None,
            "backend": loaded.backend,
            "device": loaded.device,
            "reason": self._finished.reason,
            "not_drafting": self._obstacle.text if self._obstacle else None,
        }
        self._target.write(json.dumps(answer) + "\n")
        self._target.flush()

    def _round(self, event: protocol.TextRound) -> None:
        super()._round(event)
        self._tokens += event.tokens

    def _piece(self, text: str, origin: int) -> None:
        self._text.append(text)


class _Status:
    """One status line on stderr during a wait. It appears only on a terminal, and not for short waits."""

    def __init__(self, target: TextIO) -> None:
        self.visible = target.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._target = target
        self._since = monotonic()
        self._shown = False

    def show(self, what: str, fraction: float | None) -> None:
        if self.visible and monotonic() - self._since > _SHORT:
            share = "" if fraction is None else f" {percent(fraction)}"
            self._target.write(f"{_CLEAR_LINE}{what}{share}")
            self._target.flush()
            self._shown = True

    def clear(self) -> None:
        if self._shown:
            self._target.write(_CLEAR_LINE)
            self._target.flush()
            self._shown = False


def _figures(cost: protocol.Statistics, seed: int, obstacle: protocol.Obstacle | None) -> str:
    parts = [finished("stop", cost)]
    if obstacle and not cost.drafted:
        parts.append(f"no drafts: {obstacle.brief}")
    return " · ".join([*parts, f"seed {seed}"])


def _remark(text: str, name: str = "outrider: ") -> None:
    print(f"{name}{text}", file=sys.stderr)
