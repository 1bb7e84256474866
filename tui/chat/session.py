"""A chat without a screen: its settings, its conversation, its connection to a pair, and its turns.

A screen receives a session, and the session tells the screen's views. It draws nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from time import monotonic

from tui import protocol
from tui.clean import clean_line
from tui.client import EngineClient, EngineError
from tui.config import Generation, Settings
from tui.config.last import PairSettings
from tui.host import HostError, engine_on
from tui.paths import find_deleted
from tui.store.keeper import Keeper, Unreadable

from . import formatting
from .connection import Connection, Phase, Step
from .conversation import Conversation
from .draft_length import Drafting
from .meter import Meter
from .overrides import ChatOverrides
from .requests import HERE, TurnRequest, load_request
from .saved_states import SavedStates
from .start_notices import Opening
from .turn import TurnRunner
from .view import ChatView, TranscriptView


class ChatSession:
    """One chat after another, over one connection. Call `show_on` first."""

    view: ChatView
    turn: TurnRunner
    opening: Opening
    _transcript: TranscriptView

    def __init__(
        self,
        settings: Settings,
        client: EngineClient,
        keeper: Keeper,
        clock: Callable[[], float],
        draw_seed: Callable[[], int],
        keep: Callable[[Settings], bool] = lambda settings: True,
    ) -> None:
        """`keeper` stores the conversation. `draw_seed` makes a seed where none is set.

        `keep` receives the settings when the pair changes, and returns whether the next start loads it.
        """
        self.settings = settings
        self.client = client
        self.keeper = keeper
        self.clock = clock
        self.draw_seed = draw_seed
        self._keep = keep
        self.folder = Path.cwd
        """Returns the folder of files that are attached or exported."""
        self.drafting = Drafting(settings.generation.draft_length)
        self.overrides = ChatOverrides()
        self.conversation = Conversation(self.generation.system_prompt, keeper.add)
        self.meter = Meter(clock)
        self.connection = Connection(
            client,
            lambda: load_request(self.settings),
            lambda progress: self._say(formatting.loading(progress)),
            self._load_ended,
        )
        self.states = SavedStates(client, find_deleted() if keeper.keeps else None)
        keeper.on_delete = self.states.forget

    def show_on(
        self,
        view: ChatView,
        transcript: TranscriptView,
        notices: Iterable[str] = (),
        *,
        recalled: bool = False,
    ) -> None:
        """Connect these views. `notices` stand in the banner at first.

        `recalled`: the pair is the one that was chosen last.
        """
        self.view, self._transcript = view, transcript
        self.opening = Opening(self.client, view, notices, recalled=recalled)
        self.turn = TurnRunner(
            self.connection, self.conversation, self.keeper, self.meter, lambda: self.generation,
            self.draw_seed, view, transcript,
        )  # fmt: skip

    def start(self) -> None:
        """Show the start. Call `load` next."""
        self.opening.show(None)
        self._show_drafting()
        host = self.client.host
        self._say(f"connecting to {clean_line(host.name)}" if host else "starting the engine")
        self.client.heartbeat.on_beat = self._show_link

    def load(self) -> None:
        """Begin to load the pair of the settings."""
        # Textual awaits the result of a callback, and hears no key meanwhile: so this returns no task.
        self.connection.load()

    def close(self) -> None:
        """Stop the work: the app ends."""
        self.turn.close()
        self.connection.close()

    @property
    def generation(self) -> Generation:
        """The settings for the next answer of this chat."""
        return replace(self.overrides.applied(self.settings), draft_length=self.drafting.length)

    def answer(self, wish: TurnRequest) -> None:
        """Begin a turn."""
        self.opening.over()
        self.turn.begin(wish)

    def rejects(self, *, sent: bool = False) -> bool:
        """Whether the chat takes no prompt because an answer is coming. If so, the view says it.

        `sent`: the person has sent a text, which stays in the text box.
        """
        if self.connection.busy:
            words = f"An answer is coming: {self.view.stop_key} stops it."
            if sent:
                words = f"Your text stays. {self.view.stop_key} stops this answer, then Enter sends."
            self.view.tell(words, seconds=4)
        return self.connection.busy

    # The pair

    def _load_ended(self, loaded: protocol.Loaded | EngineError) -> None:
        self.states.settle()
        if isinstance(loaded, EngineError):
            self._show_failure(loaded)
            return
        self.view.show_loaded(loaded)
        self._show_drafting()
        folders = load_request(self.settings).folders
        self.opening.loaded(loaded, is_new=self.connection.is_new, folders=folders)
        self.view.say(formatting.ready(loaded.main), self.connection.tone, formatting.pair(loaded))

    def _show_failure(self, error: EngineError) -> None:
        """Show why there is no engine, or none with a model, and the remedy."""
        self.view.show_loaded(None)
        self._show_drafting()
        self._show_link()
        retry = self.connection.retry_after
        self._say(error.message if retry is None else f"{error.message}; another try in {retry:g} s")
        if self._transcript.is_empty or self.client.host:
            hint = f"No model is loaded now. {error.hint or 'The next prompt tries again.'}"
            self.opening.show_failure((error.message, hint))

    async def load_pair(self, pair: PairSettings) -> None:
        """Load the chosen pair, after stopping an answer that is coming."""
        await self.turn.stop()
        self.settings = pair.applied(self.settings)
        if not self._keep(self.settings):
            self.view.tell("Until you quit: the next start loads what config.toml names.", seconds=8)
        self.opening.over()
        await self._load_anew()

    async def set_exact(self, exact: bool) -> None:
        """Load the pair again with exact mode on or off. An answer that is coming stops."""
        await self.turn.stop()
        self.settings = replace(self.settings, models=replace(self.settings.models, exact=exact))
        self.opening.over()
        await self._load_anew()

    async def move(self, name: str) -> None:
        """Move the engine to another host, or to `HERE`. The chat stays; an answer that is coming stops."""
        try:
            command, host = engine_on("" if name == HERE else name, self.settings.hosts)
        except HostError as error:
            self.view.tell(str(error), severity="error")
            return
        await self.turn.end()
        await self.client.move(command, host)
        engine = replace(self.settings.engine, host=host.name if host else "")
        self.settings = replace(self.settings, engine=engine)
        self.view.show_link("")
        await self._load_anew()

    async def _load_anew(self) -> None:
        self.view.show_loaded(None)
        self.meter.forget()  # the figures belong to the pair before
        self.turn.show_figures()
        self.connection.take(Step.LOAD)
        self._say("loading")
        await self.connection.load_anew()
        self._show_drafting()

    # The conversation

    async def open(self, key: str) -> None:
        """Continue the chat `key`, after stopping an answer that is coming."""
        await self.new()
        try:
            stored = await self.keeper.read(key)
        except Unreadable as error:
            self.view.tell(f"That chat cannot be read: {error}", severity="error")
            return
        if stored is None:
            return
        unanswered = self.conversation.open(stored)
        self.opening.opened(self.conversation.last)
        self.opening.show(self.connection.loaded)
        self._go_by(ChatOverrides.read(stored.settings))  # an unreadable text stays in the store unchanged
        await self._transcript.show(stored)
        gc.freeze()  # The garbage collector would look at all objects of a long chat as long as it is open.
        if unanswered:
            self._transcript.give_back(unanswered)

    async def new(self) -> None:
        """Begin another conversation, after stopping an answer that is coming."""
        await self.turn.end()
        self._transcript.forget()
        self.conversation.forget()
        self.meter.forget()
        self.override(ChatOverrides())
        if self.connection.phase == Phase.READY:
            self._say("ready")
        self.turn.show_figures()

    def show_keeping(self) -> None:
        """Show whether the conversation is saved."""
        self.view.show_unsaved(self.keeper.fault)
        if self.keeper.remark:
            self.view.show_notices([self.keeper.remark])

    # Its settings

    def override(self, overrides: ChatOverrides) -> None:
        """Use `overrides` for this chat from the next answer on."""
        self.conversation.adjust(overrides.written())
        self._go_by(overrides)

    def _go_by(self, overrides: ChatOverrides) -> None:
        self.overrides = overrides
        self.conversation.context.system_prompt = self.generation.system_prompt
        self._show_drafting()
        self.show_extras()

    def apply(self, settings: Settings) -> None:
        """Use other settings, as far as they can change at once."""
        before, self.settings = self.settings, settings
        if settings.generation.draft_length != before.generation.draft_length:
            self.draft(Drafting(settings.generation.draft_length))
        self._go_by(self.overrides)

    def draft(self, length: Drafting) -> None:
        """Use this draft length from the next round on."""
        self.drafting = length
        self.client.set_draft_length(self.turn.id, length.length)
        self._show_drafting()

    # Showing

    def _say(self, words: str) -> None:
        self.view.say(words, self.connection.tone)

    def _show_link(self) -> None:
        if self.client.host:
            self.view.show_link(formatting.link(self.client, monotonic()))

    def _show_drafting(self) -> None:
        wished, loaded = self.drafting, self.connection.loaded
        self.view.show_drafting(
            formatting.drafting(wished, loaded),
            formatting.draft_limit(wished, loaded),
            lookup=formatting.looks_up(wished, loaded, self.generation),
        )

    def show_extras(self, files: str = "") -> None:
        """Show the additions to the next prompt: `files`, and the overrides of this chat."""
        self.view.show_extras(" · ".join(filter(None, (files, self.overrides.words(self.settings)))))
