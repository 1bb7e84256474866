"""The chat: every key and command of it, and the screens that it leads to. The turn itself is `turn.py`'s.

Other screens are imported when they are first shown: the first paint waits for none of them.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from inspect import isawaitable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import SystemCommand
from textual.binding import Binding, BindingType

from tui import protocol, store
from tui.chat import attachments, slash
from tui.chat.completion import Suggestion
from tui.chat.conversation import TITLE
from tui.chat.draft_length import DraftLength
from tui.chat.overrides import ChatOverrides
from tui.chat.requests import HERE, Choice, Move, draft_length, load_request, with_choice
from tui.chat.slash import SlashCommand
from tui.clean import clean_line
from tui.client import EngineClient, EngineError
from tui.client.host import HostError, engine_on, known_to_ssh
from tui.config import ConfigError, Preset, Settings, change_config
from tui.places import find_ssh_config
from tui.store.keeper import Keeper, Unreadable
from tui.widgets.composer import Composer
from tui.widgets.transcript import Want

from . import tuning
from .messages import OF_THE_LAST, MessagesScreen
from .turn import BUSY

if TYPE_CHECKING:
    from .hosts import HostsScreen

WITHOUT_SLASH = {
    ("chat", name)
    for name in (
        *("send", "newline", "earlier", "later", "complete", "refuse", "undo_typing"),
        *("stop", "up", "down", "end"),
    )
} | {("app", "interrupt")}
"""Actions that make no sense as a command."""
COUNT_AFTER = 0.3
"""Seconds without a key after which tokens are counted."""


class ChatScreen(MessagesScreen):
    """The conversation with its keys."""

    AUTO_FOCUS = "Composer"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (90, "-wide"), (170, "-roomy")]  # noqa: RUF012 (as Textual declares it)
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", id="chat.stop", tooltip="Stop the answer; its text stays"),
        Binding("escape", "cancel_edit", "Cancel edit", id="chat.cancel_edit",
                tooltip="Leave the earlier prompt as it was"),
        # First of all: of keys that come at once, the ones behind Tab are meant for the messages.
        Binding("tab", "read", "Read", show=False, priority=True, id="chat.read",
                tooltip="To the messages: edit, again, copy, …"),
        Binding("ctrl+n", "new", "New", id="chat.new", tooltip="New chat"),
        Binding("ctrl+o", "history", "Chats", id="chat.history",
                tooltip="Earlier chats: search, open, delete"),
        Binding("ctrl+l", "models", "Models", id="chat.models", tooltip="Choose a main model and its draft"),
        Binding("ctrl+r", "race", "Race", show=False, id="chat.race",
                tooltip="The last prompt, plain against drafted"),
        Binding("ctrl+g", "inspect", "Inside", show=False, id="chat.inspect",
                tooltip="See inside the last answer, token by token"),
        Binding("f8", "editor", "Editor", show=False, id="chat.editor",
                tooltip="Write the prompt in your $EDITOR"),
        Binding("f5", "leave_out", "Context", show=False, id="chat.leave_out",
                tooltip="Send only the latest turns from now on"),
        Binding("shift+f5", "summarise", "Sum up", show=False, id="chat.summarise",
                tooltip="A summary in place of the oldest turns"),
        Binding("f3", "drafting", "Drafting", show=False, id="chat.drafting",
                tooltip="Draft length: auto, always, never"),
    ]  # fmt: skip

    def __init__(
        self,
        settings: Settings,
        client: EngineClient,
        keeper: Keeper,
        notices: Iterable[str],
        clock: Callable[[], float],
        draw_seed: Callable[[], int],
        config: Path,
        keep: Callable[[Settings], bool] = lambda settings: True,
        recalled: bool = False,
    ) -> None:
        """As `TurnScreen`; `config` is where config.toml is or will be; `keep` gets the settings when another
        pair was chosen, and says whether the next start loads it."""
        super().__init__(settings, client, keeper, notices, clock, draw_seed, recalled)
        self._config = config
        self._keep = keep
        self._counted = ""
        """What is said of the files that the prompt names."""

    def watch_phase(self) -> None:
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Esc has a meaning, and a place in the footer, only while there is something to stop; Tab takes a
        suggestion before anything else."""
        if action == "read":
            return not (self.desk.suggestions.is_open or self.desk.transcript.has_focus)
        stoppable = self.phase in BUSY or (self.phase == "loading" and not self._branches.is_editing)
        if action == "cancel_edit":
            return self._branches.is_editing and not stoppable
        if action == "stop_answer":
            return self.phase in BUSY
        return stoppable if action == "stop" else True

    async def action_stop_answer(self) -> None:
        await self.action_stop()

    def action_cancel_edit(self) -> None:
        """Leave the earlier prompt that is edited as it was."""
        self._branches.give_up()
        self.refresh_bindings()

    def commands(self) -> Iterable[SystemCommand]:
        """What the palette offers for this screen beside its keys."""
        if self.phase not in BUSY and (last := self._conversation.last):
            for want, _, title, about in OF_THE_LAST:
                yield SystemCommand(title, about, partial(self.want, want, last))
        for drafting in self._drafting.all():
            about = "How many tokens are drafted in a round"
            yield SystemCommand(f"Drafting: {drafting.words}", about, partial(self.set_drafting, drafting))
        yield from self.desk.commands()

    # Commands that are typed

    def submit(self, text: str, by_hand: str) -> None:
        """Do what a command says, or ask."""
        found = slash.parse(text) if by_hand.startswith("/") else None
        if found is None:
            super().submit(text, by_hand)
            return
        name, value = found
        commands = self.slash_commands()
        if command := slash.find(name, commands):
            self.desk.composer.accept()
            self.run_worker(self._run(command, value), exclusive=True, group="command")
        else:
            self._suggest_nearest(name, slash.nearest(name, commands))

    def _suggest_nearest(self, name: str, near: SlashCommand | None) -> None:
        """What was typed stays, and Tab takes the command that is like it."""
        before, meant = self.desk.composer.before, ""
        if near and before.startswith(f"/{name}"):
            right = f"/{near.name}{before[len(name) + 1 :]}"
            self.desk.suggestions.offer([Suggestion(right, near.about, len(before))], before)
            meant = f"Did you mean /{near.name}? Tab takes it. "
        words = f"There is no command /{name}. {meant}With a space before it, it is sent as text."
        self.notify(clean_line(words), timeout=8, markup=False)

    async def _run(self, command: SlashCommand, value: str) -> None:
        outcome = command.run(value)
        if isawaitable(outcome):
            await outcome

    def slash_commands(self) -> list[SlashCommand]:
        """Those that can be given now: every action with a key, and what takes a value."""
        found = [
            SlashCommand(
                (each.binding.id or "").partition(".")[2].replace("_", "-"),
                each.binding.tooltip or each.binding.description,
                lambda _, each=each: self.app.run_action(each.binding.action, each.node),  # type: ignore[misc]
            )
            for each in self.active_bindings.values()
            if (each.binding.id or "").partition(".")[::2] not in WITHOUT_SLASH
            and (each.binding.id or "").startswith(("chat.", "app."))
        ]
        own = tuning.commands(self)
        for want, name, title, _ in OF_THE_LAST:
            own.append(SlashCommand(name, title, partial(self._want_of_last, want)))
        taken = {each.name for each in own}
        return sorted([*own, *(each for each in found if each.name not in taken)], key=lambda each: each.name)

    def _want_of_last(self, want: Want, _: str) -> None:
        if last := self._conversation.last:
            self.want(want, last)
        else:
            self.notify("Ask something first: this is about the last answer.", timeout=4, markup=False)

    @on(Composer.Changed)
    def _typed(self, event: Composer.Changed) -> None:
        """Suggest what the word that is typed could become."""
        event.stop()
        composer = self.desk.composer
        before = composer.before
        if before.startswith("/") and composer.document.line_count == 1:
            self.desk.suggestions.offer(slash.suggestions(before, self.slash_commands()), before)
        elif "@" in before:
            self._suggest_files(before)
        else:
            self.desk.suggestions.offer(())
        by_hand = composer.by_hand
        if "@" in by_hand or self._counted or self.desk.has_files:
            self._show_files(by_hand)
            self._count_files(by_hand)

    def _show_files(self, by_hand: str) -> None:
        """Name every file that would go with the prompt now. Enter is heard behind what it shows."""
        found = attachments.found(by_hand, self._folder()) if "@" in by_hand else []
        self.desk.show_files([(each.name, each.doubt) for each in found if each.path.is_file()])

    @work(exclusive=True, group="files")
    async def _suggest_files(self, before: str) -> None:
        found = await asyncio.to_thread(attachments.suggestions, before, self._folder())
        if self.desk.composer.before == before:
            self.desk.suggestions.offer(found, before)

    @work(exclusive=True, group="count")
    async def _count_files(self, text: str) -> None:
        """Say what the files that are named so far are, in tokens where there is a model to count them."""
        await asyncio.sleep(COUNT_AFTER)
        try:
            files = await asyncio.to_thread(attachments.files_of, text, self._folder())
        except attachments.NotAttached as error:
            self._counted = str(error)
            self._show_extras(self._counted)
            return
        words = [f"{len(files)} files"] if len(files) > 1 else []
        if files and self._loader.loaded and self.phase not in BUSY:
            block, _ = attachments.with_files("", files)
            with suppress(EngineError):
                tokens = await self._client.count(protocol.Count(self._draw_id(), block))
                words.append(f"{tokens:,} tokens{self._too_many(tokens)}")
        self._counted = " ".join(words)
        self._show_extras(self._counted)

    def _too_many(self, tokens: int) -> str:
        """That the context has no room for so many; empty where it has."""
        loaded, used = self._loader.loaded, self._meter.read().context_used or 0
        if loaded is None or not loaded.context_length or used + tokens < loaded.context_length:
            return ""
        if tokens >= loaded.context_length:
            return f": too many, the context holds {loaded.context_length:,}"
        return f": too many, {loaded.context_length - used:,} of the context are left"

    # Other screens

    def action_models(self, words: str = "") -> None:
        """Choose another pair, on a screen of its own, among those with `words`."""
        from .models import ModelsScreen

        load = load_request(self._settings)
        self.app.push_screen(ModelsScreen(self._client, load, self._hosts, words), self._chosen)

    def _hosts(self) -> HostsScreen:
        from .hosts import HostsScreen

        host = self._client.host
        return HostsScreen(self.settings.hosts, known_to_ssh(find_ssh_config()), host.name if host else HERE)

    async def _moved(self, host: str | None) -> None:
        if host is not None:
            await self.move(host)

    async def _chosen(self, choice: Choice | Move | None) -> None:
        """Load what was chosen; an answer that is coming is stopped first."""
        if choice is None:
            return
        if isinstance(choice, Move):
            await self.move(choice.host)
            self.action_models()
            return
        await self.action_stop()
        self._settings = with_choice(self._settings, choice)
        if not self._keep(self._settings):
            self.notify(
                "Until you quit: the next start loads what config.toml names.", timeout=8, markup=False
            )
        self._clear_notices()
        await self._load_anew()

    async def _load_anew(self) -> None:
        self.desk.show_loaded(None)
        self._meter.forget()  # its figures are those of the pair before
        self._tick()
        self.phase = "loading"
        self._say("loading")
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
        self._opening.opened(self._conversation.last)
        self._show_notices()
        self._go_by(ChatOverrides.read(stored.settings))  # what cannot be read of them stays as it is kept
        await self._branches.show(stored)
        gc.freeze()  # a long chat lives as long as it is open: the collector would look at all of it
        if unanswered and not self.desk.composer.text:
            self.desk.composer.write_again(attachments.typed(unanswered), attachments.names(unanswered))

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

    def rename(self, title: str) -> None:
        """Call this chat so."""
        if title and self._conversation.last:
            self._keeper.add(store.Rename(self._conversation.key, clean_line(title, TITLE)))
            self.notify("Titled.", timeout=4, markup=False)
        else:
            self.notify("Ask something first, then: /title WORDS", timeout=4, markup=False)

    async def export(self) -> None:
        """Write the chat as Markdown into the folder that the app was started in."""
        from tui.chat.export import export

        await self._keeper.settle()
        key = self._conversation.key
        try:
            stored = await self._keeper.ask(lambda store: store.read(key))
            path = export(stored, self._folder()) if stored else None
        except (Unreadable, OSError) as error:
            self.notify(clean_line(f"It is not written: {error}"), severity="error", markup=False)
            return
        words = f"Written: {path.name}" if path else "There is nothing to write yet."
        self.notify(clean_line(words), markup=False)

    async def move(self, words: str | None) -> None:
        """Let the engine run on another host, or `HERE`; the chat stays, an answer that comes is stopped.

        Without words they are asked for.
        """
        if not words:
            self.app.push_screen(self._hosts(), self._moved)
            return
        try:
            command, host = engine_on("" if words == HERE else words, self.settings.hosts)
        except HostError as error:
            self.notify(clean_line(str(error)), severity="error", markup=False)
            return
        await self._end_turn()
        await self._client.move(command, host)
        engine = replace(self.settings.engine, host=host.name if host else "")
        self._settings = replace(self.settings, engine=engine)
        self.desk.show_link("")
        await self._load_anew()

    async def set_exact(self, exact: bool) -> None:
        """Load the pair again, in exact mode or not; an answer that comes is stopped."""
        await self.action_stop()
        models = replace(self._settings.models, exact=exact)
        self._settings = replace(self._settings, models=models)
        self._clear_notices()
        await self._load_anew()

    # Settings

    def save_preset(self, name: str) -> None:
        """Keep what this chat has for itself as a preset in config.toml, and use that."""
        before = self.settings.preset(self.adjustments.preset_of(self.settings))
        values = dict(before.values if before else ()) | dict(self.adjustments.values)
        if not name or not values:
            self.notify("Change something first, such as /temperature 0.2; then: /save-preset NAME",
                        timeout=6, markup=False)  # fmt: skip
            return
        try:
            for key, value in values.items():
                change_config(self._config, ("presets", name, key), value)
        except (ConfigError, OSError) as error:
            self.notify(clean_line(f"It is not saved: {error}"), severity="error", markup=False)
            return
        others = tuple(each for each in self.settings.presets if each.name != name)
        self._settings = replace(self._settings, presets=(*others, Preset(name, tuple(values.items()))))
        self.adjust(ChatOverrides(name))
        self.notify(clean_line(f"Saved: /preset {name} takes it in any chat."), timeout=5, markup=False)

    def apply(self, settings: Settings) -> None:
        """Go on by other settings, as far as they hold at once."""
        before, self._settings = self._settings, settings
        if settings.generation.draft_length != before.generation.draft_length:
            self.set_drafting(DraftLength(settings.generation.draft_length))
        was, look = before.appearance, settings.appearance
        if look.highlight != was.highlight:  # else it stays as its key has set it since
            self.desk.set_highlight(look.highlight)
        if look.show_refused != was.show_refused:
            self.desk.transcript.show_refused = look.show_refused
        if look.sidebar != was.sidebar:
            self.desk.sidebar_mode = look.sidebar
        self._adjust_conversation()
        self._show_drafting()
        self._show_extras()

    # Drafting

    def action_drafting(self) -> None:
        """Draft as far as pays, always so far, or never: from the next round on."""
        self.set_drafting(self._drafting.next())

    def set_drafting(self, drafting: DraftLength) -> None:
        self._drafting = drafting
        self._client.set_draft_length(self._answering, draft_length(drafting.length))
        self._show_drafting()
        self._tick()
