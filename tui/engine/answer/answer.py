"""One answer: a conversation in, rounds of text out.

It uses the part of the prompt that the caches hold already, keeps the draft's failures away from the answer,
and counts the costs. It loads nothing and reads no command.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Sequence
from time import perf_counter

from msgspec import structs

from ... import protocol
from ...choices import AUTO, DraftLength
from ...protocol.pieces import origin_at
from ..backends import GivenUp, LoadedModel, ModelError, asking
from ..eligibility import failed_draft, short_draft
from ..pair.pair import Pair
from ..pair.reading import cut, shared
from ..speculation.loop import NoValidToken, Proposer, Round, generate
from ..speculation.proposers import DraftModel, ProposersInTurn
from ..speculation.sampling import InvalidLogits, Sampler
from ..states.saved_chats import SavedChats
from .prompt import continues, encoded, opening_of
from .proposing import FallibleDraft, OverridableLength
from .request import bias_of, chain_of, check, grammar_of
from .templates import TemplateRenderer, puts_space, turn_marks
from .text import Piece, TextStream, readable

Send = Callable[[protocol.Event], None]
Cancelled = Callable[[], bool]

_DIGITS = 5
"""Digits of seconds in an event: more would be noise."""
_DEAD_END = "no token of this model may follow here"
_TOO_COMPLEX = "the grammar is too complex to be followed here"


class Answer:
    """Answers one `Generate` with the models of a pair. Use once."""

    def __init__(
        self, pair: Pair, command: protocol.Generate, send: Send, cancelled: Cancelled,
        draft_length: Callable[[], DraftLength] | None = None, clock: Callable[[], float] = perf_counter,
        chats: SavedChats | None = None,
    ) -> None:  # fmt: skip
        """`cancelled` is called between two rounds, and between two chunks of the prompt.

        `draft_length` is called for each round, because the draft length can change during the answer.
        `chats` has the caches that were saved; None for none.
        """
        self._pair = pair
        self._chats = None if command.fresh else chats
        self._main = pair.main
        self._command = command
        self._send = send
        self._cancelled = cancelled
        self._draft_length = draft_length or (lambda: command.draft_length)
        self._clock = clock
        self._started = self._shown = clock()
        """Times of its beginning, and of the end of its last round."""
        vocabulary = pair.main.vocabulary
        self._marks = () if command.raw or command.ignore_eos else turn_marks(vocabulary)
        ends = vocabulary.end_tokens.union(*map(vocabulary.encode, self._marks))
        self._end_tokens = frozenset() if command.ignore_eos else ends
        self._bias: dict[int, float] = {}
        self._grammar = ""
        self._opening = ""
        self._first = 0
        """The index of the answer's first token in the context."""
        self._stays = 0
        """Tokens of the prompt that the next prompt will share; 0 if no model needs the number."""
        self._obstacle = pair.obstacle
        """Why this answer has no draft model; None if it has one, or if nobody asked for one."""
        self._told: protocol.Obstacle | None = None
        """The reason that the app knows."""
        self._text = TextStream(vocabulary.piece)
        self._cost = protocol.Statistics()
        """The figures so far."""
        self._read, self._read_at = 0, self._started
        """Tokens of the prompt that were read, and the time of that."""

    def run(self, templates: TemplateRenderer) -> protocol.Finished:
        """Send the events of the whole answer. Returns the last event.

        Raises `ModelError` or `InvalidLogits` of the main model. The caches must be cleared then.
        """
        check(self._command, self._main)
        self._bias = bias_of(self._command, self._main)
        self._grammar = grammar_of(self._command)
        if self._command.fresh:
            self._pair.clear()
        try:
            prompt = encoded(self._command, self._pair, templates, self._cancelled, self._tell)
        except GivenUp:
            return self._finish("cancelled", ())
        context = list(prompt.tokens)
        self._first, self._stays = len(context), prompt.stays
        self._open(context)
        self._resume(context)
        sampler = self._sampler(self._main)
        self._reuse(context, prompt.answers)
        self._main.start(sampler)
        self._start_crew()
        read = self._pair.reader.read(context, self._cancelled, self._progress)
        reason: protocol.Reason = "stop" if self._text.stopped else "cancelled"
        try:
            if read and not self._text.stopped and not self._cancelled():
                with asking(self._pair.models, lambda tokens: not self._cancelled()):
                    reason = self._generate(context)
        except GivenUp:
            reason = "cancelled"
        except NoValidToken:
            fault = _TOO_COMPLEX if sampler.met_limit else _DEAD_END
            raise ModelError(fault, "Change the grammar, the schema or the logit bias.") from None
        return self._finish(reason, context)

    def _reuse(self, context: Sequence[int], answers: Sequence[range]) -> None:
        """Cut the caches to the part of `context` that they hold, after loading a saved one if that is
        longer. `answers` are the ranges of the earlier answers."""
        reader = self._pair.reader
        restored = self._chats.wake(context, answers, self._first, self._cancelled) if self._chats else 0
        reused = reader.begin(context, answers, self._first, self._stays)
        self._cost = structs.replace(
            self._cost, prompt_tokens=len(context), prompt_reused=reused, prompt_restored=restored
        )
        if unread := len(context) - 1 - reused:
            self._progress(0, unread)

    def _tell(self, notice: str) -> None:
        self._send(protocol.Notice(self._command.id, notice))

    def _open(self, context: Sequence[int]) -> None:
        """Prepare for the text, whose beginning the template may have written."""
        command, vocabulary = self._command, self._main.vocabulary
        opening = opening_of(structs.replace(command, resume=()), self._main, context)
        self._opening = "" if command.resume else opening
        ends = [text for text in command.stop if text in vocabulary.control_texts]
        self._text = TextStream(
            readable(vocabulary, command.stop),
            [text for text in command.stop if text not in ends],
            (*ends, *self._marks),
            opening,
            spaced=not continues(command, vocabulary) and puts_space(vocabulary),
        )

    def _resume(self, context: list[int]) -> None:
        """Put the existing tokens of the answer after the prompt. The app has their text already."""
        context += self._command.resume
        if len(context) > self._main.capacity:
            raise ModelError("there is no room for more of this answer", "Load with a longer context.")
        for token in self._command.resume:
            self._text.feed(token, protocol.Origin.PLAIN)

    def _sampler(self, model: LoadedModel) -> Sampler:
        chain = chain_of(self._command, self._bias, model)
        constraint = self._main.constraint(self._grammar) if self._grammar else None
        confident = model is not self._main
        return Sampler(chain, self._command.seed, self._first, confident=confident, constraint=constraint)

    def _progress(self, done: int, total: int) -> None:
        self._send(protocol.Prefill(self._command.id, done, total))
        now = self._clock()
        if done > self._read:
            self._pace_threads(done - self._read, now - self._read_at)
        self._read, self._read_at = done, now

    def _start_crew(self) -> None:
        if crew := self._pair.crew:
            crew.start()
            if crew.count < crew.most:
                self._send(protocol.Busy(self._command.id, crew.count, crew.most))

    def _pace_threads(self, rows: int, seconds: float) -> None:
        """Note that the main model has computed so many rows, and choose its threads for the next ones."""
        crew = self._pair.crew
        if crew and crew.passed(rows, seconds):
            self._send(protocol.Busy(self._command.id, crew.count, crew.most))

    def _proposer(self, context: list[int]) -> Proposer:
        """Return the proposers. A draft model reads the prompt later, when the policy wants it: nothing waits
        for it."""
        proposers: list[Proposer] = []
        if self._command.lookup and self._pair.lookup:
            proposers.append(self._pair.lookup)
        draft = self._pair.draft
        if draft is None:
            return ProposersInTurn(*proposers)
        if len(context) > draft.capacity:
            self._drop_draft(short_draft(draft.capacity))
            return ProposersInTurn(*proposers)
        try:
            draft.checkpoint(self._stays)
            cut(draft, shared(draft, context))
            draft.start(self._sampler(draft))
        except (ModelError, InvalidLogits) as error:
            self._drop_draft(failed_draft(error))
            return ProposersInTurn(*proposers)
        model = DraftModel(draft, self._end_tokens)
        return ProposersInTurn(*proposers, FallibleDraft(model, self._main.vocabulary.size, self._drop_draft))

    def _drop_draft(self, obstacle: protocol.Obstacle) -> None:
        self._obstacle = obstacle
        self._tell(f"This answer goes on without the draft model: {obstacle.text}.")
        if self._pair.draft:
            self._pair.draft.rewind(0)

    def _generate(self, context: list[int]) -> protocol.Reason:
        unlimited = self._main.capacity + 1
        limit = self._command.max_tokens or unlimited
        rounds = generate(
            self._main,
            self._proposer(context),
            context,
            policy=OverridableLength(self._draft_length, self._pair.policy, self._pair.longest_draft),
            end_tokens=self._end_tokens,
            max_tokens=limit,
        )
        self._shown = self._clock()
        limit += len(context)
        for happened in rounds:
            reason = self._reason_to_end(context, limit)
            reason = self._show(happened, context, reason)
            self._tell_why_plain()
            if reason:
                return reason
            if self._cancelled():
                return "cancelled"
            self._wake_draft(context)
            self._pace_threads(len(happened.drafted) + 1, happened.verify_seconds)
        return "context"

    def _wake_draft(self, context: Sequence[int]) -> None:
        """Load the saved cache of the draft model, once. The first token has not waited for it."""
        chats, draft, self._chats = self._chats, self._pair.draft, None
        if chats and draft and len(context) <= draft.capacity and chats.wake_draft(context, self._cancelled):
            cut(draft, shared(draft, context))

    def _tell_why_plain(self) -> None:
        """Send the reason why nothing was drafted so far, if it has changed."""
        if (obstacle := self._why_plain()) != self._told:
            self._told = obstacle
            self._send(protocol.NotDrafting(self._command.id, obstacle))

    def _why_plain(self) -> protocol.Obstacle | None:
        """Return that reason; None if something was drafted, or if the person wants no drafts."""
        if self._cost.drafted or self._draft_length() != AUTO:
            return None
        looks_up = self._command.lookup and self._pair.lookup is not None
        waits = self._pair.why_idle if self._pair.draft or looks_up else None
        return self._obstacle or waits

    def _reason_to_end(self, context: list[int], limit: int) -> protocol.Reason | None:
        if context[-1] in self._end_tokens:
            return "stop"
        if len(context) >= limit:
            return "length"
        return "context" if len(context) > self._main.capacity else None

    def _show(
        self, happened: Round, context: list[int], reason: protocol.Reason | None
    ) -> protocol.Reason | None:
        """Send one round. Returns the reason to end, which may be a stop string in its text."""
        pieces, tokens = self._pieces(happened)
        if self._opening:
            pieces.insert(0, Piece(self._opening, protocol.Origin.PLAIN))
            self._opening = ""
        if self._text.stopped:
            reason = "stop"
        elif reason:
            pieces += self._text.flush()
        now = self._clock()
        seconds, self._shown = now - self._shown, now
        told = protocol.TextRound(
            tuple((text, int(origin)) for text, origin in pieces),
            tokens,
            len(happened.drafted),
            happened.looked_up,
            happened.accepted,
            seconds,
            happened.draft_seconds,
            happened.verify_seconds,
            len(context),
            self._plain_seconds(happened, seconds, len(tokens)),
        )
        self._cost = self._cost.plus(told)
        if self._cost.time_to_first_token is None:
            self._cost = structs.replace(self._cost, time_to_first_token=now - self._started)
        self._send(protocol.Rounds(self._command.id, (_rounded(told),)))
        return reason

    def _plain_seconds(self, happened: Round, seconds: float, tokens: int) -> float | None:
        """Return the plain decoding time of the first `tokens` tokens of a round that took `seconds`.

        It includes the time between two rounds, which plain decoding would have needed too.
        """
        plain = self._pair.plain_seconds(happened)
        if plain is None:
            return None
        return plain * tokens / max(1, len(happened.tokens)) + max(0.0, seconds - happened.seconds)

    def _pieces(self, happened: Round) -> tuple[list[Piece], tuple[int, ...]]:
        """Return the text of a round, and its tokens up to the one that completes a stop string."""
        pieces: list[Piece] = []
        for index, token in enumerate(happened.tokens):
            if index == happened.accepted and happened.drafted:
                pieces += self._text.rejected(happened.drafted[index:])
            pieces += self._text.feed(token, self._origin(happened, index))
            if self._text.stopped:
                return pieces, happened.tokens[: index + 1]
        return pieces, happened.tokens

    def _origin(self, happened: Round, index: int) -> protocol.Origin:
        draft = self._pair.draft
        return origin_at(
            index,
            drafted=len(happened.drafted),
            looked_up=happened.looked_up,
            accepted=happened.accepted,
            by=protocol.Origin.HEAD if draft and draft.facts.is_head else protocol.Origin.DRAFT,
        )

    def _finish(self, reason: protocol.Reason, context: Sequence[int]) -> protocol.Finished:
        done = self._cost
        speed = done.tokens / done.seconds if done.tokens > 1 and done.seconds else None
        done = structs.replace(
            done,
            tokens_per_second=speed,
            context_used=len(context),
            peak_memory=peak_memory(),
            rounding=self._pair.rounding,
        )
        finished = protocol.Finished(self._command.id, reason, done)
        self._send(finished)
        self._pair.remember()
        if self._pair.crew:
            self._pair.crew.rest()
        return finished


def _rounded(told: protocol.TextRound) -> protocol.TextRound:
    names = ("seconds", "draft_seconds", "verify_seconds", "plain_seconds")
    known = {name: value for name in names if (value := getattr(told, name)) is not None}
    return structs.replace(told, **{name: round(value, _DIGITS) for name, value in known.items()})


def peak_memory() -> int:
    """Return the most bytes that this process has held."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # macOS counts bytes, Linux kilobytes
