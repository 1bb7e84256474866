"""A turn: one prompt to one answer. It asks the engine, records the text, and tells a view. It draws nothing.

A prompt without an answer goes back to the text box. The text of a broken answer stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing

from msgspec.structs import replace

from tui import protocol
from tui.client import AnswerEvent, EngineDied, EngineError
from tui.config import Generation
from tui.store.keeper import Keeper

from . import formatting
from .connection import Connection, Phase, Step
from .conversation import Conversation
from .meter import Meter
from .repetition import Repetition
from .requests import TurnRequest, generate_request, limited
from .summary_check import Summary
from .view import ChatView, TranscriptView

TICK = 1.0
"""Seconds between two looks at the meter while an answer comes."""
FLUSH = 0.2
"""Seconds between two writes of an answer. With the write itself, a crash loses a quarter second at most."""
NEARLY_FULL = 0.85
"""Share of the context at which the banner begins to warn."""
NOTHING = "no answer: the prompt is not part of the conversation"


class TurnRunner:
    """The turns of one conversation, one after the other."""

    def __init__(
        self,
        connection: Connection,
        conversation: Conversation,
        keeper: Keeper,
        meter: Meter,
        generation: Callable[[], Generation],
        draw_seed: Callable[[], int],
        view: ChatView,
        transcript: TranscriptView,
    ) -> None:
        """`generation` returns the settings of the next answer; `draw_seed` a seed where they have none."""
        self.tick = TICK
        self._connection = connection
        self._conversation = conversation
        self._keeper = keeper
        self._meter = meter
        self._generation = generation
        self._draw_seed = draw_seed
        self._view = view
        self._transcript = transcript
        self._ids = 0
        """Number of ids that were given out."""
        self.id = 0
        """The id of the last answer."""
        self._busy = ""
        """A sentence while the engine's machine does other work too; else empty."""
        self._repetition = Repetition()
        self._task: asyncio.Task[None] | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._saving: asyncio.TimerHandle | None = None

    def draw_id(self) -> int:
        """Return a new id for a command."""
        self._ids += 1
        return self._ids

    @property
    def fullness(self) -> float:
        """The share of the context that the conversation takes, 0 to 1."""
        used, loaded = self._meter.read().context_used, self._connection.loaded
        return used / loaded.context_length if used and loaded and loaded.context_length else 0.0

    # One answer

    def begin(self, wish: TurnRequest) -> None:
        """Answer `wish` as soon as a suitable pair is loaded."""
        self._connection.take(Step.ASK)
        self._run(self._answer(wish))

    def _run(self, work: Coroutine[object, object, None]) -> None:
        if self._task:
            self._task.cancel()
        self._task = asyncio.create_task(work)

    async def _answer(self, wish: TurnRequest) -> None:
        """Carry the events of one turn to the methods below, which own the state."""
        try:
            await self._keeper.settle()
            # Shielded: stopping the turn must not stop the load.
            if failure := await asyncio.shield(self._connection.load()):
                self._transcript.fail(failure.message, failure.hint)
                self._conversation.close()
                self._transcript.give_back()
                return
            async with aclosing(self._connection.client.generate(self._begin_answer(wish))) as events:
                async for event in events:
                    self.take(event)
        except Exception as error:  # the edge of the turn: no event of an engine ends the chat
            self._break_off(told(error))

    def _begin_answer(self, wish: TurnRequest) -> protocol.Generate:
        generation = self._generation()
        seed = generation.seed if wish.asked.seed is None else wish.asked.seed
        if seed < 0:
            seed = self._draw_seed()
        self._connection.take(Step.BEGIN)
        self._say("reading the prompt")
        self._meter.begin(seed)
        self._busy, self._repetition = "", Repetition()
        self.id = self.draw_id()
        request = generate_request(self.id, wish.messages, seed, generation)
        chat = self._conversation.key if self._keeper.keeps else ""
        request = replace(wish.asked.applied(request), resume=wish.resume, chat=chat)
        request = limited(request, self._connection.loaded)
        if wish.resume:
            self._conversation.go_on()
        else:
            self._conversation.answer(request, self._connection.loaded)
        self._transcript.show_answer()
        return request

    def take(self, event: AnswerEvent) -> None:
        """Take one event of the answer."""
        match event:
            case protocol.Prefill() if self._connection.phase == Phase.READING:
                self._say(formatting.reading(event))
            case protocol.TextRound():
                self._hear(event)
            case protocol.Busy():
                self._busy = formatting.busy(event, self._connection.client.host)
                self._say_answering()
            case protocol.NotDrafting():
                self._meter.hear(event)
            case protocol.Notice():
                self._view.show_notices([event.message])
            case protocol.Finished():
                self._finish(event)

    def _hear(self, event: protocol.TextRound) -> None:
        self._transcript.hear(event)
        self._conversation.hear(event)
        self._meter.add(event)
        loop = asyncio.get_running_loop()
        self._ticking = self._ticking or loop.call_later(self.tick, self._tick)
        self._saving = self._saving or loop.call_later(FLUSH, self._save)
        repeated = self._repetition.found
        self._repetition.add(event.tokens)
        first = self._connection.phase == Phase.READING
        self._connection.take(Step.ROUND)
        if first or (self._repetition.found and not repeated):
            self._say_answering()

    def _finish(self, event: protocol.Finished) -> None:
        self._meter.finish(event.statistics)
        self._view.show_rounding(event.statistics.rounding)
        answered = self._conversation.close(event.reason, event.statistics)
        self._transcript.end_answer(None if answered else NOTHING)
        if not answered:
            self._transcript.give_back()
        self._over("stopped" if event.reason == "cancelled" else "ready")
        if self.fullness >= NEARLY_FULL:
            self._view.show_notices([formatting.nearly_full(self.fullness)])

    def _break_off(self, error: EngineError) -> None:
        """End an answer that broke off. Its text so far stays."""
        self._meter.finish()
        self._transcript.end_answer("")
        self._transcript.fail(error.message, error.hint)
        answered = self._conversation.close()
        if isinstance(error, EngineDied):
            self._connection.fail(error)
        else:
            self._over("ready")
        if not answered:
            self._transcript.give_back()

    def _over(self, words: str) -> None:
        self._connection.take(Step.OVER)
        if self._connection.phase == Phase.READY:  # else another pair is loading
            self._say(words)
        self.show_figures()

    # A summary

    def summarize(self, messages: tuple[protocol.Message, ...], share: float) -> None:
        """Ask for a summary by `messages`, and send it in place of the turns that `leave_out` leaves out."""
        request = generate_request(self.draw_id(), messages, 0, self._generation())
        request = replace(request, max_tokens=0, stop=(), thinking="off")
        self.id = request.id
        self._connection.take(Step.ASK)
        self._say("summing up the oldest turns")
        self._run(self._summarize(request, share))

    async def _summarize(self, request: protocol.Generate, share: float) -> None:
        loaded = self._connection.loaded
        summary, failure = Summary(loaded.context_length if loaded else 0), "stopped"
        try:
            async with aclosing(self._connection.client.generate(request)) as events:
                async for event in events:
                    match event:
                        case protocol.TextRound():
                            await self._hear_summary(summary, event)
                        case protocol.Finished():
                            failure = summary.failure(event.reason)
        except Exception as error:  # the edge of the turn, as above
            fault = told(error)
            self._transcript.fail(fault.message, fault.hint)
            self._over("ready")
            if isinstance(fault, EngineDied):
                self._connection.fail(fault)
            return
        count = 0 if failure else self._transcript.leave_out(share, summary.text)
        if count:
            self._view.show_notices(())
        elif failure != "stopped":
            words = f"There is no summary: {failure}. F5 leaves the oldest turns out without one."
            self._view.tell(words, severity="warning", seconds=10)
        self._over("ready" if count else f"{failure or 'stopped'}: nothing is left out")

    async def _hear_summary(self, summary: Summary, happened: protocol.TextRound) -> None:
        """Take one round of a summary. Stop one that grows too long: a cut summary would hide its gaps."""
        summary.hear(happened)
        if self._connection.phase != Phase.READING:
            return
        if summary.in_vain:
            await self.stop()
        else:
            repeats = f"  it repeats itself: {self._view.stop_key} stops it" if summary.repeats else ""
            self._say(f"summing up the oldest turns  {summary.progress}{repeats}")

    # Its end

    async def stop(self) -> None:
        """Stop the answer or the load."""
        match self._connection.phase:
            case Phase.WAITING:
                if self._task:
                    self._task.cancel()
                self._connection.take(Step.STOP)
                self._transcript.end_prompt("not sent")
                self._conversation.close()
                self._transcript.give_back()
            case Phase.LOADING:
                await self._connection.give_up()
            case Phase.READING | Phase.ANSWERING:
                self._connection.take(Step.STOP)
                self._say("stopping")
                await self._connection.client.cancel(self.id)

    async def end(self) -> None:
        """Stop the answer and wait for its end."""
        if self._connection.busy:
            await self.stop()
            if self._task and not self._task.done():
                await asyncio.wait([self._task])

    def close(self) -> None:
        """Record the answer so far: the app ends."""
        if self._connection.busy:
            self._conversation.close()
        if self._task:
            self._task.cancel()
        for timer in (self._ticking, self._saving):
            if timer:
                timer.cancel()

    # Showing and keeping

    def show_figures(self) -> None:
        """Show the figures of this moment."""
        self._view.show_reading(self._meter.sample(), self._meter.history)
        if self._ticking and self._connection.phase not in (Phase.ANSWERING, Phase.STOPPING):
            self._ticking.cancel()
            self._ticking = None

    def _tick(self) -> None:
        self._ticking = asyncio.get_running_loop().call_later(self.tick, self._tick)
        self.show_figures()

    def _save(self) -> None:
        self._saving = None
        self._conversation.flush()

    def _say(self, words: str) -> None:
        self._view.say(words, self._connection.tone)

    def _say_answering(self) -> None:
        if self._connection.phase != Phase.ANSWERING:
            return
        repeats = (
            f"the answer repeats itself: {self._view.stop_key} stops it" if self._repetition.found else ""
        )
        unusual = repeats or self._busy
        self._view.say(unusual or "answering", "warning" if unusual else "primary")


def told(error: Exception) -> EngineError:
    """Return the error of a turn as a person is told it, also if a fault of Outrider broke the turn off."""
    if isinstance(error, EngineError):
        return error
    return EngineError(f"This answer cannot be shown ({type(error).__name__})", "Ask again, or report it.")
