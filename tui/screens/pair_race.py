"""The race of the drafts on the load screen, for the main model under the cursor. `chat/draft_race.py` runs
it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace
from textual.screen import Screen

from tui.chat.draft_race import Lap, entrants, race
from tui.clean import clean_line
from tui.client import EngineClient
from tui.protocol import DraftVerdict, FoundModel

from .background import work_alone
from .main_models import MainModels
from .pair_choice import PairChoice


class PairRace:
    """One race at a time, with its progress."""

    def __init__(
        self,
        screen: Screen[Any],
        client: EngineClient,
        mains: MainModels,
        pair: PairChoice,
        describe: Callable[[], None],
    ) -> None:
        """The race runs in the background of `screen`. `describe` shows the progress and its end."""
        self.lap: Lap | None = None
        """The progress; None while there is no race."""
        self.has_run = False
        """Whether a race has loaded another pair."""
        self._screen = screen
        self._client = client
        self._mains = mains
        self._pair = pair
        self._describe = describe

    def begin(self) -> None:
        """Let the drafts race for the main model under the cursor, unless they race already."""
        model, drafts = self._mains.current, entrants(list(self._pair.verdicts.values()))
        if model and drafts and not self.lap:
            work_alone(self._screen, "race", self._run, model, drafts)

    def stop(self) -> bool:
        """End the race. Return False if there is none."""
        if self.lap is None:
            return False
        self._screen.workers.cancel_group(self._screen, "race")
        self._show(None)
        return True

    async def _run(self, main: FoundModel, drafts: list[DraftVerdict]) -> None:
        """Let `drafts` race for `main`, then judge them by their results."""
        self.has_run = True
        load = replace(self._pair.asked, main=main.path)
        await race(self._client, load, drafts, self._show)
        self._show(None)
        if main == self._mains.current:
            self._pair.judge(main)

    def _show(self, lap: Lap | None) -> None:
        self.lap = lap
        if lap and lap.fault:
            self._screen.notify(clean_line(f"{lap.draft}: {lap.fault}"), markup=False)
        self._describe()
