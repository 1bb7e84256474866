"""The load screen: the models of the engine's machine, the drafts for the model under the cursor, and the
memory that the pair needs.

Letters go to the filter, arrows to the list; Tab changes between the two lists. It loads nothing: it ends
with the chosen pair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Input, Static

from tui.chat.requests import Move
from tui.choices import AUTO
from tui.clean import clean_line
from tui.client import EngineClient
from tui.config.last import PairSettings
from tui.protocol import Load
from tui.quantities import prompt_form, size
from tui.widgets.keyline import KeyLine
from tui.widgets.rows import Rows

from .draft_copy import DraftCopy
from .hosts import HostsScreen
from .list_screen import ListsScreen
from .main_models import MainModels
from .model_rows import copying, facts, judged, progress
from .pair_choice import PairChoice
from .pair_race import PairRace


class ModelsScreen(ListsScreen[PairSettings | Move | None]):
    """Ends with the `PairSettings`, with a `Move` to another machine's models, or with None by Esc."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "load", "Load", priority=True, id="models.load", tooltip="Load this pair"),
        Binding("tab", "change(1)", "Drafts", priority=True, id="models.change",
                tooltip="Between main models and drafts"),
        Binding("ctrl+r", "race", "Race", id="models.race",
                tooltip="Let the drafts race: three prompts each"),
        Binding("ctrl+g", "app.hub", "Get more", priority=True, id="models.hub",
                tooltip="Download models from the Hugging Face hub"),
        Binding("ctrl+o", "skipped", "Left out", show=False, id="models.skipped",
                tooltip="Files that were left out, and why"),
        Binding("f3", "host", "Host", id="models.host",
                tooltip="Let the engine run on another machine"),
        Binding("f5", "setting('context')", "Context", show=False, id="models.context",
                tooltip="A longer context, then the shortest again"),
        Binding("f6", "setting('cache')", "Cache", show=False, id="models.cache",
                tooltip="The main model's KV cache: 16 bits, or 8"),
        Binding("f7", "setting('layers')", "Layers", show=False, id="models.layers",
                tooltip="All layers on the GPU, or none"),
        Binding("f8", "copy", "Copy", show=False, id="models.copy",
                tooltip="Write a faster copy of this draft in Q4_0"),
        Binding("escape", "back", "Back", id="models.back", tooltip="Back to the chat, nothing loaded"),
    ]  # fmt: skip
    DEFAULT_CSS = """
    ModelsScreen {
        #mains { width: 3fr; }
        #drafts { width: 2fr; }
        #verdict { height: 2; margin: 0 4; }
        #about { height: 2; }
        &.-narrow #mains { width: 1fr; }
        &.-narrow #drafts { width: 1fr; }
        &.-narrow #fit, &.-narrow #verdict { margin: 0 2; }
    }
    """

    def __init__(
        self,
        client: EngineClient,
        load: Load,
        hosts: Callable[[], HostsScreen] | None = None,
        words: str = "",
    ) -> None:
        """`load` is the pair that is loaded or was asked for. `hosts` makes a screen for the choice of a
        host.

        At first, only models with `words` are shown.
        """
        self._about = Static(id="about", markup=False)
        self._mains = MainModels(client, load, self._about)
        self._pair = PairChoice(self, client, load, self._mains, self._describe)
        self._copy = DraftCopy(self, client, self._mains, self._pair, self._describe)
        self._race = PairRace(self, client, self._mains, self._pair, self._describe)
        super().__init__("type to filter, arrows to choose", (self._mains.rows, self._pair.rows))
        self.line.value = self._mains.words = words
        self._hosts = hosts
        self._load = load
        self._insisted: Load | None = None
        """The load that was chosen although it does not fit."""
        self._verdict_line = Static(id="verdict", markup=False)

    def compose(self) -> ComposeResult:
        yield self.line
        with Horizontal(classes="beside"):
            yield self._mains.rows
            yield self._pair.rows
        yield self._verdict_line
        yield self._pair.fit
        yield self._about
        yield KeyLine()

    def on_mount(self) -> None:
        self._pair.rows.border_title = "Draft"
        self.activate(self._mains.rows)

    def on_screen_resume(self) -> None:
        """Ask for the models: at first, and after a screen that may have downloaded one."""
        self._mains.look(self)

    def _describe(self) -> None:
        """Describe the draft and the model under the cursors; during a race, show its progress."""
        model, verdict = self._mains.current, self._pair.verdict
        words = judged(verdict, copy_pays=self._copy.pays) if verdict else Content("")
        if copy := self._copy.progress:
            words = copying(copy)
        self._verdict_line.update(progress(self._race.lap) if self._race.lap else words, layout=False)
        lines = [Content(clean_line(facts(model))), Content(clean_line(model.path))] if model else []
        if model and (form := prompt_form(model)):
            lines.append(Content.styled(form, "$warning"))
        self._about.update(Content("\n").join(lines), layout=False)

    # Keys

    def action_race(self) -> None:
        self._race.begin()

    @on(Input.Changed)
    def _filtered(self, event: Input.Changed) -> None:
        event.stop()
        self._mains.at_home = True
        self._mains.words = self.typed
        self._mains.show()

    @on(Rows.Moved)
    def _cursor_moved(self, event: Rows.Moved) -> None:
        event.stop()
        if event.control is self._mains.rows:
            self._pair.forget()
        self._describe()
        self._pair.rest()

    def action_move(self, by: int) -> None:
        self._mains.at_home = True
        super().action_move(by)

    def action_skipped(self) -> None:
        self._mains.switch()

    def action_host(self) -> None:
        if self._hosts and not self._race.lap:
            self.app.push_screen(self._hosts(), self._moved)

    def _moved(self, host: str | None) -> None:
        if host is not None:
            self.dismiss(Move(host))

    def action_copy(self) -> None:
        self._copy.begin()

    def action_setting(self, name: str) -> None:
        self._pair.change(name)

    def action_load(self) -> None:
        """End with the pair under the cursors. Without a judged draft, the engine chooses one."""
        self._race.stop()
        model, verdict, planned = self._mains.current, self._pair.verdict, self._pair.planned
        if model is None:
            return
        if verdict and verdict.judgement == "no":
            self.notify(clean_line(f"{verdict.name} cannot draft: {verdict.reason}"), markup=False)
            return
        if planned and not planned.fits and self._insisted != planned.load:
            self._insisted = planned.load
            short = next(use for use in planned.uses if use.needed > use.free)
            words = f"It needs {size(short.needed)}, {size(short.free)} are free. Enter again insists."
            self.notify(words, severity="warning", timeout=8, markup=False)
            return
        load = planned.load if planned else self._pair.asked
        draft = verdict.draft if verdict else AUTO
        self.dismiss(PairSettings(model.path, draft, load.context_length, load.cache_type, load.gpu_layers))

    async def interrupt(self) -> bool:
        """End the race or the copy. Returns False if there is none."""
        if running := self._race.lap is not None or self._copy.progress is not None:
            self.action_back()
        return running

    def action_back(self) -> None:
        """End the race or the copy, empty the filter, or leave the screen: the first that is possible."""
        if not (self._race.stop() or self._copy.stop() or self.empty_line()):
            self.dismiss(PairSettings.of(self._load) if self._race.has_run else None)
