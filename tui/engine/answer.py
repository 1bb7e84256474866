"""One answer: a conversation in, rounds of text out.

Reuses whatever of the prompt is in the caches already, keeps the draft's failures away from the answer,
and counts what it all cost. It loads nothing and reads no command.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from math import inf
from time import perf_counter

from .. import protocol
from ..protocol import Event, Finished, Generate, Notice, Origin, Prefill, Reason, Statistics
from .backends import LoadedModel, ModelError
from .pair import Pair
from .speculation.loop import Proposer, Round, generate, prefill
from .speculation.proposers import DraftModel, Nobody
from .speculation.sampling import Chain, InvalidLogits, Sampler
from .templates import TemplateRenderer, encode_conversation
from .text import Piece, TextStream

MOST_DRAFTED = 16
PREFILL_CHUNK = 512
_CHARACTERS_PER_TOKEN = 16
"""A prompt with more characters than this, for each token of the context, is not even encoded."""

_BOUNDS = {
    "temperature": (0, 100),
    "top_k": (0, 2**31),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "repeat_penalty": (0.01, 100),
    "presence_penalty": (-100, 100),
    "frequency_penalty": (-100, 100),
    "penalty_last_n": (0, 2**31),
}

_NO_ROUND = Round((), 0, None, 0.0, 0.0, 0.0)
"""What text that was held back is sent with when no round brought it."""

Send = Callable[[Event], None]
Cancelled = Callable[[], bool]


class Answer:
    """Answers one `Generate` with the models of a pair. Use once."""

    def __init__(
        self, pair: Pair, command: Generate, send: Send, cancelled: Cancelled,
        clock: Callable[[], float] = perf_counter,
    ) -> None:  # fmt: skip
        """`cancelled` is asked between two rounds, and between two chunks of the prompt."""
        self._pair = pair
        self._main = pair.main
        self._command = command
        self._send = send
        self._cancelled = cancelled
        self._clock = clock
        self._started = clock()
        ends = pair.main.vocabulary.end_tokens
        self._end_tokens = frozenset() if command.ignore_eos else ends
        self._bias = dict.fromkeys(ends, -inf) if command.ignore_eos else {}
        self._text = TextStream(pair.main.vocabulary.piece, command.stop)
        self._statistics = Statistics(plain_tokens_per_second=pair.plain_tokens_per_second)

    def run(self, templates: TemplateRenderer) -> None:
        """Send the events of the whole answer. Raises `ModelError` or `InvalidLogits` of the main model.

        After an error the caches may hold anything: clear them.
        """
        check(self._command)
        context = self._prompt(templates)
        reused = reuse(self._main, context)
        self._note(prompt_tokens=len(context), prompt_reused=reused)
        if unread := len(context) - 1 - reused:
            self._progress(0, unread)
        self._main.start(self._sampler(len(context)))
        proposer = self._proposer(context) if self._read(self._main, context, self._progress) else None
        if proposer is None or self._cancelled():
            self._finish("cancelled", context)
            return
        self._finish(self._generate(proposer, context), context)

    def _prompt(self, templates: TemplateRenderer) -> list[int]:
        """The context up to the first token of the answer, in a size that the cache can hold."""
        vocabulary, messages = self._main.vocabulary, self._command.messages
        capacity = self._main.capacity
        limit = _CHARACTERS_PER_TOKEN * capacity + 10_000
        length = sum(len(message.content) for message in messages)
        hint = "Shorten it, start a new chat, or load with a longer context."
        if length > limit:
            raise ModelError(f"the prompt has {length} characters; the context holds {capacity} tokens", hint)
        if self._command.raw:
            context = vocabulary.encode(messages[-1].content)
            start = vocabulary.encode_start()
            context = context if context[: len(start)] == start else start + context
        else:
            context = encode_conversation(vocabulary, templates, messages, limit)
        if not context:
            raise ModelError("the prompt is empty", "Type something.")
        if len(context) > capacity:
            raise ModelError(f"the prompt has {len(context)} tokens; the context holds {capacity}", hint)
        return context

    def _sampler(self, start: int) -> Sampler:
        return Sampler(Chain(**asdict(self._command.sampling), bias=self._bias), self._command.seed, start)

    def _read(self, model: LoadedModel, context: list[int], progress: Callable[[int, int], None]) -> bool:
        return prefill(model, context, chunk=PREFILL_CHUNK, cancelled=self._cancelled, progress=progress)

    def _progress(self, done: int, total: int) -> None:
        self._send(Prefill(self._command.id, done, total))

    def _proposer(self, context: list[int]) -> Proposer | None:
        """Who rides ahead, with the prompt read; None if the answer was cancelled meanwhile."""
        draft = self._pair.draft
        if draft is None or not self._command.draft_length:
            return Nobody()
        if len(context) > draft.capacity:
            self._drop_draft(f"its context holds only {draft.capacity} tokens")
            return Nobody()
        try:
            reuse(draft, context)
            draft.start(self._sampler(len(context)))
            if not self._read(draft, context, lambda done, total: None):
                return None
        except (ModelError, InvalidLogits) as error:
            self._drop_draft(str(error))
            return Nobody()
        return FallibleDraft(
            DraftModel(draft, self._end_tokens), self._main.vocabulary_size, self._drop_draft
        )

    def _drop_draft(self, reason: str) -> None:
        self._send(Notice(self._command.id, f"This answer goes on without the draft model: {reason}."))
        if self._pair.draft:
            self._pair.draft.rewind(0)

    def _generate(self, proposer: Proposer, context: list[int]) -> Reason:
        unlimited = self._main.capacity + 1
        limit = self._command.max_tokens or unlimited
        rounds = generate(
            self._main,
            proposer,
            context,
            draft_length=lambda: self._command.draft_length,
            end_tokens=self._end_tokens,
            max_tokens=limit,
        )
        started = self._clock()
        limit += len(context)
        for happened in rounds:
            reason = self._reason_to_end(context, limit)
            reason = self._show(happened, context, reason, started)
            if reason:
                return reason
            if self._cancelled():
                return "cancelled"
        return "context"

    def _reason_to_end(self, context: list[int], limit: int) -> Reason | None:
        if context[-1] in self._end_tokens:
            return "stop"
        if len(context) >= limit:
            return "length"
        return "context" if len(context) > self._main.capacity else None

    def _show(
        self, happened: Round, context: list[int], reason: Reason | None, started: float
    ) -> Reason | None:
        """Send one round. The reason to end, which may be a stop string in its text."""
        pieces, tokens = self._pieces(happened)
        if self._text.stopped:
            reason = "stop"
        elif reason:
            pieces += self._text.flush()
        now, before = self._clock(), self._statistics
        if before.time_to_first_token is None:
            self._note(time_to_first_token=now - self._started)
        self._note(
            tokens=before.tokens + len(tokens),
            rounds=before.rounds + 1,
            drafted=before.drafted + len(happened.drafted),
            accepted=before.accepted + happened.accepted,
            seconds=now - started,
            draft_seconds=before.draft_seconds + happened.draft_seconds,
            verify_seconds=before.verify_seconds + happened.verify_seconds,
        )
        self._send_round(pieces, len(context), tokens, happened)
        return reason

    def _pieces(self, happened: Round) -> tuple[list[Piece], tuple[int, ...]]:
        """The text of a round, and its tokens up to the one that completes a stop string."""
        pieces: list[Piece] = []
        for index, token in enumerate(happened.tokens):
            if index == happened.accepted and happened.drafted:
                pieces += self._text.refused(happened.drafted[index:])
            origin = Origin.DRAFT if index < happened.accepted else Origin.MAIN
            pieces += self._text.feed(token, origin if happened.drafted else Origin.PLAIN)
            if self._text.stopped:
                return pieces, happened.tokens[: index + 1]
        return pieces, happened.tokens

    def _send_round(
        self, pieces: Sequence[Piece], context_used: int, tokens: tuple[int, ...] = (),
        happened: Round = _NO_ROUND,
    ) -> None:  # fmt: skip
        self._send(
            protocol.Round(
                self._command.id,
                tuple((text, int(origin)) for text, origin in pieces),
                tokens,
                len(happened.drafted),
                happened.accepted,
                happened.seconds,
                happened.draft_seconds,
                happened.verify_seconds,
                context_used,
            )
        )

    def _finish(self, reason: Reason, context: list[int]) -> None:
        if reason == "cancelled" and (pieces := self._text.flush()):
            self._send_round(pieces, len(context))
        done = self._statistics
        speed = done.tokens / done.seconds if done.tokens > 1 and done.seconds else None
        self._note(tokens_per_second=speed, context_used=len(context))
        self._send(Finished(self._command.id, reason, self._statistics))

    def _note(self, **changes: float | None) -> None:
        self._statistics = replace(self._statistics, **changes)  # type: ignore[arg-type]


class FallibleDraft:
    """A proposer that may fail at any time: from then on it proposes nothing."""

    def __init__(self, draft: DraftModel, vocabulary: int, failed: Callable[[str], None]) -> None:
        """`failed` is told why, once. Tokens from `vocabulary` on are none of the main model's."""
        self._draft: Proposer = draft
        self._vocabulary = vocabulary
        self._failed = failed

    def propose(self, context: Sequence[int], length: int) -> list[int]:
        try:
            drafted = self._draft.propose(context, length)
        except (ModelError, InvalidLogits) as error:
            self._draft = Nobody()
            self._failed(str(error))
            return []
        foreign = (i for i, token in enumerate(drafted) if not 0 <= token < self._vocabulary)
        return drafted[: next(foreign, length)]

    def settle(self, context: Sequence[int]) -> None:
        self._draft.settle(context)


def reuse(model: LoadedModel, context: Sequence[int]) -> int:
    """Cut the cache back to what it shares with `context`, its last token excepted; how many that are."""
    common = 0
    for cached, wanted in zip(model.tokens, context[:-1], strict=False):
        if cached != wanted:
            break
        common += 1
    if common < model.length and not model.can_rewind:
        common = 0  # it would compute them all again, without progress and deaf to a cancel
    model.rewind(common)
    return common


def check(command: Generate) -> None:
    """Raises `ModelError` for settings that make no sense."""
    if not command.messages:
        raise ModelError("there is no message to answer")
    if not 0 <= command.draft_length <= MOST_DRAFTED:
        raise ModelError(f"the draft length must be 0 to {MOST_DRAFTED}, not {command.draft_length}")
    if command.max_tokens < 0:
        raise ModelError(f"max_tokens must be 0 or more, not {command.max_tokens}")
    for name, value in asdict(command.sampling).items():
        low, high = _BOUNDS[name]
        if not low <= value <= high:
            raise ModelError(f"{name.replace('_', '-')} must be {low} to {high}, not {value}")
