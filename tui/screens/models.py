"""The load screen: the models of the engine's machine, for the one under the cursor its drafts, and for both
whether they fit.

Letters go to the filter, arrows to the list; Tab changes between the two lists. It loads nothing: it ends
with what was chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import ClassVar

from msgspec.structs import replace
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Input, Static

from tui.chat.draft_race import Lap, entrants, race
from tui.chat.requests import LOOKUP, NAMED, NONE, Choice, Move
from tui.clean import clean_line
from tui.client import EngineClient, EngineError
from tui.protocol import (
    CacheType,
    DraftsJudged,
    DraftVerdict,
    FoundModel,
    JudgeDrafts,
    ListModels,
    Load,
    MemoryPlanned,
    ModelsFound,
    ModelsListed,
    PlanMemory,
    Skipped,
)
from tui.quantities import prompt_form, size
from tui.widgets.fit import Fit
from tui.widgets.keyline import KeyLine
from tui.widgets.rows import Row, Rows

from .found import Found, facts, judged, measuring, progress, verdict_row
from .hosts import HostsScreen
from .lists import ListsScreen

PAUSE = 0.12
"""Seconds that the cursor rests before its model is judged, and its pair is planned."""
PATIENCE = 0.25
"""Seconds between two showings of a list that grows."""
NOT_FOUND = "no {} has these words: shorten the filter"
CONTEXTS = (0, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072)
"""Tokens that F5 goes through; 0 is the model's own."""


