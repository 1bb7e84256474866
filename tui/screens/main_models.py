"""The list of main models on the load screen. It grows during the search and names the files that were left
out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from textual.content import Content
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Static

from tui.chat.requests import STARTER
from tui.clean import clean_line
from tui.client import EngineClient, EngineError
from tui.protocol import FoundModel, ListModels, Load, ModelsFound, ModelsListed, Skipped
from tui.widgets.rows import Row, Rows

from .background import work_alone
from .model_rows import ModelRows

PATIENCE = 0.25
"""Seconds between two updates of a list that grows."""
NOT_FOUND = "no {} has these words: shorten the filter"


class MainModels:
    """The models, the filter on them, and the one under the cursor."""

    def __init__(self, client: EngineClient, load: Load, about: Static) -> None:
        """`load` is the loaded pair. `about` shows the remedy for an error."""
        self.rows = Rows("mains", "looking for models …", models=True)
        self.found = ModelRows()
        self.words = ""
        """The filter: only models with these words are shown."""
        self.at_home = False
        """Whether the cursor has reached the loaded model, or a person moved it."""
        self._client = client
        self._where = clean_line(f" · {client.host.name}") if client.host else ""
        self._load = load
        self._about = about
        self._skipped: tuple[Skipped, ...] = ()
        self._showing_skipped = False
        self._complete = False
        """Whether the engine has searched all folders."""
        self._growing: Timer | None = None

    @property
    def current(self) -> FoundModel | None:
        """The model under the cursor."""
        return self.found.get(self.rows.current)

    def look(self, screen: Screen[Any]) -> None:
        """Ask the engine for its models, in the background of `screen`."""
        work_alone(screen, "list", self._look, screen)

    async def _look(self, screen: Screen[Any]) -> None:
        found: dict[str, FoundModel] = {}
        try:
            async with aclosing(self._client.ask(ListModels(0, self._load.folders))) as replies:
                async for reply in replies:
                    match reply:
                        case ModelsFound():
                            found |= {model.path: model for model in reply.models}
                            self._add(screen, reply.models)
                        case ModelsListed():
                            self._listed(reply, tuple(found.values()))
        except EngineError as error:
            self.rows.say(error.message)
            self._about.update(Content(clean_line(error.hint)))

    def _add(self, screen: Screen[Any], models: Sequence[FoundModel]) -> None:
        """Show the first model at once, and others a few times a second, because keys come first."""
        self.found.add(models)
        if self._growing is None:
            self._grow()
            self._growing = screen.set_timer(PATIENCE, self._grow)

    def _grow(self) -> None:
        self._growing = None
        self.show()
        if not self.at_home:
            self._go_home()

    def _listed(self, reply: ModelsListed, found: Sequence[FoundModel]) -> None:
        """Show the complete list, without the models that are gone."""
        self.found.clear()
        self.found.add(found)
        self._skipped = reply.skipped
        self._complete = True
        self._grow()

    def _go_home(self) -> None:
        """Put the cursor on the loaded model."""
        starter = self._load.main == STARTER
        for model in self.found.models():
            if model.path == self._load.main or (starter and model.demo and "draft" not in model.name):
                self.rows.go_to(model.path)
                self.at_home = True

    def show(self) -> None:
        """Show the models, or the files that were left out, by the words of the filter."""
        if self._showing_skipped:
            self._show_skipped()
            return
        if self._complete:
            self.rows.empty = NOT_FOUND.format("model") if self.words else "no models here"
        self.rows.border_title = f"Main model  {len(self.found):,}{self._where}"
        left_out = len(self._skipped)
        if self._complete and all(model.demo for model in self.found.models()):
            self.rows.border_subtitle = "only the demo: ctrl+g gets more"
        else:
            self.rows.border_subtitle = f"{left_out:,} left out: ctrl+o" if left_out else ""
        self.rows.show(self.found.rows(self.words))

    def _show_skipped(self) -> None:
        self.rows.border_title = f"Left out  {len(self._skipped):,}"
        self.rows.border_subtitle = "models: ctrl+o"
        words = self.words.casefold().split()
        self.rows.empty = NOT_FOUND.format("file") if words else "nothing was left out"
        found = [
            Row(each.path, (each.path, each.reason), "faint")
            for each in self._skipped
            if all(word in f"{each.path} {each.reason}".casefold() for word in words)
        ]
        self.rows.show(found)

    def switch(self) -> None:
        """Show the files that were left out, or the models again."""
        self._showing_skipped = not self._showing_skipped
        self.show()
