"""The ways from the chat to other screens, and their results: a pair, a host, another chat.

Each screen is imported when it is first shown, so that the first paint does not wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.screen import Screen

from tui.chat.requests import HERE, Move, load_request
from tui.chat.session import ChatSession
from tui.config.last import PairSettings
from tui.host import known_to_ssh
from tui.paths import find_ssh_config
from tui.store.keeper import Unreadable

from .background import work_alone

if TYPE_CHECKING:
    from .hosts import HostsScreen


class OtherScreens:
    """The screens over one chat screen."""

    def __init__(self, screen: Screen[None], session: ChatSession) -> None:
        self._screen = screen
        self._session = session

    def models(self, words: str = "") -> None:
        """Choose another pair among the models whose names have `words`."""
        from .models import ModelsScreen

        load = load_request(self._session.settings)
        self._screen.app.push_screen(
            ModelsScreen(self._session.client, load, self._hosts, words), self.chosen
        )

    def _hosts(self) -> HostsScreen:
        from .hosts import HostsScreen

        host = self._session.client.host
        known = known_to_ssh(find_ssh_config())
        return HostsScreen(self._session.settings.hosts, known, host.name if host else HERE)

    async def chosen(self, choice: PairSettings | Move | None) -> None:
        """Load the chosen pair, or show the models of another host."""
        if isinstance(choice, Move):
            await self.move(choice.host)
            self.models()
        elif choice is not None:
            await self._session.load_pair(choice)

    async def move(self, name: str | None) -> None:
        """Move the engine to the host `name`; without a name, ask for one."""
        if name:
            await self._session.move(name)
        else:
            self._screen.app.push_screen(self._hosts(), self._moved)

    async def _moved(self, host: str | None) -> None:
        if host is not None:
            await self.move(host)

    # Chats

    def history(self) -> None:
        """Choose an earlier chat."""
        from .history import HistoryScreen

        session = self._session
        self._screen.app.push_screen(
            HistoryScreen(session.keeper, session.conversation.key), self._chosen_chat
        )

    def _chosen_chat(self, key: str | None) -> None:
        """Continue the chosen chat. None keeps the present chat, unless it was deleted meanwhile."""
        if key is not None:
            self.open_chat(key)
        elif self._session.conversation.key in self._session.keeper.deleted:
            self.new_chat()

    def open_chat(self, key: str) -> None:
        """Continue the chat `key`."""
        work_alone(self._screen, "change", self._session.open, key)

    def new_chat(self) -> None:
        """Begin another chat."""
        work_alone(self._screen, "change", self._session.new)

    async def open_named(self, words: str) -> None:
        """Continue the latest chat that contains `words`."""
        try:
            key = await self._session.keeper.ask(lambda store: store.named(words))
        except Unreadable:
            return  # the banner shows why
        if key:
            self.open_chat(key)
        else:
            self._session.view.tell("No chat to go on with" + (": none has these words" if words else ""))