class ModelsScreen(ListsScreen[Choice | Move | None]):
    """Ends with a `Choice`, with a `Move` to another machine's models, or with None by Esc."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "load", "Load", priority=True, id="models.load", tooltip="Load this pair"),
        Binding("tab", "change(1)", "Drafts", priority=True, id="models.change",
                tooltip="Between main models and drafts"),
        Binding("ctrl+r", "race", "Race", id="models.race",
                tooltip="Let the drafts race: three prompts each"),
        Binding("ctrl+g", "hub", "Get more", priority=True, id="models.hub",
                tooltip="Download models from the Hugging Face hub"),
        Binding("ctrl+o", "skipped", "Left out", show=False, id="models.skipped",
                tooltip="Files that were left out, and why"),
        Binding("f3", "host", "Host", id="models.host",
                tooltip="Let the engine run on another machine"),
        Binding("f5", "context", "Context", show=False, id="models.context",
                tooltip="A longer context, then the shortest again"),
        Binding("f6", "cache", "Cache", show=False, id="models.cache",
                tooltip="The main model's KV cache: 16 bits, or 8"),
        Binding("f7", "layers", "Layers", show=False, id="models.layers",
                tooltip="All layers on the GPU, or none"),
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
        """`load` is what is loaded now, or was to be; `hosts` makes a screen to choose a host on; only models
        with `words` are shown at first."""
        self._mains = Rows("mains", "looking for models …", models=True)
        self._drafts = Rows("drafts", models=True)
        super().__init__("type to filter, arrows to choose", (self._mains, self._drafts))
        self.line.value = words
        self._client = client
        self._where = clean_line(f" · {client.host.name}") if client.host else ""
        self._hosts = hosts
        self._load = load
        self._asked = load
        """As `_load`, with the settings that were changed here."""
        self._found = Found()
        self._skipped: tuple[Skipped, ...] = ()
        self._verdicts: dict[str, DraftVerdict] = {}
        self._planned: MemoryPlanned | None = None
        """Of the pair under the cursors."""
        self._insisted: Load | None = None
        """What does not fit and was chosen all the same."""
        self._showing_skipped = False
        self._lap: Lap | None = None
        """How far the race is that is run."""
        self._raced = False
        """Whether something else is loaded by now than when this screen came."""
        self._complete = False
        """Whether the engine has looked everywhere."""
        self._at_home = False
        """Whether the cursor has found what is loaded, or was moved elsewhere."""
        self._resting: Timer | None = None
        self._growing: Timer | None = None
        self._verdict_line = Static(id="verdict", markup=False)
        self._fit = Fit("fit")
        self._about = Static(id="about", markup=False)

    def compose(self) -> ComposeResult:
        yield self.line
        with Horizontal(classes="beside"):
            yield self._mains
            yield self._drafts
        yield self._verdict_line
        yield self._fit
        yield self._about
        yield KeyLine()

    def on_mount(self) -> None:
        self._drafts.border_title = "Draft"
        self.activate(self._mains)

    def on_screen_resume(self) -> None:
        """At first, and when what was fetched meanwhile may have come."""
        self._list()

    # What the engine says

    @work(exclusive=True, group="list")
    async def _list(self) -> None:
        found: dict[str, FoundModel] = {}
        try:
            async with aclosing(self._client.ask(ListModels(0, self._load.folders))) as replies:
                async for reply in replies:
                    match reply:
                        case ModelsFound():
                            found |= {model.path: model for model in reply.models}
                            self._add(reply.models)
                        case ModelsListed():
                            self._listed(reply, tuple(found.values()))
        except EngineError as error:
            self._mains.say(error.message)
            self._about.update(Content(clean_line(error.hint)))

    def _add(self, models: Sequence[FoundModel]) -> None:
        """Show the first at once, and the others a few times a second: keys go before."""
        self._found.add(models)
        if self._growing is None:
            self._grow()
            self._growing = self.set_timer(PATIENCE, self._grow)

    def _grow(self) -> None:
        self._growing = None
        self._show_models()
        if not self._at_home:
            self._go_home()

    def _listed(self, reply: ModelsListed, found: Sequence[FoundModel]) -> None:
        """All are there, and none that is not there any more."""
        self._found.clear()
        self._found.add(found)
        self._skipped = reply.skipped
        self._complete = True
        self._grow()

    def _go_home(self) -> None:
        """Put the cursor on the model that is loaded."""
        starter = self._load.main in NAMED
        for model in self._found.models():
            if model.path == self._load.main or (starter and model.demo and "draft" not in model.name):
                self._mains.go_to(model.path)
                self._at_home = True

    @work(exclusive=True, group="judge")
    async def _judge(self, main: FoundModel) -> None:
        try:
            question = JudgeDrafts(0, replace(self._load, main=main.path, draft=None))
            async with aclosing(self._client.ask(question)) as replies:
                async for reply in replies:
                    if isinstance(reply, DraftsJudged):
                        self._show_verdicts(reply.verdicts)
        except EngineError as error:
            self._drafts.say(error.line)

    @work(exclusive=True, group="plan")
    async def _plan(self, load: Load) -> None:
        loaded = None if self._load.main.startswith("scripted:") else self._load
        try:
            async with aclosing(self._client.ask(PlanMemory(0, load, loaded))) as replies:
                async for reply in replies:
                    if isinstance(reply, MemoryPlanned):
                        self._planned = reply
                        self._fit.show(load, reply)
        except EngineError as error:
            self._fit.show(load, None, error.line)

    @work(exclusive=True, group="race")
    async def _race(self, main: FoundModel, drafts: list[DraftVerdict]) -> None:
        """Let `drafts` race for `main`, then judge them by what they brought."""
        self._raced = True
        load = replace(self._asked, main=main.path)
        await race(self._client, load, drafts, self._show_race)
        self._show_race(None)
        if main == self._model():
            self._judge(main)

    def _show_race(self, lap: Lap | None) -> None:
        """How far the race is, where a verdict stands otherwise."""
        self._lap = lap
        if lap and lap.fault:
            self.notify(clean_line(f"{lap.draft}: {lap.fault}"), markup=False)
        self._describe()

    # What is shown

    def _show_models(self) -> None:
        left_out = len(self._skipped)
        if self._showing_skipped:
            self._mains.border_title = f"Left out  {left_out:,}"
            self._mains.border_subtitle = "models: ctrl+o"
            words = self.typed.casefold().split()
            self._mains.empty = NOT_FOUND.format("file") if words else "nothing was left out"
            found = [
                Row(each.path, (each.path, each.reason), "faint")
                for each in self._skipped
                if all(word in f"{each.path} {each.reason}".casefold() for word in words)
            ]
            self._mains.show(found)
            return
        if self._complete:
            self._mains.empty = NOT_FOUND.format("model") if self.typed else "no models here"
        self._mains.border_title = f"Main model  {len(self._found):,}{self._where}"
        if self._complete and all(model.demo for model in self._found.models()):
            self._mains.border_subtitle = "only the demo: ctrl+g gets more"
        else:
            self._mains.border_subtitle = f"{left_out:,} left out: ctrl+o" if left_out else ""
        self._mains.show(self._found.rows(self.typed))

    def _show_verdicts(self, verdicts: tuple[DraftVerdict, ...]) -> None:
        self._verdicts = {each.draft: each for each in verdicts}
        self._drafts.show([verdict_row(each) for each in verdicts], keep=False)
        self._describe()
        self._rest()

    def _describe(self) -> None:
        """The draft and the model under the two cursors, in words; how far the race is, while one is run."""
        model, verdict = self._model(), self._verdict()
        words = judged(verdict) if verdict else Content("")
        self._verdict_line.update(progress(self._lap) if self._lap else words, layout=False)
        lines = [Content(clean_line(facts(model))), Content(clean_line(model.path))] if model else []
        if model and (form := prompt_form(model)):
            lines.append(Content.styled(form, "$warning"))
        self._about.update(Content("\n").join(lines), layout=False)

    def _model(self) -> FoundModel | None:
        return self._found.get(self._mains.current)

    def _verdict(self) -> DraftVerdict | None:
        row = self._drafts.current
        return self._verdicts.get(row.key) if row else None

    def _wish(self) -> Load | None:
        """The pair under the cursors with the settings as they are asked for, if it can be one."""
        model, verdict = self._model(), self._verdict()
        if model is None or verdict is None or verdict.judgement == "no":
            return None
        draft = None if verdict.draft in (LOOKUP, NONE) else verdict.draft
        return replace(self._asked, main=model.path, draft=draft)

    # Keys

    @on(Input.Changed)
    def _filtered(self, event: Input.Changed) -> None:
        event.stop()
        self._at_home = True
        self._show_models()

    @on(Rows.Moved, "#mains")
    def _main_moved(self, event: Rows.Moved) -> None:
        event.stop()
        self.workers.cancel_group(self, "judge")  # what it says would be of another model
        self._verdicts = {}
        self._drafts.empty = "looking for drafts …" if self._model() else ""
        self._drafts.show(())
        self._describe()
        self._rest()

    @on(Rows.Moved, "#drafts")
    def _draft_moved(self, event: Rows.Moved) -> None:
        event.stop()
        self._describe()
        self._rest()

    def _rest(self) -> None:
        """Ask about what the cursors are on, once they stay there; until then only its files are known."""
        self._planned = None
        self.workers.cancel_group(self, "plan")
        model, verdict = self._model(), self._verdict()
        draft = self._found.model(verdict.draft) if verdict else None
        impossible = model is None or (verdict and verdict.judgement == "no")
        self._fit.show(None if impossible else self._asked, None, measuring(model, draft))
        if self._resting:
            self._resting.stop()
        self._resting = self.set_timer(PAUSE, self._rested)

    def _rested(self) -> None:
        if wish := self._wish():
            self._plan(wish)
        elif (model := self._model()) and not self._verdicts:
            self._judge(model)

    def action_move(self, by: int) -> None:
        self._at_home = True
        super().action_move(by)

    def action_skipped(self) -> None:
        self._showing_skipped = not self._showing_skipped
        self._show_models()

    async def action_hub(self) -> None:
        await self.app.run_action("app.hub")

    def action_host(self) -> None:
        if self._hosts and not self._lap:
            self.app.push_screen(self._hosts(), self._moved)

    def _moved(self, host: str | None) -> None:
        if host is not None:
            self.dismiss(Move(host))

    def action_race(self) -> None:
        model, drafts = self._model(), entrants(list(self._verdicts.values()))
        if model and drafts and not self._lap:
            self._race(model, drafts)

    def action_context(self) -> None:
        longer = [each for each in CONTEXTS if each > self._asked.context_length]
        model = self._model()
        trained = model.context_length if model else 0
        able = [each for each in longer if not trained or each <= trained]
        self._ask_for(replace(self._asked, context_length=able[0] if able else CONTEXTS[0]))

    def action_cache(self) -> None:
        wider: CacheType = "f16" if self._asked.cache_type == "q8_0" else "q8_0"
        self._ask_for(replace(self._asked, cache_type=wider))

    def action_layers(self) -> None:
        self._ask_for(replace(self._asked, gpu_layers=-1 if self._asked.gpu_layers == 0 else 0))

    def _ask_for(self, load: Load) -> None:
        self._asked = load
        self._rest()

    def action_load(self) -> None:
        """End with the pair under the cursors. Where no draft is judged yet, the engine chooses."""
        self.workers.cancel_group(self, "race")
        model, verdict, planned = self._model(), self._verdict(), self._planned
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
        load = planned.load if planned else self._asked
        self.dismiss(
            Choice(
                model.path,
                verdict.draft if verdict else "auto",
                load.context_length,
                load.cache_type,
                load.gpu_layers,
            )
        )

    async def interrupt(self) -> bool:
        """End the race that is run; False if none is."""
        if running := self._lap is not None:
            self.action_back()
        return running

    def action_back(self) -> None:
        """Esc ends a race, empties the filter, goes back: one of these each time."""
        if self._lap:
            self.workers.cancel_group(self, "race")
            self._show_race(None)
        elif not self.empty_line():
            self.dismiss(Choice.of(self._load) if self._raced else None)
