"""The chat screen: its keys, and the actions behind them. The session does the work.

Keys that change the panel itself, such as the colors and the sidebar, are bound in `widgets/chat_panel.py`.

Other screens are imported when they are first shown, so that the first paint does not wait for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen

from tui.chat import attachments, slash
from tui.chat.connection import Phase
from tui.chat.requests import TurnRequest
from tui.chat.session import ChatSession
from tui.config import Settings
from tui.widgets.chat_panel import ChatPanel
from tui.widgets.composer import Composer
from tui.widgets.keyline import KeyLine
from tui.widgets.transcript import Transcript

from .background import work_alone
from .chat_commands import ChatCommands
from .message_actions import MessageActions
from .other_screens import OtherScreens
from .prompt_files import PromptFiles
from .transcript_sync import TranscriptSync


class ChatScreen(Screen[None]):
    """The conversation with its keys."""

    AUTO_FOCUS = "Composer"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (90, "-wide"), (170, "-roomy")]  # noqa: RUF012 (as Textual declares it)
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", id="chat.stop", tooltip="Stop the answer; its text stays"),
        Binding("escape", "cancel_edit", "Cancel edit", id="chat.cancel_edit",
                tooltip="Leave the earlier prompt as it was"),
        # First, because keys that come at once with Tab, after it, are meant for the messages.
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
        Binding("shift+f5", "summarize", "Sum up", show=False, id="chat.summarize",
                tooltip="A summary in place of the oldest turns"),
        Binding("f3", "drafting", "Drafting", show=False, id="chat.drafting",
                tooltip="Draft length: auto, always, never"),
    ]  # fmt: skip

    def __init__(
        self, session: ChatSession, config: Path, notices: Iterable[str] = (), *, recalled: bool = False
    ) -> None:
        """`config` is the path of config.toml. `notices` stand in the banner at first.

        `recalled`: the pair is the one that was chosen last.
        """
        super().__init__()
        self.session = session
        look = session.settings.appearance
        self.panel = ChatPanel(1 / look.frames_per_second, look.highlight, look.show_rejected, look.sidebar)
        self._sync = TranscriptSync(session.conversation, self.panel, session.keeper)
        session.show_on(self.panel, self._sync, notices, recalled=recalled)
        session.connection.on_phase = self.refresh_bindings
        self.others = OtherScreens(self, session)
        self.actions = MessageActions(self, session, self._sync, self.panel)
        self.slash = ChatCommands(self, session, self.actions, self.others, self.panel, config)
        self._files = PromptFiles(self, session, self.panel)

    def compose(self) -> ComposeResult:
        yield self.panel
        yield KeyLine()

    def on_mount(self) -> None:
        self.session.start()
        self.call_after_refresh(self.session.load)

    def on_unmount(self) -> None:
        self.session.close()

    @property
    def phase(self) -> Phase:
        return self.session.connection.phase

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide Esc from the footer while there is nothing to stop; leave Tab to an open suggestion."""
        if action == "read":
            return not (self.panel.suggestions.is_open or self.panel.transcript.has_focus)
        busy = self.session.connection.busy
        stoppable = busy or (self.phase == Phase.LOADING and not self._sync.edited.is_open)
        if action == "cancel_edit":
            return self._sync.edited.is_open and not stoppable
        if action == "stop":
            return busy if parameters else stoppable
        return True

    def apply(self, settings: Settings) -> None:
        """Use other settings, as far as they can change at once."""
        self.panel.apply(self.session.settings.appearance, settings.appearance)
        self.session.apply(settings)

    # The composer

    @on(Composer.Submitted)
    def _submitted(self, event: Composer.Submitted) -> None:
        """Run the text as a command, or send it as a prompt."""
        event.stop()
        if not self.slash.run(event.text, event.by_hand):
            self._files.send(event.text, event.by_hand, self._ask)

    def _ask(self, text: str, files: Sequence[attachments.File]) -> None:
        self.panel.composer.accept()
        self.session.show_extras()
        self._sync.make_room()
        messages = self.session.conversation.ask(*attachments.with_files(text, files))
        self._sync.show_prompt()
        self.session.answer(TurnRequest(messages))

    @on(Composer.Changed)
    def _typed(self, event: Composer.Changed) -> None:
        """Suggest completions of the word that is being typed."""
        event.stop()
        composer = self.panel.composer
        before = composer.before
        if before.startswith("/") and composer.document.line_count == 1:
            self.panel.suggestions.offer(slash.suggestions(before, self.slash.table()), before)
        elif "@" in before:
            self._files.suggest(before)
        else:
            self.panel.suggestions.offer(())
        self._files.typed(composer.by_hand)

    # Keys

    async def action_stop(self, only: str = "") -> None:
        """Stop the answer or the load; with `only`, only the answer."""
        await self.session.turn.stop()

    async def interrupt(self) -> bool:
        """Stop the answer. Returns False if there is none, or if it stops already."""
        if coming := self.phase in (Phase.WAITING, Phase.READING, Phase.ANSWERING):
            await self.session.turn.stop()
        return coming

    def action_cancel_edit(self) -> None:
        """Leave the edited prompt unchanged."""
        self._sync.edited.cancel()
        self.refresh_bindings()

    def action_read(self) -> None:
        """Move the cursor to the messages; Esc comes back."""
        if self.session.conversation.last:
            self.set_focus(self.panel.transcript)
            self.panel.transcript.read_last()

    def action_write(self) -> None:
        """Go back from the messages to the composer."""
        self.set_focus(self.panel.composer)

    @on(Transcript.Wanted)
    def _wanted(self, event: Transcript.Wanted) -> None:
        event.stop()
        if turn := self.session.conversation.turn(event.key):
            self.actions.want(event.want, turn)

    def action_new(self) -> None:
        self.others.new_chat()

    def action_history(self) -> None:
        self.others.history()

    def action_models(self) -> None:
        self.others.models()

    def action_race(self) -> None:
        self.actions.race()

    def action_inspect(self) -> None:
        self.actions.want_of_last("inspect", "this looks inside an answer")

    def action_editor(self) -> None:
        work_alone(self, "editor", self.actions.edit_prompt)

    def action_leave_out(self) -> None:
        self.actions.leave_out()

    def action_summarize(self) -> None:
        self.actions.summarize()

    def action_drafting(self) -> None:
        """Choose the next draft length: auto, fixed or off, from the next round on."""
        self.session.draft(self.session.drafting.next())
