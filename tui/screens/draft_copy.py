"""A faster copy of the draft under the cursor of the load screen, written by the engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from msgspec.structs import replace
from textual.screen import Screen

from tui.choices import COPY_FORMAT
from tui.clean import clean_line
from tui.client import EngineClient, EngineError
from tui.protocol import FoundModel, Load, Requantize, Requantized, Requantizing

from .background import work_alone
from .main_models import MainModels
from .pair_choice import PairChoice

_LEAN = 5.2
"""Bits of a weight. A model with fewer gains little by a copy: Q4_K_M has 4.8."""


class DraftCopy:
    """One copy at a time, with its progress."""

    def __init__(
        self,
        screen: Screen[Any],
        client: EngineClient,
        mains: MainModels,
        pair: PairChoice,
        describe: Callable[[], None],
    ) -> None:
        """`screen` runs the worker. `describe` shows the progress and its end."""
        self.progress: Requantizing | None = None
        """None while no copy is written."""
        self._screen = screen
        self._client = client
        self._mains = mains
        self._pair = pair
        self._describe = describe

    @property
    def _draft(self) -> FoundModel | None:
        """The draft under the cursor; None if it has no file."""
        verdict = self._pair.verdict
        return self._mains.found.model(verdict.draft) if verdict else None

    @property
    def pays(self) -> bool:
        """Whether a copy of the draft under the cursor would probably be faster."""
        draft = self._draft
        if draft is None or draft.backend != "llama.cpp" or draft.only_head:
            return False
        return draft.quantization != COPY_FORMAT and draft.size * 8 > _LEAN * max(1, draft.parameters)

    def begin(self) -> None:
        """Write a copy of the draft under the cursor, unless one is being written."""
        if (draft := self._draft) is None:
            self._screen.notify("Only a draft with a file can be copied.")
        elif self.progress is None:
            self.progress = Requantizing(0, 0, draft.size)
            work_alone(self._screen, "copy", self._write, replace(self._pair.asked, main=draft.path))

    def stop(self) -> bool:
        """End the copy. Return False if none is being written."""
        if self.progress is None:
            return False
        self._screen.workers.cancel_group(self._screen, "copy")
        return True

    async def _write(self, load: Load) -> None:
        try:
            question = Requantize(0, load, COPY_FORMAT)
            async with aclosing(self._client.ask(question)) as replies:
                async for reply in replies:
                    match reply:
                        case Requantizing():
                            self.progress = reply
                            self._describe()
                        case Requantized():
                            self._show_drafts()
        except EngineError as error:
            self._screen.notify(clean_line(error.line), severity="warning", markup=False)
        finally:
            self.progress = None
            self._describe()

    def _show_drafts(self) -> None:
        """Show the finished copy among the drafts."""
        self._mains.look(self._screen)
        if model := self._mains.current:
            self._pair.judge(model)
