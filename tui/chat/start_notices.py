"""The notices of a start and of an opened chat: the pair that came back, another model than before, the
number of models besides the demo. It loads and chooses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import aclosing, suppress

from tui import protocol, store
from tui.client import EngineClient, EngineError
from tui.paths import find_told
from tui.quantities import named

from . import formatting
from .view import ChatView
from .worker_notices import worker_notices


class Opening:
    """The banner until the first prompt, or until the person chooses another pair."""

    def __init__(
        self, client: EngineClient, view: ChatView, notices: Iterable[str], *, recalled: bool
    ) -> None:
        """`notices` are those of the start.

        `recalled`: the pair is the one that was chosen last, not the one that the config names.
        """
        self._client = client
        self._view = view
        self._notices = list(notices)
        self._recalled = recalled
        self._counting: asyncio.Task[None] | None = None
        self._answered_by = ""
        """The main model of the last answer of an opened chat; empty where it is unknown."""

    def opened(self, last: store.Turn | None) -> None:
        """Note that a chat was opened; `last` is its last turn."""
        self._answered_by = last.main if last else ""

    def loaded(self, loaded: protocol.Loaded, *, is_new: bool, folders: tuple[str, ...]) -> None:
        """Note that a pair is loaded; its main model may be new. Models in `folders` could be loaded in its
        place."""
        about_workers = worker_notices(loaded.workers, find_told())
        said = (formatting.rejected(loaded), formatting.form(loaded.main) if is_new else "", *about_workers)
        self._notices += [words for words in said if words and words not in self._notices]
        self.show(loaded)
        if loaded.main.demo and (self._counting is None or self._counting.done()):
            self._counting = asyncio.create_task(self._count(folders))

    def show(self, loaded: protocol.Loaded | None) -> None:
        """Show the notices about the pair that is `loaded`, or is loading if it is None."""
        found = [formatting.recalled(loaded)] if self._recalled else []
        if loaded and self._answered_by not in ("", loaded.main.name):
            found.append(
                f"{self._answered_by} gave the last answer of this chat; {named(loaded.main)} goes on."
            )
        self._view.show_notices([*found, *self._notices])

    def show_failure(self, lines: Sequence[str]) -> None:
        """Show why there is no pair, in `lines`."""
        self._view.show_notices([*self._notices, *lines], error=True)

    def over(self) -> None:
        """Hide the notices for good."""
        self._notices.clear()
        self._recalled, self._answered_by = False, ""
        self._view.show_notices(())

    async def _count(self, folders: tuple[str, ...]) -> None:
        """Show the number of models that could be loaded in place of the demo."""
        count = 0
        with suppress(EngineError):
            async with aclosing(self._client.ask(protocol.ListModels(0, folders))) as replies:
                async for reply in replies:
                    if isinstance(reply, protocol.ModelsFound):
                        count += sum(not model.demo for model in reply.models)
        self._view.show_found(count)
