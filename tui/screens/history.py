"""Earlier chats: search while typing, read the beginning, open, rename, pin, delete, restore, export.

Letters go to the search, arrows to the list. The screen ends with the key of the chosen chat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input, Static

from tui.chat.export import export
from tui.clean import clean_line
from tui.protocol.thoughts import without_thought
from tui.quantities import moment
from tui.store.changes import Change, DeleteConversation, PinConversation, RenameConversation
from tui.store.keeper import Keeper, Unreadable
from tui.store.store import Listed
from tui.widgets.keyline import KeyLine
from tui.widgets.rows import Row, Rows
from tui.widgets.transcript import Transcript

from .line_input import LineScreen
from .list_screen import ListsScreen

PAUSE = 0.08
"""Seconds without a key before the search runs, and before the beginning of the chat under the cursor is
read."""
TITLE = 200
"""Characters of a title, at most."""


class HistoryScreen(ListsScreen[str | None]):
    """Ends with the key of a chat, or with None by Esc."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", priority=True, id="history.open", tooltip="Go on with this chat"),
        Binding("ctrl+r", "rename", "Rename", priority=True, id="history.rename", tooltip="Another title"),
        Binding("ctrl+t", "pin", "Pin", priority=True, id="history.pin", tooltip="To the top, or back"),
        Binding("ctrl+x", "delete", "Delete", priority=True, id="history.delete",
                tooltip="Delete it; for good when Outrider ends"),
        Binding("ctrl+z", "undo", "Undo", priority=True, id="history.undo", tooltip="Take a deletion back"),
        Binding("ctrl+e", "export", "Export", priority=True, id="history.export",
                tooltip="Write it as Markdown into this folder"),
        Binding("escape", "back", "Back", id="history.back", tooltip="Back to the chat"),
    ]  # fmt: skip
    DEFAULT_CSS = """
    HistoryScreen {
        #chats { width: 1fr; }
        #preview {
            width: 1fr;
            height: 1fr;
            padding: 0 1;
            border: round $line;
            border-title-color: $quiet;
            border-subtitle-color: $quiet;
            #hit { height: auto; margin-bottom: 1; color: $token-lookup; }
            #said { height: 1fr; }
        }
        &.-narrow .beside { layout: vertical; }
        &.-narrow #chats, &.-narrow #preview { width: 100%; }
    }
    """

    def __init__(
        self, keeper: Keeper, current: str = "", folder: Callable[[], Path] = Path.cwd,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:  # fmt: skip
        """`current` is the open chat; exports go to `folder`."""
        self._chats = Rows("chats", "looking for chats …")
        super().__init__("search titles and texts", (self._chats,))
        self._keeper = keeper
        self._current = current
        self._folder = folder
        self._now = now
        self._found: dict[str, Listed] = {}
        self._gone: list[str] = []
        """Keys of the chats that were deleted here, the latest last."""
        self._preview = Vertical(id="preview")
        self._hit = Static(id="hit", markup=False)
        self._said = Transcript(id="said")

    def compose(self) -> ComposeResult:
        yield self.line
        with Horizontal(classes="beside"):
            yield self._chats
            with self._preview:
                yield from (self._hit, self._said)
        yield KeyLine()

    def on_mount(self) -> None:
        self.activate(self._chats)
        self._said.highlight = "off"
        self._list()

    # Results of the store

    @work(exclusive=True, group="list")
    async def _list(self) -> None:
        words = self.typed
        try:
            found = await self._keeper.ask(lambda store: store.listed(words))
        except Unreadable as error:
            self._chats.say(f"the chats cannot be read: {error}")
            return
        self._found = {each.key: each for each in found}
        self._chats.border_title = f"Chats  {len(found):,}"
        self._chats.empty = "no chat has these words" if words else "no chat yet: Esc, and ask something"
        self._chats.show([self._row(each) for each in found])
        self._look()

    def _row(self, chat: Listed) -> Row:
        marks = ["open"] * (chat.key == self._current) + ["pinned"] * chat.pinned
        return Row(chat.key, (chat.title, ", ".join(marks), moment(chat.written, self._now())))

    @work(exclusive=True, group="look")
    async def _look(self) -> None:
        """Show the beginning of the chat under the cursor."""
        if (chat := self._chat()) is None:
            self._preview.border_title = self._preview.border_subtitle = ""
            self._say("")
            self._said.writer.clear()
            return
        await asyncio.sleep(PAUSE)
        try:
            found = await self._keeper.ask(lambda store: store.preview(chat.key))
        except Unreadable as error:
            self._said.writer.clear()
            self._say(str(error))
            return
        self._say(chat.hit)
        self._said.writer.clear()
        for role, text in found.said:
            self._said.writer.begin("user" if role == "user" else "assistant", without_thought(text).strip())
            self._said.writer.finish()
        self._said.following = False
        self._said.scroll_home(animate=False)
        beside = chat.messages - found.messages
        count = f"{found.messages:,} message{'s' * (found.messages != 1)}"
        self._preview.border_title = count + (f", {beside:,} in other branches" if beside > 0 else "")
        self._preview.border_subtitle = clean_line(found.main)

    def _say(self, words: str) -> None:
        """Show `words` above the beginning of the chat; empty takes no room. Foreign text."""
        self._hit.update(Content(clean_line(words)))
        self._hit.display = bool(words)

    def _chat(self) -> Listed | None:
        row = self._chats.current
        return self._found.get(row.key) if row else None

    def _change(self, change: Change) -> None:
        self._keeper.add(change)
        self._list()

    # Keys

    @on(Input.Changed, "#line")
    async def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._list()

    @on(Rows.Moved)
    def _moved(self, event: Rows.Moved) -> None:
        event.stop()
        self._look()

    def action_open(self) -> None:
        if chat := self._chat():
            self.dismiss(None if chat.key == self._current else chat.key)

    def action_rename(self) -> None:
        chat = self._chat()
        if chat is None:
            return

        def rename(title: str | None) -> None:
            if title and title.strip():
                self._change(RenameConversation(chat.key, clean_line(title.strip(), TITLE)))

        self.app.push_screen(LineScreen("Title", clean_line(chat.title)), rename)

    def action_pin(self) -> None:
        if chat := self._chat():
            self._change(PinConversation(chat.key, not chat.pinned))

    def action_delete(self) -> None:
        if chat := self._chat():
            self._gone.append(chat.key)
            self._change(DeleteConversation(chat.key))
            self.notify(clean_line(f"Deleted: {chat.title}. Ctrl+Z takes it back."), markup=False)

    def action_undo(self) -> None:
        if self._gone:
            self._change(DeleteConversation(self._gone.pop(), deleted=False))

    @work(exclusive=True, group="export")
    async def action_export(self) -> None:
        if (chat := self._chat()) is None:
            return
        try:
            stored = await self._keeper.read(chat.key)
            path = export(stored, self._folder()) if stored else None
        except (Unreadable, OSError) as error:
            self.notify(f"It is not written: {error}", severity="error", markup=False)
            return
        if path:
            self.notify(clean_line(f"Written: {path}"), markup=False)
