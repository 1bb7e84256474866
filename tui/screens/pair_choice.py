"""The pair on the load screen: the drafts for one main model, and the memory plan of the pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace
from textual.screen import Screen
from textual.timer import Timer

from tui.choices import is_scripted
from tui.client import EngineClient, EngineError, last_reply
from tui.protocol import (
    DraftsJudged,
    DraftVerdict,
    FoundModel,
    JudgeDrafts,
    Load,
    MemoryPlanned,
    PlanMemory,
)
from tui.widgets.memory_bars import MemoryBars
from tui.widgets.rows import Rows

from .background import work_alone
from .main_models import MainModels
from .model_rows import measuring, verdict_row

PAUSE = 0.12
"""Seconds that the cursor must rest before its model is judged and its pair is planned."""
CONTEXTS = (0, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072)
"""Context lengths that F5 offers, in tokens; 0 is the model's own."""


class PairChoice:
    """The draft under the cursor, with the settings of the load."""

    def __init__(
        self,
        screen: Screen[Any],
        client: EngineClient,
        load: Load,
        mains: MainModels,
        describe: Callable[[], None],
    ) -> None:
        """`screen` runs the workers. `load` is the loaded pair. `describe` shows a new verdict."""
        self.rows = Rows("drafts", models=True)
        self.fit = MemoryBars("fit")
        self.asked = load
        """The load with the settings that a person changed here."""
        self.planned: MemoryPlanned | None = None
        """The memory of the pair under the cursors."""
        self.verdicts: dict[str, DraftVerdict] = {}
        self._screen = screen
        self._client = client
        self._load = load
        self._mains = mains
        self._describe = describe
        self._resting: Timer | None = None

    @property
    def verdict(self) -> DraftVerdict | None:
        """The verdict about the draft under the cursor."""
        row = self.rows.current
        return self.verdicts.get(row.key) if row else None

    def forget(self) -> None:
        """Forget the verdicts: another main model is under the cursor."""
        self._screen.workers.cancel_group(self._screen, "judge")  # it would judge for another model
        self.verdicts = {}
        self.rows.empty = "looking for drafts …" if self._mains.current else ""
        self.rows.show(())

    def rest(self) -> None:
        """Ask about the pair under the cursors when they have rested. Until then only its file sizes are
        known."""
        self.planned = None
        self._screen.workers.cancel_group(self._screen, "plan")
        model, verdict = self._mains.current, self.verdict
        draft = self._mains.found.model(verdict.draft) if verdict else None
        impossible = model is None or (verdict and verdict.judgement == "no")
        self.fit.show(None if impossible else self.asked, None, measuring(model, draft))
        if self._resting:
            self._resting.stop()
        self._resting = self._screen.set_timer(PAUSE, self._rested)

    def _rested(self) -> None:
        if wish := self._wish():
            work_alone(self._screen, "plan", self._plan, wish)
        elif (model := self._mains.current) and not self.verdicts:
            self.judge(model)

    def _wish(self) -> Load | None:
        """Return the pair under the cursors with the chosen settings, if it can be one."""
        model, verdict = self._mains.current, self.verdict
        if model is None or verdict is None or verdict.judgement == "no":
            return None
        return replace(self.asked, main=model.path, draft=verdict.draft)

    def judge(self, main: FoundModel) -> None:
        """Ask which drafts `main` can take."""
        work_alone(self._screen, "judge", self._judge, main)

    async def _judge(self, main: FoundModel) -> None:
        try:
            question = JudgeDrafts(0, replace(self._load, main=main.path))
            self._show_verdicts((await last_reply(self._client.ask(question), DraftsJudged)).verdicts)
        except EngineError as error:
            self.rows.say(error.line)

    def _show_verdicts(self, verdicts: tuple[DraftVerdict, ...]) -> None:
        self.verdicts = {each.draft: each for each in verdicts}
        self.rows.show([verdict_row(each) for each in verdicts], keep=False)
        self._describe()
        self.rest()

    async def _plan(self, load: Load) -> None:
        loaded = None if is_scripted(self._load.main) else self._load
        try:
            self.planned = await last_reply(self._client.ask(PlanMemory(0, load, loaded)), MemoryPlanned)
            self.fit.show(load, self.planned)
        except EngineError as error:
            self.fit.show(load, None, error.line)

    def change(self, setting: str) -> None:
        """Choose the next context length, the other type of the cache, or all layers on the GPU or none."""
        asked = self.asked
        match setting:
            case "context":
                trained = model.context_length if (model := self._mains.current) else 0
                longer = (length for length in CONTEXTS if length > asked.context_length)
                able = [length for length in longer if not trained or length <= trained]
                self.asked = replace(asked, context_length=able[0] if able else CONTEXTS[0])
            case "cache":
                self.asked = replace(asked, cache_type="f16" if asked.cache_type == "q8_0" else "q8_0")
            case "layers":
                self.asked = replace(asked, gpu_layers=-1 if asked.gpu_layers == 0 else 0)
        self.rest()
