"""Models that recite a script: for tests that need exact results, for benchmarks and for recordings.

The engine finds them by the variable `OUTRIDER_SCRIPTED`: see `tui.engine.backends.selection`.

`scripted:sample` writes a Markdown sample, `scripted:echo` the text of the last user message, and
`scripted:draft` drafts for either. Options follow a `?`, as in `scripted:sample?rate=400&tokens=5000`.
Everything but the choice of a token is real: the cache, its capacity, rewinding, prefix reuse. There are no
logits, so sampling settings change nothing.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from math import inf
from time import monotonic, sleep
from typing import Any, NoReturn
from urllib.parse import parse_qsl
from zlib import crc32

from tests.support.scripted_sample import SAMPLE
from tui.engine.backends import (
    GivenUp,
    LoadedModel,
    ModelError,
    Options,
    Progress,
    Rewinds,
    Vocabulary,
    check_call,
    prompt_form,
)
from tui.engine.eligibility import NO_HEAD, OTHER_LIBRARY
from tui.engine.library.forms import CHATML
from tui.engine.speculation.loop import Pick
from tui.engine.speculation.sampling import Constraint, Sampler
from tui.protocol import ModelFacts, Obstacle

END, IM_START, IM_END = 0, 2, 3
_CONTROLS = {"<|endoftext|>": END, "<|im_start|>": IM_START, "<|im_end|>": IM_END}
_LONGEST = 6
"""Bytes in a token, at most."""
_GUESSES = (" the", " and", " it", " of", " a", " is", ",", " to")
"""The wrong guesses of a scripted draft."""
_DEATH_TOKEN = 20
"""`die=...&at=round` happens in the first round after this number of tokens of an answer."""


@dataclass(frozen=True)
class Script:
    """The options after the `?`, with their defaults."""

    rate: float = 0.0
    """Calls with picks per second; 0 is as fast as possible. For a main model this is its plain decoding
    speed."""
    prefill: float = 0.0
    """Prompt tokens per second; 0 is as fast as possible."""
    load: float = 0.0
    """Seconds of a load."""
    acceptance: float = 0.8
    """Share of tokens in which the draft agrees, 0 to 1."""
    tokens: int = 0
    """Tokens of the answer, whose text is repeated or cut; 0 is the length of the text."""
    die: str = ""
    """The way to die: segv, abrt, kill, exit0, exit1 or hang."""
    at: str = "round"
    """The time of death: load, prefill, round or idle."""
    form: str = "template"
    """The form of its conversations, as a `PromptForm`: "text" is a base model."""


class ScriptedVocabulary:
    """Implements `backends.Vocabulary`. A token's id is its bytes after a 1, read as a number."""

    size = 2 << (8 * _LONGEST)
    end_tokens: frozenset[int] = frozenset({END, IM_END})
    bos_text = ""
    eos_text = "<|im_end|>"
    control_tokens = frozenset(_CONTROLS.values())

    def __init__(self, form: str) -> None:
        """`form` is a `PromptForm`."""
        self.chat_template = CHATML if form == "template" else None
        self._controls = {"<|endoftext|>": END} if form == "text" else _CONTROLS
        self.control_texts = tuple(self._controls)

    def encode(self, text: str) -> list[int]:
        known = self._controls
        parts = re.split("(" + "|".join(map(re.escape, known)) + ")", text)
        return [token for part in parts for token in ([known[part]] if part in known else plain(part))]

    def encode_start(self) -> list[int]:
        return []

    def piece(self, token: int) -> bytes:
        if token in _CONTROLS.values():
            return next(text.encode() for text, number in _CONTROLS.items() if number == token)
        data = token.to_bytes((token.bit_length() + 7) // 8, "big") if token > 0 else b""
        if not 2 <= len(data) <= _LONGEST + 1 or data[0] != 1:
            raise IndexError(f"token {token} is not in the vocabulary")
        return data[1:]


def plain(text: str) -> list[int]:
    """Return tokens of about four characters, none of them a control token."""
    tokens = []
    for word in re.findall(r" ?\w{1,5}|\s|[^\w\s]{1,3}", text):
        data = word.encode("utf-8", "replace")
        pieces = (data[i : i + _LONGEST] for i in range(0, len(data), _LONGEST))
        tokens += [int.from_bytes(b"\1" + piece, "big") for piece in pieces]
    return tokens


class ScriptedModel:
    """Implements `backends.LoadedModel`. The answer depends only on the prompt and the position in it."""

    rewinds: Rewinds = "anywhere"
    drops_from = 0
    chunk = 512

    def __init__(self, path: str, script: Script, text: str | None, capacity: int) -> None:
        """`text` is its answer; None echoes the last user message."""
        self.capacity = capacity
        self.vocabulary: Vocabulary = ScriptedVocabulary(script.form)
        self.facts = ModelFacts(
            path.partition("?")[0], path, "script", 0, "none", 0, capacity, self.vocabulary.size,
            prompt_form=prompt_form(self.vocabulary),
        )  # fmt: skip
        self.script = script
        self.text = text
        self._tokens: list[int] = []
        self._answer: list[int] | None = None
        self._sampler: Sampler | None = None
        self._due = 0.0

    @property
    def tokens(self) -> Sequence[int]:
        return self._tokens

    @property
    def length(self) -> int:
        return len(self._tokens)

    def start(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._answer = None

    def constraint(self, grammar: str) -> Constraint:
        raise ModelError("a scripted model follows no grammar and no JSON schema", "Choose another model.")

    def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]:
        check_call(self, tokens, picks, len(tokens))
        for token in tokens:
            self.vocabulary.piece(token)
        self._pace(len(tokens), picks)
        self._tokens += tokens
        if not picks:
            self._die_at("prefill")
        return [self._pick(length) for length in range(self.length - picks + 1, self.length + 1)]

    def rewind(self, length: int) -> None:
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot rewind {self.length} tokens to {length}")
        del self._tokens[length:]

    def reach(self, length: int) -> int:
        return min(length, self.length)

    def checkpoint(self, length: int) -> None:
        pass  # it can be cut anywhere

    def close(self) -> None:
        self._tokens = []

    def right(self, length: int) -> Pick:
        """Return the token that follows `self.tokens[:length]` in the script."""
        if self._sampler is None:
            raise ValueError("no sampler to pick with")
        index = length - self._sampler.start
        if self._answer is None:
            self._answer = self._recited(self._tokens[: self._sampler.start])
        total = self.script.tokens or len(self._answer)
        endless = self._sampler.chain.bias.get(END) == -inf
        if not self._answer or (index >= total and not endless):
            return Pick(END, 1.0)
        return Pick(self._answer[index % len(self._answer)], 1.0)

    def _pick(self, length: int) -> Pick:
        assert self._sampler is not None
        if length - self._sampler.start >= _DEATH_TOKEN:
            self._die_at("round")
        return self.right(length)

    def _recited(self, prompt: Sequence[int]) -> list[int]:
        return plain(self.text if self.text is not None else self._last_message(prompt))

    def _last_message(self, prompt: Sequence[int]) -> str:
        """Return the text of the last user message of a ChatML prompt; of another prompt, all of it."""
        text, user = "", plain("user\n")
        for begin, token in enumerate(prompt):
            if token == IM_START and list(prompt[begin + 1 : begin + 1 + len(user)]) == user:
                end = list(prompt).index(IM_END, begin) if IM_END in prompt[begin:] else len(prompt)
                text = self._text(prompt[begin + 1 + len(user) : end])
        return text or self._text(prompt)

    def _text(self, tokens: Sequence[int]) -> str:
        return b"".join(map(self.vocabulary.piece, tokens)).decode("utf-8", "replace")

    def _pace(self, tokens: int, picks: int) -> None:
        """Sleep as long as a real model would compute, without drifting away from the rate."""
        speed, work = (self.script.rate, 1) if picks else (self.script.prefill, tokens)
        if not speed:
            return
        self._due = max(self._due, monotonic() - 0.05) + work / speed
        sleep(max(0.0, self._due - monotonic()))

    def _die_at(self, place: str) -> None:
        if self.script.die and self.script.at == place:
            die(self.script.die)


class ScriptedDraft(ScriptedModel):
    """Writes the token of the main model's script, or another; only the position decides."""

    def _pick(self, length: int) -> Pick:
        right = self.right(length)
        if crc32(length.to_bytes(8, "big")) / 2**32 < self.script.acceptance:
            return right
        guesses = [plain(text)[0] for text in _GUESSES]
        wrong = [guess for guess in guesses if guess != right.token]
        return Pick(wrong[length % len(wrong)], 0.5)


class ScriptedBackend:
    """Implements `backends.Backend`. A draft recites the script of the main model loaded before it."""

    name = "scripted"
    version = ""

    def __init__(self) -> None:
        self._text: str | None = None

    def device(self) -> str:
        return "a script"

    def load(self, path: str, options: Options, progress: Callable[[float], bool]) -> ScriptedModel:
        kind, _, given = path.removeprefix("scripted:").partition("?")
        kinds = ("draft",) if options.role == "draft" else ("sample", "echo")
        if not path.startswith("scripted:") or kind not in kinds:
            raise ModelError(
                f"{path} is not a scripted {options.role} model", f"There is {', '.join(kinds)}."
            )
        script = _options(given)
        for step in range(21):
            sleep(script.load / 20)
            if not progress(step / 20):
                raise GivenUp("the load was given up")
        if script.at == "load":
            die(script.die)
        if script.at == "idle":
            threading.Timer(0.3, die, (script.die,)).start()
        capacity = options.context_length or 8192
        if options.role == "draft":
            return ScriptedDraft(path, script, self._text, capacity)
        self._text = SAMPLE if kind == "sample" else None
        return ScriptedModel(path, script, self._text, capacity)

    def load_head(
        self, main: LoadedModel, options: Options, path: str = "", progress: Progress = lambda share: True
    ) -> Obstacle:
        return NO_HEAD

    def mismatch(self, main: LoadedModel, draft: LoadedModel) -> Obstacle | None:
        return None if isinstance(draft, ScriptedDraft) else OTHER_LIBRARY


def _options(given: str) -> Script:
    kinds: dict[str, Callable[[str], Any]] = {field.name: type(field.default) for field in fields(Script)}
    try:
        pairs = parse_qsl(given, strict_parsing=bool(given))
        return Script(**{name: kinds[name](value) for name, value in pairs})
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"wrong option of a scripted model: {error}", f"There is {', '.join(kinds)}."
        ) from None


def die(how: str) -> NoReturn:
    """End this process as native code would, or stop without ending."""
    signals = {"segv": signal.SIGSEGV, "abrt": signal.SIGABRT, "kill": signal.SIGKILL}
    if how in signals:
        print(f"GGML_ASSERT(scripted death by {how}) failed", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signals[how])
    if how.startswith("exit"):
        os._exit(int(how.removeprefix("exit") or 1))
    while True:
        sleep(3600)
