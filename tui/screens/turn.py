"""The turn: a conversation, the pair that answers it, and the one answer that may be coming.

Prompts come in, events from the engine; both end here as calls on the desk. Typed text is never lost: a
prompt that could not be answered goes back to where it was written, and what was said is kept. It has no
keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Literal

from msgspec import structs
from textual import on, work
from textual.app import ComposeResult
from textual.content import Content
from textual.reactive import reactive
from textual.screen import Screen
from textual.worker import Worker, WorkerCancelled

from tui import protocol
from tui.chat import attachments, wording
from tui.chat.conversation import Conversation
from tui.chat.draft_length import DraftLength
from tui.chat.loading import Loader
from tui.chat.meter import Meter
from tui.chat.opening import Opening
from tui.chat.overrides import ChatOverrides
from tui.chat.repetition import Repetition
from tui.chat.requests import Wish, generate_request, limited, load_request
from tui.clean import clean_line
from tui.client import AnswerEvent, EngineClient, EngineDied, EngineError
from tui.config import Generation, Settings
from tui.store.keeper import Keeper
from tui.widgets.composer import Composer
from tui.widgets.desk import Desk
from tui.widgets.keyline import KeyLine

from .branches import Branches

Phase = Literal["loading", "ready", "waiting", "reading", "answering", "stopping", "ended"]
"""waiting: a prompt waits for the load. reading: the prompt is processed. ended: no engine with a model."""

BUSY = frozenset(("waiting", "reading", "answering", "stopping"))
TONES = {"ready": "$success", "ended": "$error", "stopping": "$warning"}
TICK = 1.0
NEARLY_FULL = 0.85
"""Share of the context from which on it is said that it fills."""
STOPS = ("chat.stop", "read.stop")
"""Names of the action that stops an answer, while one writes and while one reads."""
LONGEST_WAIT = 30.0
"""Seconds between two tries to reach the engine's machine."""
SETTLED = 0.05
"""Seconds after which an answer whose engine is dead has been shown."""
NOTHING = "no answer: the prompt is not part of the conversation"
FLUSH = 0.25
"""Seconds of an answer that may be lost with the machine."""


