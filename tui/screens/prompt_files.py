"""The files that a prompt names by @path: suggest, list, count, ask about, and send them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from textual.screen import Screen

from tui import protocol
from tui.chat import attachments
from tui.chat.session import ChatSession
from tui.clean import clean_line
from tui.client import EngineError
from tui.widgets.chat_panel import ChatPanel

from .background import work_alone

COUNT_AFTER = 0.3
"""Seconds without a key before the tokens are counted."""

Ask = Callable[[str, Sequence[attachments.File]], None]
"""Sends a text with its files."""


class PromptFiles:
    """The files of the prompt in the composer."""

    def __init__(self, screen: Screen[None], session: ChatSession, panel: ChatPanel) -> None:
        self._screen = screen
        self._session = session
        self._panel = panel
        self._named: list[tuple[str, str]] = []
        """The files above the composer, each with the doubt about it."""
        self._counted = ""
        """The words about the files of the prompt."""

    def suggest(self, before: str) -> None:
        """Suggest files for the text `before` the cursor."""
        work_alone(self._screen, "files", self._suggest, before)

    def typed(self, by_hand: str) -> None:
        """Note a changed text; `by_hand` is its typed part."""
        if "@" in by_hand or self._counted or self._named:
            self._show(by_hand)
            work_alone(self._screen, "count", self._count, by_hand)

    async def _suggest(self, before: str) -> None:
        found = await asyncio.to_thread(attachments.suggestions, before, self._session.folder())
        if self._panel.composer.before == before:
            self._panel.suggestions.offer(found, before)

    def _show(self, by_hand: str) -> None:
        """Name every file that would go with the prompt now. Enter is handled after this."""
        found = attachments.found(by_hand, self._session.folder()) if "@" in by_hand else []
        self._named = [(each.name, each.doubt) for each in found if each.path.is_file()]
        self._panel.show_files(self._named)

    async def _count(self, text: str) -> None:
        """Show the number of named files, and of their tokens if a model can count them."""
        await asyncio.sleep(COUNT_AFTER)
        session = self._session
        try:
            files = await asyncio.to_thread(attachments.files_of, text, session.folder())
        except attachments.NotAttached as error:
            self._counted = str(error)
            session.show_extras(self._counted)
            return
        words = [f"{len(files)} files"] if len(files) > 1 else []
        if files and session.connection.loaded and not session.connection.busy:
            block, _ = attachments.with_files("", files)
            with suppress(EngineError):
                tokens = await session.client.count(protocol.Count(session.turn.draw_id(), block))
                words.append(f"{tokens:,} tokens{self._too_many(tokens)}")
        self._counted = " ".join(words)
        session.show_extras(self._counted)

    def _too_many(self, tokens: int) -> str:
        """Return a warning if the context has no room for `tokens`; else empty."""
        loaded, used = self._session.connection.loaded, self._session.meter.read().context_used or 0
        if loaded is None or not loaded.context_length or used + tokens < loaded.context_length:
            return ""
        if tokens >= loaded.context_length:
            return f": too many, the context holds {loaded.context_length:,}"
        return f": too many, {loaded.context_length - used:,} of the context are left"

    def send(self, text: str, by_hand: str, ask: Ask) -> None:
        """Call `ask` with the files that `by_hand` names, after a question about the doubtful ones."""
        session = self._session
        if session.rejects(sent=True):
            return
        try:
            files = attachments.files_of(by_hand, session.folder())
        except attachments.NotAttached as error:
            self._panel.tell(str(error), severity="error")
            return
        if missing := attachments.missing(by_hand, session.folder()):
            words = clean_line(", ".join(missing))
            self._panel.tell(f"There is no file {words} here: it is sent as text.", seconds=6)
        host = session.client.host
        doubtful = [(each.name, each.doubt) for each in files if host or each.doubt]
        if not doubtful:
            ask(text, files)
            return
        from .consent import ConsentScreen

        def answered(consent: bool | None) -> None:
            if consent and not session.rejects(sent=True):
                ask(text, files)

        self._screen.app.push_screen(ConsentScreen(doubtful, host.name if host else ""), answered)
