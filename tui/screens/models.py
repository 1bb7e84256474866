"""The load screen: the models of the engine's machine, and for the one under the cursor its drafts.

Letters go to the filter, arrows to the list; Tab changes between the two lists. It loads nothing: it ends
with what was chosen.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Footer, Input, Static

from tui.clean import clean_line
from tui.client import EngineClient, EngineError
from tui.protocol import (
    DraftsJudged,
    DraftVerdict,
    FoundModel,
    JudgeDrafts,
    ListModels,
    Load,
    ModelsFound,
    ModelsListed,
    Skipped,
)
from tui.quantities import context, parameters, size, speed_up
from tui.widgets.rows import Row, Rows

from .race import entrants, race
from .requests import LOOKUP, NAMED, Choice

PAUSE = 0.12
"""Seconds that the cursor rests before its model is judged."""
MARKS = {"recommended": "●", "possible": "○", "no": "×"}
TONES = {"recommended": "good", "possible": "plain", "no": "faint"}


class ModelsScreen(Screen[Choice | None]):
    """Ends with a `Choice`, or with None by Esc."""

    AUTO_FOCUS = "#filter"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (90, "-wide")]  # noqa: RUF012 (as Textual declares it)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "load", "Load", priority=True, id="models.load", tooltip="Load this pair"),
        Binding("tab,shift+tab", "change", "Drafts", priority=True, id="models.change",
                tooltip="Between main models and drafts"),
        Binding("up", "move(-1)", "Up", show=False, priority=True, id="models.up"),
        Binding("down", "move(1)", "Down", show=False, priority=True, id="models.down"),
        Binding("pageup", "page(-1)", "Page up", show=False, priority=True, id="models.pageup"),
        Binding("pagedown", "page(1)", "Page down", show=False, priority=True, id="models.pagedown"),
        Binding("ctrl+r", "race", "Race", id="models.race",
                tooltip="Have the drafts answer three prompts each, and see which one pays here"),
        Binding("ctrl+o", "skipped", "Left out", id="models.skipped",
                tooltip="What looks like a model and is none, and why"),
        Binding("escape", "back", "Back", id="models.back", tooltip="Back to the chat, nothing loaded"),
    ]  # fmt: skip
    DEFAULT_CSS = """
    ModelsScreen {
        #filter { height: 1; border: none; margin: 1 3 0 3; padding: 0; background: $background; }
        #lists { height: 1fr; margin: 1 2 0 2; }
        #mains { width: 3fr; }
        #drafts { width: 2fr; }
        #about { height: 4; margin: 0 4; color: $quiet; }
        &.-narrow #lists { margin: 1 0 0 0; }
        &.-narrow #mains { width: 1fr; }
        &.-narrow #drafts { width: 1fr; }
        &.-narrow #about { margin: 0 2; }
    }
    """

    def __init__(self, client: EngineClient, load: Load) -> None:
        """`load` is what is loaded now, or was to be."""
        super().__init__()
        self._client = client
        self._load = load
        self._models: list[FoundModel] = []
        self._skipped: tuple[Skipped, ...] = ()
        self._verdicts: tuple[DraftVerdict, ...] = ()
        self._showing_skipped = False
        self._racing = False
        self._raced = False
        """Whether something else is loaded by now than when this screen came."""
        self._at_home = False
        """Whether the cursor has found what is loaded, or was moved elsewhere."""
        self._waiting: Timer | None = None
        self._mains = Rows("mains", "looking for models …")
        self._drafts = Rows("drafts")
        self._about = Static(id="about", markup=False)

    def compose(self) -> ComposeResult:
        yield Input(placeholder="type to filter, arrows to choose", id="filter")
        with Horizontal(id="lists"):
            yield self._mains
            yield self._drafts
        yield self._about
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self._mains.border_title, self._drafts.border_title = "Main model", "Draft"
        self._mains.add_class("-active")
        self._list()

    # What the engine says

    @work(exclusive=True, group="list")
    async def _list(self) -> None:
        try:
            async for reply in self._client.ask(ListModels(0, self._load.folders)):
                match reply:
                    case ModelsFound():
                        self._add(reply.models)
                    case ModelsListed():
                        self._listed(reply)
        except EngineError as error:
            self._mains.empty = clean_line(error.line)
            self._mains.refresh()

    def _add(self, models: tuple[FoundModel, ...]) -> None:
        self._models += models
        self._models.sort(key=lambda model: (model.demo, model.name.casefold(), -model.size, model.path))
        self._show_models()
        if not self._at_home:
            self._go_home()

    def _listed(self, reply: ModelsListed) -> None:
        self._skipped = reply.skipped
        self._mains.empty = "no model has these words: shorten the filter"
        self._show_models()
        if all(model.demo for model in self._models):
            self.notify(
                "Only the built-in demo is here. What LM Studio, Hugging Face, Ollama and llama.cpp fetch is "
                "found by itself; name other folders in config.toml.",
                timeout=8,
                markup=False,
            )

    def _go_home(self) -> None:
        """Put the cursor on the model that is loaded."""
        starter = self._load.main in NAMED
        for model in self._found():
            if model.path == self._load.main or (starter and model.demo and "draft" not in model.name):
                self._mains.go_to(model.path)
                self._at_home = True

    @work(exclusive=True, group="judge")
    async def _judge(self, main: FoundModel) -> None:
        try:
            question = JudgeDrafts(0, replace(self._load, main=main.path, draft=None))
            async for reply in self._client.ask(question):
                if isinstance(reply, DraftsJudged):
                    self._show_verdicts(reply.verdicts)
        except EngineError as error:
            self._drafts.empty = clean_line(error.line)
            self._drafts.refresh()

    @work(exclusive=True, group="race")
    async def _race(self, main: FoundModel, drafts: list[DraftVerdict]) -> None:
        """Let `drafts` race for `main`, then judge them by what they brought."""
        self._raced = True
        load = replace(self._load, main=main.path)
        async with aclosing(race(self._client, load, drafts)) as laps:
            async for lap in laps:
                self._say(f"racing  {lap.done:.0%}  {lap.draft}")
                if lap.fault:
                    self.notify(clean_line(f"{lap.draft}: {lap.fault}"), markup=False)
        self._say("")
        if main == self._model():
            self._judge(main)

    def _say(self, words: str) -> None:
        """How far the race is, below the drafts; empty for none."""
        self._racing = bool(words)
        self._drafts.border_subtitle = clean_line(words)

    # What is shown

    def _found(self) -> list[FoundModel]:
        words = self.query_one(Input).value.casefold().split()
        return [model for model in self._models if all(word in _text(model) for word in words)]

    def _show_models(self) -> None:
        shown = len(self._skipped) if self._showing_skipped else len(self._models)
        self._mains.border_title = f"{'Left out' if self._showing_skipped else 'Main model'}  {shown:,}"
        left_out = len(self._skipped)
        self._mains.border_subtitle = f"{left_out:,} left out: ctrl+o" if left_out else ""
        if self._showing_skipped:
            rows = [Row(each.path, (each.path, each.reason), "faint") for each in self._skipped]
        else:
            rows = [_model_row(model) for model in self._found()]
        self._mains.show(rows)

    def _show_verdicts(self, verdicts: tuple[DraftVerdict, ...]) -> None:
        self._verdicts = verdicts
        self._drafts.show([_verdict_row(each) for each in verdicts], keep=False)
        self._describe()

    def _describe(self) -> None:
        """The model and the draft under the two cursors, in words."""
        lines: list[Content] = []
        if model := self._model():
            lines += [Content(clean_line(model.path)), Content(clean_line(_facts(model)))]
        if verdict := self._verdict():
            words = f"{MARKS[verdict.judgement]} {verdict.judgement}: {verdict.reason}"
            lines.append(Content.styled(clean_line(words), "$foreground"))
        self._about.update(Content("\n").join(lines))

    def _model(self) -> FoundModel | None:
        row = self._mains.current
        return next((each for each in self._models if row and each.path == row.key), None)

    def _verdict(self) -> DraftVerdict | None:
        row = self._drafts.current
        return next((each for each in self._verdicts if row and each.draft == row.key), None)

    # Keys

    @on(Input.Changed)
    def _filtered(self, event: Input.Changed) -> None:
        event.stop()
        self._at_home = True
        self._show_models()

    @on(Rows.Moved, "#mains")
    def _main_moved(self, event: Rows.Moved) -> None:
        event.stop()
        self._verdicts = ()
        self._drafts.empty = "looking for drafts …" if self._model() else ""
        self._drafts.show(())
        self._describe()
        if self._waiting:
            self._waiting.stop()
        self._waiting = self.set_timer(PAUSE, self._rest)

    def _rest(self) -> None:
        if model := self._model():
            self._judge(model)

    @on(Rows.Moved, "#drafts")
    def _draft_moved(self, event: Rows.Moved) -> None:
        event.stop()
        self._describe()

    def _active(self) -> Rows:
        return self._drafts if self._drafts.has_class("-active") else self._mains

    def action_change(self) -> None:
        for rows in (self._mains, self._drafts):
            rows.toggle_class("-active")

    def action_move(self, by: int) -> None:
        self._at_home = True
        self._active().move(by)

    def action_page(self, pages: int) -> None:
        rows = self._active()
        rows.move(pages * max(1, rows.scrollable_content_region.height - 1))

    def action_skipped(self) -> None:
        self._showing_skipped = not self._showing_skipped
        self._show_models()

    def action_race(self) -> None:
        model, drafts = self._model(), entrants(self._verdicts)
        if model and drafts and not self._racing:
            self._race(model, drafts)

    def action_load(self) -> None:
        """End with the pair under the cursors. Where no draft is judged yet, the engine chooses."""
        self.workers.cancel_group(self, "race")
        model, verdict = self._model(), self._verdict()
        if model is None:
            return
        if verdict and verdict.judgement == "no":
            self.notify(clean_line(f"{verdict.name} cannot draft: {verdict.reason}"), markup=False)
            return
        self.dismiss(Choice(model.path, verdict.draft if verdict else "auto"))

    def action_back(self) -> None:
        """Esc ends a race, empties the filter, goes back: one of these each time."""
        filter_ = self.query_one(Input)
        if self._racing:
            self.workers.cancel_group(self, "race")
            self._say("")
        elif filter_.value:
            filter_.value = ""
        else:
            self.dismiss(Choice(self._load.main, self._load.draft or LOOKUP) if self._raced else None)


def _model_row(model: FoundModel) -> Row:
    name = model.name + (" (demo)" if model.demo and "demo" not in model.name else "")
    cells = (name, size(model.size), model.quantisation, parameters(model.parameters), model.source)
    return Row(model.path, cells)


def _verdict_row(verdict: DraftVerdict) -> Row:
    brought = speed_up(verdict).replace("predicted ", "~") if verdict.draft and verdict.speed_up else ""
    name = f"{MARKS[verdict.judgement]} {verdict.name}"
    return Row(verdict.draft, (name, brought.partition(" over ")[0]), TONES[verdict.judgement])  # type: ignore[arg-type]


def _text(model: FoundModel) -> str:
    return f"{model.name} {model.path} {model.quantisation} {model.architecture} {model.source}".casefold()


def _facts(model: FoundModel) -> str:
    parts = [
        model.architecture,
        *model.traits,
        f"context {context(model.context_length)}",
        f"{model.vocabulary:,} tokens ({model.tokenizer})",
        "" if model.chat_template else "no chat template",
        model.licence,
        "runs with MLX" if model.backend == "mlx" else "",
    ]
    return " · ".join(filter(None, parts))