class TurnScreen(Screen[None]):
    """One conversation and its turn."""

    tick = TICK
    """Seconds between two looks at the meter while an answer comes."""
    phase: reactive[Phase] = reactive[Phase]("loading", repaint=False)

    def __init__(
        self,
        settings: Settings,
        client: EngineClient,
        keeper: Keeper,
        notices: Iterable[str],
        clock: Callable[[], float],
        draw_seed: Callable[[], int],
        recalled: bool = False,
    ) -> None:
        """`keeper` keeps what is said. `notices` stand in the banner at first.

        `draw_seed` makes a seed where none is set. `recalled`: the pair is the one that was chosen last.
        """
        super().__init__()
        self._settings = settings
        self._client = client
        self._keeper = keeper
        self._notices = list(notices)
        self._draw_seed = draw_seed
        self._drafting = DraftLength(settings.generation.draft_length)
        self._conversation = Conversation(record=keeper.add)
        self._clock = clock
        self._meter = Meter(clock)
        self._tries = 0
        """How often the way to the engine's machine was tried since it broke."""
        self._answers = 0
        """Ids that were drawn."""
        self._answering = 0
        """The id of the last answer."""
        self._busy = ""
        """That its machine does other work too, in words; empty while it does not."""
        self._repetition = Repetition()
        self._adjustments = ChatOverrides()
        self._folder = Path.cwd
        self._loader = Loader(client, self._show_progress, self._load_ended)
        self._turn: Worker[None] | None = None
        look = settings.appearance
        self.desk = Desk(1 / look.frames_per_second, look.highlight, look.show_refused, look.sidebar)
        self._opening = Opening(client, self.desk.show_found, recalled=recalled)
        self._branches = Branches(self._conversation, self.desk, keeper)
        self._adjust_conversation()

    def compose(self) -> ComposeResult:
        yield self.desk
        yield KeyLine()

    def on_mount(self) -> None:
        self._show_notices()
        self._show_drafting()
        host = self._client.host
        self._say(f"connecting to {clean_line(host.name)}" if host else "starting the engine")
        self._numbers = self.set_interval(self.tick, self._tick, pause=True)
        self._saving = self.set_interval(FLUSH, self._save, pause=True)
        self._client.on_beat = self._show_link
        self.call_after_refresh(self._load_first)

    def on_unmount(self) -> None:
        """An answer that is coming is kept as far as it came."""
        if self.phase in BUSY:
            self._conversation.close()

    # The pair

    def _load_first(self) -> None:
        # Textual awaits what a callback returns, and no key would be seen before the load is done.
        self._loader.begin(load_request(self._settings))

    def _load_ended(self, loaded: protocol.Loaded | EngineError) -> None:
        if isinstance(loaded, EngineError):
            self._end(loaded)
            return
        self._tries = 0
        self.desk.show_loaded(loaded)
        self._show_drafting()
        form = wording.form(loaded.main) if self._loader.is_new else ""
        said = (wording.refused(loaded), form)
        self._notices += [each for each in said if each and each not in self._notices]
        self._show_notices()
        self._opening.look_around(loaded, load_request(self._settings).folders)
        if self.phase == "loading":
            self.phase = "ready"
        self._say(wording.ready(loaded.main), wording.pair(loaded))

    def _show_progress(self, progress: protocol.Loading) -> None:
        self._say(wording.loading(progress))

    def _end(self, error: EngineError) -> None:
        """There is no engine, or none with a model: say why and what to do."""
        self._loader.loaded = None
        self.phase = "ended"
        self.desk.show_loaded(None)
        self._show_link()
        self._say(error.message)
        if isinstance(error, EngineDied) and error.link:
            self._try_again(error)
        if not self.desk.transcript.messages or self._client.host:
            hint = f"No model is loaded now. {error.hint or 'The next prompt tries again.'}"
            self.desk.show_notices([*self._notices, error.message, hint], error=True)

    def _try_again(self, error: EngineDied) -> None:
        """The way to the engine's machine is broken: try again, after a longer time each time."""
        seconds = min(LONGEST_WAIT, 2**self._tries)
        self._tries += 1
        self._say(f"{error.message}; another try in {seconds:g} s")
        self.set_timer(seconds, self._reconnect)

    def _reconnect(self) -> None:
        if self.phase == "ended":
            self.phase = "loading"
            self._say(f"connecting to {self._client.host.name if self._client.host else 'the engine'}")
            self._loader.begin(load_request(self._settings))

    def engine_died(self, error: EngineDied) -> None:
        """The engine died while nothing waited for it; the next prompt starts a new one."""
        if self._client.state != "dead":
            return
        if self.phase in BUSY:  # the last of an answer is still on its way to the screen
            self.set_timer(SETTLED, partial(self.engine_died, error))
        elif self.phase == "ready":
            self._end(error)

    # A turn

    @on(Composer.Submitted)
    def _submitted(self, event: Composer.Submitted) -> None:
        event.stop()
        self.submit(event.text, event.by_hand)

    def submit(self, text: str, by_hand: str) -> None:
        """Ask `text`, with the files that are named in what of it was typed `by_hand`."""
        if self._refuses(sent=True):
            return
        try:
            files = attachments.files_of(by_hand, self._folder())
        except attachments.NotAttached as error:
            self.notify(clean_line(str(error)), severity="error", markup=False)
            return
        if missing := attachments.missing(by_hand, self._folder()):
            words = clean_line(", ".join(missing))
            self.notify(f"There is no file {words} here: it is sent as text.", timeout=6, markup=False)
        host = self._client.host
        doubtful = [(each.name, each.doubt) for each in files if host or each.doubt]
        if not doubtful:
            self._ask(text, files)
            return
        from .consent import ConsentScreen

        def answered(consent: bool | None) -> None:
            if consent and not self._refuses(sent=True):
                self._ask(text, files)

        self.app.push_screen(ConsentScreen(doubtful, host.name if host else ""), answered)

    def _ask(self, text: str, files: Sequence[attachments.File]) -> None:
        self.desk.composer.accept()
        self._show_extras()
        self._branches.make_room()
        messages = self._conversation.ask(*attachments.with_files(text, files))
        self._branches.show_prompt()
        self._begin(Wish(messages))

    def _refuses(self, *, sent: bool = False) -> bool:
        """Whether an answer is coming, and nothing else can be asked for now; it says so. `sent`: what is
        refused is a text that stays where it was written."""
        if self.phase in BUSY:
            words = f"An answer is coming: {self._stop_key} stops it."
            if sent:
                words = f"Your text stays. {self._stop_key} stops this answer, then Enter sends."
            self.notify(words, markup=False, timeout=4)
        return self.phase in BUSY

    def _begin(self, wish: Wish) -> None:
        """Answer `wish`, once there is a pair that can."""
        self._clear_notices()
        self.phase = "reading" if self._loader.loaded else "waiting"
        self._turn = self._answer(wish)

    @work(exclusive=True, group="turn")
    async def _answer(self, wish: Wish) -> None:
        """Drive one turn: it carries events; the methods below own what they change."""
        await self._keeper.settle()
        # Shielded: stopping the turn must not stop the load.
        if failure := await asyncio.shield(self._loader.begin(load_request(self._settings))):
            self.desk.transcript.fail(failure.message, failure.hint)
            self._conversation.close()
            self._give_back()
            return
        try:
            async with aclosing(self._client.generate(self._begin_answer(wish))) as events:
                async for event in events:
                    self._take(event)
        except EngineError as error:
            self._break_off(error)
        except Exception as error:  # the edge of the screen: no event of an engine ends the chat
            name = type(error).__name__
            self._break_off(EngineError(f"This answer cannot be shown ({name})", "Ask again, or report it."))

    def _begin_answer(self, wish: Wish) -> protocol.Generate:
        generation = replace(self.generation, draft_length=self._drafting.length)
        seed = generation.seed if wish.asked.seed is None else wish.asked.seed
        if seed < 0:
            seed = self._draw_seed()
        self.phase = "reading"
        self._say("reading the prompt")
        self._meter.begin(seed)
        self._busy, self._repetition = "", Repetition()
        self._answering = self._draw_id()
        request = generate_request(self._answering, wish.messages, seed, generation)
        request = structs.replace(wish.asked.applied(request), resume=wish.resume)
        request = limited(request, self._loader.loaded)
        if wish.resume:
            self._conversation.go_on()
        else:
            self._conversation.answer(request, self._loader.loaded)
        self._branches.show_answer()
        return request

    def _draw_id(self) -> int:
        """An id for a command, which no other had."""
        self._answers += 1
        return self._answers

    def _take(self, event: AnswerEvent) -> None:
        match event:
            case protocol.Prefill() if self.phase == "reading":
                self._say(wording.reading(event))
            case protocol.Round():
                self._branches.hear(event)
                self._conversation.hear(event)
                self._meter.add(event)
                self._numbers.resume()
                self._saving.resume()
                if self.phase == "reading":
                    self.phase = "answering"
                    self._say_answering()
                self._notice_repetition(event)
            case protocol.Busy():
                self._busy = wording.busy(event, self._client.host)
                if self.phase == "answering":
                    self._say_answering()
            case protocol.NotDrafting():
                self._meter.hear(event)
            case protocol.Notice():
                self.desk.show_notices([event.message])
            case protocol.Finished():
                self._meter.finish(event.statistics)
                self.desk.show_rounding(event.statistics.rounding)
                answered = self._conversation.close(event.reason, event.statistics)
                self._branches.end_answer(None if answered else NOTHING)
                if not answered:
                    self._give_back()
                self._turn_over("stopped" if event.reason == "cancelled" else "ready")
                if self._fullness >= NEARLY_FULL:
                    self.desk.show_notices([wording.nearly_full(self._fullness)])

    @property
    def settings(self) -> Settings:
        return self._settings

    @property
    def adjustments(self) -> ChatOverrides:
        """What this chat does otherwise."""
        return self._adjustments

    @property
    def generation(self) -> Generation:
        """What answers of this chat are made by."""
        return self._adjustments.applied(self._settings)

    def _adjust_conversation(self) -> None:
        self._conversation.system_prompt = self.generation.system_prompt

    @property
    def _fullness(self) -> float:
        """How much of the context the conversation takes, 0 to 1."""
        used, loaded = self._meter.read().context_used, self._loader.loaded
        return used / loaded.context_length if used and loaded and loaded.context_length else 0.0

    def _break_off(self, error: EngineError) -> None:
        """The answer will not go on. What came of it stays."""
        self._meter.finish()
        self._branches.end_answer("")
        self.desk.transcript.fail(error.message, error.hint)
        answered = self._conversation.close()
        if isinstance(error, EngineDied):
            self._end(error)
        else:
            self._turn_over("ready")
        if not answered:
            self._give_back()

    def _turn_over(self, words: str) -> None:
        self.phase = "ready"
        self._say(words)
        self._tick()

    def _give_back(self) -> None:
        """Put a prompt that has no answer where it can be sent again, unless something new stands there."""
        if not self.desk.composer.text:
            self.desk.composer.action_earlier()

    async def action_stop(self) -> None:
        if self.phase == "waiting":
            self.workers.cancel_group(self, "turn")
            self.phase = "loading"
            self.desk.transcript.finish("not sent")
            self._conversation.close()
            self._give_back()
        elif self.phase == "loading":
            await self._loader.give_up()
        elif self.phase in ("reading", "answering"):
            self.phase = "stopping"
            self._say("stopping")
            await self._client.cancel(self._answering)

    async def interrupt(self) -> bool:
        """Stop the answer that is coming; False if there is none, or it is being stopped already."""
        if coming := self.phase in ("waiting", "reading", "answering"):
            await self.action_stop()
        return coming

    async def _end_turn(self) -> None:
        """Stop the answer that is coming, and wait until it has stopped."""
        if self.phase in BUSY:
            await self.action_stop()
            if self._turn:
                with suppress(WorkerCancelled):
                    await self._turn.wait()

    def _forget(self) -> None:
        """Begin another conversation."""
        self.desk.clear()
        self._conversation.forget()
        self._branches.forget()
        self._meter.forget()
        self.adjust(ChatOverrides())
        if self.phase == "ready":
            self._say("ready")
        self._tick()

    def adjust(self, adjustments: ChatOverrides) -> None:
        """From the next answer on this chat is answered so."""
        self._conversation.adjust(adjustments.written())
        self._go_by(adjustments)

    def _go_by(self, adjustments: ChatOverrides) -> None:
        self._adjustments = adjustments
        self._adjust_conversation()
        self._show_drafting()
        self._show_extras()

    # Showing

    def _show_extras(self, files: str = "") -> None:
        """What goes with the next prompt, at the edge of the composer."""
        parts = (files, self._adjustments.words(self._settings))
        self.desk.composer.border_subtitle = Content(clean_line(" · ".join(filter(None, parts))))

    def _say_answering(self) -> None:
        repeats = f"the answer repeats itself: {self._stop_key} stops it" if self._repetition.found else ""
        unusual = repeats or self._busy
        self.desk.say(unusual or "answering", "$warning" if unusual else "$primary")

    def _notice_repetition(self, happened: protocol.Round) -> None:
        found = self._repetition.found
        self._repetition.add(happened.tokens)
        if self._repetition.found and not found and self.phase == "answering":
            self._say_answering()

    @property
    def _stop_key(self) -> str:
        """The key that stops an answer, as people write it."""
        keys = (key for key, each in self.active_bindings.items() if each.binding.id in STOPS)
        return wording.readable(next(keys, "escape"))

    def _say(self, words: str, models: Sequence[str] = ()) -> None:
        self.desk.say(words, TONES.get(self.phase, "$primary"), models)

    def _show_notices(self) -> None:
        self.desk.show_notices([*self._opening.notices(self._loader.loaded), *self._notices])

    def _clear_notices(self) -> None:
        self._notices.clear()
        self._opening.over()
        self.desk.show_notices(())

    def _tick(self) -> None:
        """Show the numbers; again and again as long as an answer comes."""
        self.desk.show_reading(self._meter.sample(), self._meter.history)
        if self.phase not in ("answering", "stopping"):
            self._numbers.pause()

    def _save(self) -> None:
        """Keep what has come of the answer."""
        self._conversation.flush()
        self._saving.pause()

    def _show_link(self) -> None:
        if self._client.host:
            self.desk.show_link(wording.link(self._client, monotonic()))

    def _show_drafting(self) -> None:
        wished, loaded = self._drafting, self._loader.loaded
        self.desk.show_drafting(
            wording.drafting(wished, loaded),
            wording.draft_limit(wished, loaded),
            lookup=wording.looks_up(wished, loaded, self.generation),
        )
