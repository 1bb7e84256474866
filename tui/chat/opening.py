"""What is said when the app starts or a chat is opened: which pair came back, whether the chat had another
model, and how many models lie on the machine while only the demo is loaded. It loads and chooses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress

from tui import protocol, store
from tui.client import EngineClient, EngineError
from tui.quantities import named

from . import wording


class Opening:
    """Holds until the first prompt, or until another pair is chosen."""

    def __init__(self, client: EngineClient, show_found: Callable[[int], None], *, recalled: bool) -> None:
        """`show_found` gets the number of models that could be loaded in place of the demo.

        `recalled`: the pair is the one that was chosen last, not the one that the config names.
        """
        self._client = client
        self._show_found = show_found
        self._recalled = recalled
        self._counting: asyncio.Task[None] | None = None
        self._answered_by = ""
        """The main model of the last answer of a chat that was opened; empty where that is not known."""

    def opened(self, last: store.Turn | None) -> None:
        """A chat was opened that ends with `last`."""
        self._answered_by = last.main if last else ""

    def over(self) -> None:
        """There is nothing more to say."""
        self._recalled, self._answered_by = False, ""

    def notices(self, loaded: protocol.Loaded | None) -> list[str]:
        """What to say of the pair that is `loaded`, or is loading where it is None. Foreign text."""
        found = [wording.recalled(loaded)] if self._recalled else []
        if loaded and self._answered_by not in ("", loaded.main.name):
            found.append(
                f"{self._answered_by} gave the last answer of this chat; {named(loaded.main)} goes on."
            )
        return found

    def look_around(self, loaded: protocol.Loaded, folders: tuple[str, ...]) -> None:
        """Say how many models could be loaded in place of the demo."""
        if loaded.main.demo and (self._counting is None or self._counting.done()):
            self._counting = asyncio.create_task(self._count(folders))

    async def _count(self, folders: tuple[str, ...]) -> None:
        count = 0
        with suppress(EngineError):
            async with aclosing(self._client.ask(protocol.ListModels(0, folders))) as replies:
                async for reply in replies:
                    if isinstance(reply, protocol.ModelsFound):
                        count += sum(not model.demo for model in reply.models)
        self._show_found(count)
