"""The chat: every key and command of it, and the screens that it leads to. The turn itself is `turn.py`'s.

Other screens are imported when they are first shown: the first paint waits for none of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import ClassVar

from textual import on, work
from textual.app import SystemCommand
from textual.binding import Binding, BindingType

from tui.clean import clean, clean_line
from tui.client import EngineClient, EngineDied, EngineError
from tui.config import Settings
from tui.protocol import Generate
from tui.protocol.thoughts import without_thought
from tui.store.changes import Turn
from tui.store.keeper import Keeper, Unreadable
from tui.widgets.transcript import Transcript, Want, code_blocks

from .conversation import asked
from .drafting import AUTO, Drafting
from .editor import EditorFailed, edited
from .requests import Choice, draft_length, generate_request, load_request, with_choice
from .turn import BUSY, TurnScreen, Wish

OF_THE_LAST: tuple[tuple[Want, str, str], ...] = (
    ("again", "Another answer", "With another seed; this one stays as a branch"),
    ("continue", "Go on with the answer", "From the token at which it was broken off"),
    ("inspect", "See inside the answer", "Every token, and what else it could have been"),
    ("copy", "Copy the answer", "As Markdown"),
    ("code", "Copy the code", "The next block of the answer"),
)
"""What the palette offers to do with the last answer."""


RACED = 400
"""Tokens of a race, at most."""
LEAVE = 0.5
"""Share of the context that is taken, at most, once the oldest turns are left out."""


class ChatScreen(TurnScreen):
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
        self._copied = ("", 0)
        """Of which message the code was copied last, and how many blocks of it."""

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

    # Messages that are there

    def action_read(self) -> None:
        """Move the cursor over the messages; Esc comes back."""
        if self._conversation.last:
            self.desk.transcript.focus()

    @on(Transcript.Left)
    def _left(self, event: Transcript.Left) -> None:
        event.stop()
        self.desk.composer.focus()

    @on(Transcript.Wanted)
    def _wanted(self, event: Transcript.Wanted) -> None:
        event.stop()
        if turn := self._conversation.turn(event.key):
            self.want(event.want, turn)

    def want(self, want: Want, turn: Turn) -> None:
        """Do with `turn` what a person wants."""
        match want:
            case "copy":
                self.app.copy_to_clipboard(clean(without_thought(turn.text)))
                self.notify("Copied as Markdown.", timeout=3, markup=False)
            case "code":
                self._copy_code(turn)
            case "open":
                self._open(turn)
            case "before" | "after":
                self._switch(turn, -1 if want == "before" else 1)
            case "edit":
                self._branches.edit(turn)
                self.refresh_bindings()
                self.desk.composer.focus()
            case "inspect" if not self._refuses():
                if answer := self._conversation.answer_at(turn):
                    self._inspect(answer)
            case "again" | "same" | "continue" if not self._refuses():
                self._answer_again(want, turn)

    @work(exclusive=True, group="editor")
    async def action_editor(self) -> None:
        """The prompt in an editor, and what became of it back in the composer."""
        composer = self.desk.composer
        try:
            text = await edited(self.app, composer.prompt, os.environ)
        except (EditorFailed, OSError) as error:
            self.notify(clean_line(f"The editor: {error}"), severity="error", markup=False)
            return
        composer.load_text(clean(text))
        composer.move_cursor(composer.document.end)

    @work(exclusive=True, group="editor")
    async def _open(self, turn: Turn) -> None:
        """Look at a message in an editor; what is changed there changes nothing here."""
        try:
            await edited(self.app, clean(turn.text), os.environ)
        except (EditorFailed, OSError) as error:
            self.notify(clean_line(f"The editor: {error}"), severity="error", markup=False)

    def action_race(self) -> None:
        """The last prompt once more, plain and drafted, side by side."""
        from .versus import VersusScreen

        last = self._conversation.last
        if last is None or not self._loader.loaded:
            self.notify("Ask something first: the race runs the last prompt.", timeout=4, markup=False)
            return
        if self._refuses():
            return
        seed, sampling = asked(last)
        tokens = last.statistics.tokens if last.statistics else RACED
        generation = replace(
            self._settings.generation,
            draft_length=self._drafting.length or AUTO,
            max_tokens=max(1, min(tokens, RACED)),
        )
        messages = self._conversation.messages()[:-1]
        request = generate_request(self._draw_id(), messages, seed or 0, generation)
        self._draw_id()  # the race takes the next one too
        request = replace(request, sampling=sampling or request.sampling)
        self.app.push_screen(VersusScreen(self._client, request, self._clock), self._came_back)

    def _came_back(self, error: EngineError | None) -> None:
        """From a screen that used the engine."""
        if isinstance(error, EngineDied):
            self._end(error)

    def action_inspect(self) -> None:
        """See inside the last answer."""
        if last := self._conversation.last:
            self.want("inspect", last)
        else:
            self.notify("Ask something first: this looks inside an answer.", timeout=4, markup=False)

    @work(exclusive=True, group="change")
    async def _inspect(self, answer: Turn) -> None:
        """Look inside `answer`, on a screen of its own."""
        from .inspection import InspectionScreen

        await self._keeper.settle()
        key = self._conversation.key
        try:
            stored = await self._keeper.ask(lambda store: store.read(key))
        except Unreadable as error:
            self.notify(clean_line(f"That answer cannot be read: {error}"), severity="error", markup=False)
            return
        turn = next((each for each in stored.turns if each.key == answer.key), None) if stored else None
        if turn is None or not turn.rounds:
            self.notify("It is not known how this answer came.", timeout=4, markup=False)
            return
        request = self._request_of(turn)
        screen = InspectionScreen(self._client, self._draw_id, turn, request, self._clock)
        self.app.push_screen(screen, self._came_back)

    def _request_of(self, answer: Turn) -> Generate | None:
        """What `answer`, with its rounds, was the answer to; None if its model is not loaded."""
        loaded = self._loader.loaded
        if loaded is None or loaded.main.name != answer.main:
            return None
        seed, sampling = asked(answer)
        messages = self._conversation.messages_to(answer)
        request = generate_request(0, messages, seed or 0, self._settings.generation)
        tokens = tuple(token for each in answer.rounds for token in each.tokens)
        return replace(request, sampling=sampling or request.sampling, resume=tokens)

    def action_leave_out(self) -> None:
        """Send only so many of the latest turns that half of the context is free again."""
        if self._refuses():
            return
        count = self._branches.leave_out(LEAVE / (self._fullness or 1))
        self.desk.show_notices(())
        words = (
            f"The first {count:,} messages are not sent any more."
            if count
            else "There is nothing to leave out."
        )
        self.notify(words, timeout=5, markup=False)

    def _copy_code(self, turn: Turn) -> None:
        blocks = code_blocks(clean(without_thought(turn.text)))
        key, done = self._copied
        place = done % len(blocks) if blocks and key == turn.key else 0
        if blocks:
            self.app.copy_to_clipboard(blocks[place])
            self._copied = (turn.key, place + 1)
            self.notify(f"Copied code {place + 1} of {len(blocks)}.", timeout=3, markup=False)
        else:
            self.notify("There is no code in this message.", timeout=3, markup=False)

    @work(exclusive=True, group="change")
    async def _switch(self, turn: Turn, by: int) -> None:
        """Show the branch beside `turn`."""
        if self._refuses():
            return
        try:
            if not await self._branches.switch(turn, by):
                self.notify("There is no other branch there.", timeout=3, markup=False)
        except Unreadable as error:
            self.notify(clean_line(f"That branch cannot be read: {error}"), severity="error", markup=False)

    def _answer_again(self, want: Want, turn: Turn) -> None:
        answer = self._conversation.answer_at(turn)
        if answer is None:
            return
        seed, sampling = asked(answer)
        tokens = self._conversation.tokens_of(answer)
        if answer.ending == "length" and self._settings.generation.stop:
            tokens = ()  # text that might have become a stop string was shown, and would come again
        if want != "continue":
            self._branches.leave(answer)
            wish = Wish(self._conversation.messages(), seed if want == "same" else self._draw_seed())
        elif not tokens or (self._loader.loaded and self._loader.loaded.main.name != answer.main):
            why = "this answer is complete" if not tokens else "another model gave this answer"
            self.notify(f"It cannot go on: {why}.", timeout=4, markup=False)
            return
        else:
            self._branches.end_at(answer)
            wish = Wish(self._conversation.messages()[:-1], seed, sampling, tokens)
        self._begin(wish)
        self.desk.composer.focus()

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
