"""One conversation with one loaded pair: it owns the turn.

Prompts come up from the composer, events from the engine; both end here as calls on the desk. Typed text is
never lost: a prompt that could not be answered goes back to where it was written, and what was said is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import ClassVar, Literal

from textual import on, work
from textual.app import ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.reactive import reactive
from textual.screen import Screen
from textual.widgets import Footer
from textual.worker import Worker, WorkerCancelled

from tui.client import EngineClient, EngineDied, EngineError
from tui.config import Settings
from tui.protocol import Event, Finished, Generate, Loaded, Loading, Message, Notice, Prefill, Round
from tui.store import Keeper, Unreadable
from tui.widgets.composer import Composer
from tui.widgets.desk import Desk
from tui.widgets.meter import Meter

from . import wording
from .conversation import Conversation, pieces_of
from .drafting import Drafting
from .history import HistoryScreen
from .loading import Loader
from .models import ModelsScreen
from .requests import Choice, draft_length, generate_request, load_request, with_choice

Phase = Literal["loading", "ready", "waiting", "reading", "answering", "stopping", "ended"]
"""waiting: a prompt waits for the load. reading: the prompt is processed. ended: no engine with a model."""

BUSY = frozenset(("waiting", "reading", "answering", "stopping"))
TONES = {"ready": "$success", "ended": "$error", "stopping": "$warning"}
TICK = 0.25
"""Seconds between two looks at the meter."""
FLUSH = 0.2
"""Seconds of an answer that may be lost with the machine."""


class ChatScreen(Screen[None]):
    """The conversation and its turn."""

    AUTO_FOCUS = "Composer"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (90, "-wide")]  # noqa: RUF012 (as Textual declares it)
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", id="chat.stop", tooltip="Stop the answer; what came stays"),
        Binding("ctrl+n", "new", "New", id="chat.new", tooltip="New chat"),
        Binding(
            "ctrl+o", "history", "Chats", id="chat.history", tooltip="Earlier chats: search, open, delete"
        ),
        Binding("ctrl+l", "models", "Models", id="chat.models", tooltip="Choose a main model and its draft"),
        Binding(
            "f3",
            "drafting",
            "Drafting",
            show=False,
            id="chat.drafting",
            tooltip="How far to draft: auto, always, never",
        ),
    ]

    phase: reactive[Phase] = reactive[Phase]("loading", repaint=False)

    def __init__(
        self,
        settings: Settings,
        client: EngineClient,
        keeper: Keeper | None,
        notices: Iterable[str],
        clock: Callable[[], float],
        draw_seed: Callable[[], int],
        keep: Callable[[Settings], None] = lambda settings: None,
    ) -> None:
        """`keeper` keeps what is said, unless it is None. `notices` stand in the banner at first.

        `draw_seed` makes a seed where none is set; `keep` is given the settings when another pair was chosen.
        """
        super().__init__()
        self._settings = settings
        self._client = client
        self._keeper = keeper
        self._notices = list(notices)
        self._draw_seed = draw_seed
        self._keep = keep
        self._drafting = Drafting(settings.generation.draft_length)
        record = keeper.add if keeper else lambda change: None
        self._conversation = Conversation(settings.generation.system_prompt, record)
        self._meter = Meter(clock)
        self._answers = 0
        self._loader = Loader(client, self._show_progress, self._load_ended)
        self._turn: Worker[None] | None = None
        look = settings.appearance
        self.desk = Desk(1 / look.frames_per_second, look.highlight, look.show_refused, look.sidebar)

    def compose(self) -> ComposeResult:
        yield self.desk
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self.desk.show_notices(self._notices)
        self._show_drafting()
        self._say("starting the engine")
        self.set_interval(TICK, self._tick)
        self.set_interval(FLUSH, self._conversation.flush)
        self.call_after_refresh(self._load_first)

    def on_unmount(self) -> None:
        """An answer that is coming is kept as far as it came."""
        if self.phase in BUSY:
            self._conversation.close()

    # The engine

    def _load_first(self) -> None:
        # Textual awaits what a callback returns, and no key would be seen before the load is done.
        self._loader.begin(load_request(self._settings))

    def _load_ended(self, loaded: Loaded | EngineError) -> None:
        if isinstance(loaded, EngineError):
            self._end(loaded)
            return
        self._meter.plain_speed = loaded.plain_tokens_per_second
        self.desk.show_loaded(loaded)
        self._show_drafting()
        if (remark := wording.refused(loaded)) and remark not in self._notices:
            self._notices.append(remark)
            self.desk.show_notices(self._notices)
        if self.phase == "loading":
            self.phase = "ready"
        self._say(wording.ready(loaded))

    def _show_progress(self, progress: Loading) -> None:
        self._say(wording.loading(progress))

    def _end(self, error: EngineError) -> None:
        """There is no engine, or none with a model: say why and what to do."""
        self._loader.loaded = None
        self.phase = "ended"
        self.desk.show_loaded(None)
        self._say(error.message)
        if not self.desk.transcript.messages:
            hint = error.hint or "The next prompt tries again."
            self.desk.show_notices([*self._notices, error.message, hint], error=True)

    def engine_died(self, error: EngineDied) -> None:
        """The engine died while nothing waited for it; the next prompt starts a new one."""
        if self.phase == "ready":
            self._end(error)

    # A turn

    @on(Composer.Submitted)
    def _submitted(self, event: Composer.Submitted) -> None:
        event.stop()
        if self.phase in BUSY:
            self.notify("Your text stays. Esc stops this answer, then Enter sends.", markup=False, timeout=4)
            return
        self.desk.composer.accept()
        self._notices.clear()
        self.desk.show_notices(())
        self.desk.begin(event.text)
        self.phase = "reading" if self._loader.loaded else "waiting"
        self._turn = self._answer(self._conversation.ask(event.text))

    @work(exclusive=True, group="turn")
    async def _answer(self, messages: tuple[Message, ...]) -> None:
        """Drive one turn: it carries events; the methods below own what they change."""
        if self._keeper:
            await self._keeper.settle()
        # Shielded: stopping the turn must not stop the load.
        if failure := await asyncio.shield(self._loader.begin(load_request(self._settings))):
            self.desk.transcript.fail(failure.message, failure.hint)
            self._conversation.close()
            self._give_back()
            return
        try:
            async for event in self._client.generate(self._begin_answer(messages)):
                self._take(event)
        except EngineError as error:
            self._break_off(error)

    def _begin_answer(self, messages: tuple[Message, ...]) -> Generate:
        generation = self._settings.generation
        seed = generation.seed if generation.seed >= 0 else self._draw_seed()
        self._answers += 1
        self.phase = "reading"
        self._say("reading the prompt")
        self._meter.begin(seed)
        self.desk.transcript.begin("assistant")
        generation = replace(generation, draft_length=self._drafting.length)
        request = generate_request(self._answers, messages, seed, generation)
        self._conversation.answer(request, self._loader.loaded)
        return request

    def _take(self, event: Event) -> None:
        match event:
            case Prefill() if self.phase == "reading":
                self._say(wording.reading(event))
            case Round():
                self.desk.transcript.append(event.pieces)
                self._conversation.hear(event)
                self._meter.add(event)
                if self.phase == "reading":
                    self.phase = "answering"
                    self._say("answering")
            case Notice():
                self.desk.show_notices([event.message])
            case Finished():
                self._meter.finish(event.statistics)
                self.desk.transcript.finish(wording.finished(event.reason, event.statistics))
                self._conversation.close(event.reason, event.statistics)
                self._turn_over("stopped" if event.reason == "cancelled" else "ready")

    def _break_off(self, error: EngineError) -> None:
        """The answer will not go on. What came of it stays."""
        self._meter.finish()
        self.desk.transcript.finish()
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

    # Keys and commands

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
            await self._client.cancel(self._answers)

    def action_models(self) -> None:
        """Choose another pair, on a screen of its own."""
        self.app.push_screen(ModelsScreen(self._client, load_request(self._settings)), self._chosen)

    async def _chosen(self, choice: Choice | None) -> None:
        """Load what was chosen; an answer that is coming is stopped first."""
        if choice is None:
            return
        await self.action_stop()
        self._settings = with_choice(self._settings, choice)
        self._keep(self._settings)
        self._notices.clear()
        self.desk.show_notices(())
        self.desk.show_loaded(None)
        self._show_drafting()
        self.phase = "loading"
        await self._loader.replace(load_request(self._settings))

    def action_history(self) -> None:
        """Earlier chats, on a screen of their own."""
        if self._keeper is None:
            self.notify("Chats are not kept: [history] keep is false in config.toml.", markup=False)
        else:
            self.app.push_screen(HistoryScreen(self._keeper, self._conversation.key), self._chosen_chat)

    def _chosen_chat(self, key: str | None) -> None:
        """Go on with it; None leaves what is there, unless it was deleted meanwhile."""
        if key is not None:
            self.open_chat(key)
        elif self._keeper and self._conversation.key in self._keeper.deleted:
            self.action_new()

    @work(exclusive=True, group="change")
    async def open_chat(self, key: str) -> None:
        """Go on with the chat `key`; an answer that is coming is stopped first."""
        assert self._keeper
        await self._end_turn()
        self._forget()
        try:
            stored = await self._keeper.ask(lambda store: store.read(key))
        except Unreadable as error:
            self.notify(f"That chat cannot be read: {error}", severity="error", markup=False)
            return
        if stored is None:
            return
        unanswered = self._conversation.open(stored)
        shown = {turn.key for turn in self._conversation.path}
        for turn in stored.turns:
            if turn.key in shown and turn.role == "user":
                self.desk.begin(turn.text)
            elif turn.key in shown:
                note = wording.finished(turn.ending, turn.statistics)
                self.desk.show_answer(pieces_of(turn), note)
                await asyncio.sleep(0)
        if unanswered and not self.desk.composer.text:
            self.desk.composer.insert(unanswered)

    async def open_named(self, words: str) -> None:
        """Go on with the latest chat that has `words`."""
        assert self._keeper
        try:
            key = await self._keeper.ask(lambda store: store.named(words))
        except Unreadable:
            return  # the banner says so
        if key:
            self.open_chat(key)
        else:
            self.notify("No chat to go on with" + (": none has these words" if words else ""), markup=False)

    def show_keeping(self) -> None:
        """Whether what is said is saved."""
        assert self._keeper
        self.desk.show_unsaved(self._keeper.fault)
        if self._keeper.remark:
            self.desk.show_notices([self._keeper.remark])

    def action_drafting(self) -> None:
        """Draft as far as pays, always so far, or never: from the next round on."""
        self.set_drafting(self._drafting.next())

    def set_drafting(self, drafting: Drafting) -> None:
        self._drafting = drafting
        self._client.set_draft_length(self._answers, draft_length(drafting.length))
        self._show_drafting()
        self._tick()

    def _show_drafting(self) -> None:
        self.desk.show_drafting(wording.drafting(self._drafting, self._loader.loaded))

    @work(exclusive=True, group="change")
    async def action_new(self) -> None:
        """Another conversation; an answer that is coming is stopped first."""
        await self._end_turn()
        self._forget()

    async def _end_turn(self) -> None:
        """Stop the answer that is coming, and wait until it has stopped."""
        if self.phase in BUSY:
            await self.action_stop()
            if self._turn:
                with suppress(WorkerCancelled):
                    await self._turn.wait()

    def _forget(self) -> None:
        self.desk.clear()
        self._conversation.forget()
        self._meter.forget()
        self._tick()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Esc has a meaning, and a place in the footer, only while there is something to stop."""
        return self.phase in BUSY or self.phase == "loading" if action == "stop" else True

    def commands(self) -> Iterable[SystemCommand]:
        """What the palette offers for this screen."""
        if self.phase in BUSY:
            yield SystemCommand("Stop the answer", "What came stays", self.action_stop)
        yield SystemCommand("Models", "Choose a main model and its draft", self.action_models)
        yield SystemCommand("Chats", "Search, open, rename, delete earlier chats", self.action_history)
        yield SystemCommand("New chat", "This one is kept", self.action_new)
        for drafting in self._drafting.all():
            about = "How many tokens are drafted in a round"
            yield SystemCommand(f"Drafting: {drafting.words}", about, partial(self.set_drafting, drafting))
        yield from self.desk.commands()

    # Showing

    def watch_phase(self) -> None:
        self.refresh_bindings()

    def _say(self, words: str) -> None:
        self.desk.say(words, TONES.get(self.phase, "$primary"))

    def _tick(self) -> None:
        self.desk.show_reading(self._meter.sample(), self._meter.history)
