"""The chat: every key and command of it, and the screens that it leads to. The turn itself is `turn.py`'s.

Other screens are imported when they are first shown: the first paint waits for none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import ClassVar

from textual import work
from textual.app import SystemCommand
from textual.binding import Binding, BindingType

from tui.client import EngineClient
from tui.config import Settings
from tui.store.keeper import Keeper, Unreadable
from tui.widgets.transcript import Want

from .drafting import Drafting
from .messages import MessagesScreen
from .requests import Choice, draft_length, load_request, with_choice
from .turn import BUSY

OF_THE_LAST: tuple[tuple[Want, str, str], ...] = (
    ("again", "Another answer", "With another seed; this one stays as a branch"),
    ("continue", "Go on with the answer", "From the token at which it was broken off"),
    ("inspect", "See inside the answer", "Every token, and what else it could have been"),
    ("copy", "Copy the answer", "As Markdown"),
    ("code", "Copy the code", "The next block of the answer"),
)
"""What the palette offers to do with the last answer."""


class ChatScreen(MessagesScreen):
    """The conversation with its keys."""

    AUTO_FOCUS = "Composer"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (90, "-wide")]  # noqa: RUF012 (as Textual declares it)
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", id="chat.stop", tooltip="Stop the answer; what came stays"),
        Binding("tab", "read", "Read", show=False, id="chat.read",
                tooltip="To the messages: edit, again, copy, …"),
        Binding("ctrl+n", "new", "New", id="chat.new", tooltip="New chat"),
        Binding("ctrl+o", "history", "Chats", id="chat.history",
                tooltip="Earlier chats: search, open, delete"),
        Binding("ctrl+l", "models", "Models", id="chat.models", tooltip="Choose a main model and its draft"),
        Binding("ctrl+r", "race", "Race", show=False, id="chat.race",
                tooltip="The last prompt, plain against drafted"),
        Binding("ctrl+g", "inspect", "Inside", show=False, id="chat.inspect",
                tooltip="See inside the last answer: every token, and what else it could have been"),
        Binding("f8", "editor", "Editor", show=False, id="chat.editor",
                tooltip="Write the prompt in your $EDITOR"),
        Binding("f5", "leave_out", "Context", show=False, id="chat.leave_out",
                tooltip="Send only the latest turns from now on"),
        Binding("f3", "drafting", "Drafting", show=False, id="chat.drafting",
                tooltip="How far to draft: auto, always, never"),
    ]  # fmt: skip

    def __init__(
        self,
        settings: Settings,
        client: EngineClient,
        keeper: Keeper,
        notices: Iterable[str],
        clock: Callable[[], float],
        draw_seed: Callable[[], int],
        keep: Callable[[Settings], None] = lambda settings: None,
    ) -> None:
        """As `TurnScreen`; `keep` is given the settings when another pair was chosen."""
        super().__init__(settings, client, keeper, notices, clock, draw_seed)
        self._keep = keep

    def watch_phase(self) -> None:
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Esc has a meaning, and a place in the footer, only while there is something to stop."""
        stoppable = self.phase in BUSY or self.phase == "loading" or self._branches.is_editing
        return stoppable if action == "stop" else True

    async def action_stop(self) -> None:
        if self.phase not in BUSY and self._branches.is_editing:
            self._branches.give_up()
            self.refresh_bindings()
        else:
            await super().action_stop()

    def commands(self) -> Iterable[SystemCommand]:
        """What the palette offers for this screen."""
        if self.phase in BUSY:
            yield SystemCommand("Stop the answer", "What came stays", self.action_stop)
        elif last := self._conversation.last:
            for want, title, about in OF_THE_LAST:
                yield SystemCommand(title, about, partial(self.want, want, last))
        yield SystemCommand(
            "Leave out the oldest turns", "Send only the latest from now on", self.action_leave_out
        )
        yield SystemCommand("Editor", "Write the prompt in your $EDITOR", self.action_editor)
        yield SystemCommand("Race", "The last prompt, plain against drafted, side by side", self.action_race)
        yield SystemCommand("Read", "To the messages: edit, again, other branches, copy", self.action_read)
        yield SystemCommand("Models", "Choose a main model and its draft", self.action_models)
        yield SystemCommand("Chats", "Search, open, rename, delete earlier chats", self.action_history)
        yield SystemCommand("New chat", "This one is kept", self.action_new)
        for drafting in self._drafting.all():
            about = "How many tokens are drafted in a round"
            yield SystemCommand(f"Drafting: {drafting.words}", about, partial(self.set_drafting, drafting))
        yield from self.desk.commands()

    # Other screens

    def action_models(self) -> None:
        """Choose another pair, on a screen of its own."""
        from .models import ModelsScreen

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
        from .history import HistoryScreen

        self.app.push_screen(HistoryScreen(self._keeper, self._conversation.key), self._chosen_chat)

    def _chosen_chat(self, key: str | None) -> None:
        """Go on with it; None leaves what is there, unless it was deleted meanwhile."""
        if key is not None:
            self.open_chat(key)
        elif self._conversation.key in self._keeper.deleted:
            self.action_new()

    @work(exclusive=True, group="change")
    async def open_chat(self, key: str) -> None:
        """Go on with the chat `key`; an answer that is coming is stopped first."""
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
        await self._branches.show(stored)
        if unanswered and not self.desk.composer.text:
            self.desk.composer.insert(unanswered)

    async def open_named(self, words: str) -> None:
        """Go on with the latest chat that has `words`."""
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
        self.desk.show_unsaved(self._keeper.fault)
        if self._keeper.remark:
            self.desk.show_notices([self._keeper.remark])

    @work(exclusive=True, group="change")
    async def action_new(self) -> None:
        """Another conversation; an answer that is coming is stopped first."""
        await self._end_turn()
        self._forget()

    # Drafting

    def action_drafting(self) -> None:
        """Draft as far as pays, always so far, or never: from the next round on."""
        self.set_drafting(self._drafting.next())

    def set_drafting(self, drafting: Drafting) -> None:
        self._drafting = drafting
        self._client.set_draft_length(self._answers, draft_length(drafting.length))
        self._show_drafting()
        self._tick()
