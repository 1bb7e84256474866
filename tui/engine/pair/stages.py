"""The stages of a load: how far each has come, and whether the load is still wanted.

A stage in which models run counts their tokens. Its models ask in every call, and within a call that takes
long, so that the progress moves and a cancel is heard. This module measures nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter

from ..backends import GivenUp, LoadedModel, Wanted, asking

Progress = Callable[[str, float | None], bool]
"""Receives a stage and its progress from 0 to 1, or None where that is unknown; returns False to cancel."""


class Stages:
    """The stages of one load, one after the other."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def reading(self, model: str) -> Callable[[float], bool]:
        """Return a function that tells the read share of a model's file, from 0 to 1, and then 1 to 2 for the
        calls that prepare the model."""

        def read(share: float) -> bool:
            if share >= 1:
                return self._progress(f"Preparing the {model}", share - 1 if share > 1 else None)
            return self._progress(f"Loading the {model}", share)

        return read

    @contextmanager
    def running(self, stage: str, tokens: int, *models: LoadedModel | None) -> Iterator[None]:
        """Show a stage in which `models` run at most about so many tokens.

        Their calls raise `GivenUp` as soon as the load is no longer wanted.
        """
        done = 0.0

        def wanted(passed: float) -> bool:
            nonlocal done
            done += passed
            return self._progress(stage, min(1.0, done / tokens) if done else None)

        with self._asking(models, wanted):
            yield

    @contextmanager
    def going_on(self, stage: str, *models: LoadedModel | None) -> Iterator[None]:
        """Let `models` run a few tokens more in the present stage. Else it is like `running`."""
        with self._asking(models, lambda passed: self._progress(stage, None)):
            yield

    @contextmanager
    def measuring(self, stage: str, seconds: float, *models: LoadedModel | None) -> Iterator[None]:
        """Show a stage in which `models` run for about so many seconds, slow ones longer.

        The progress comes nearer to 1 and never stands still. Else it is like `running`.
        """
        began = perf_counter()

        def wanted(passed: float) -> bool:
            taken = perf_counter() - began
            return self._progress(stage, taken / (taken + seconds) if passed else None)

        with self._asking(models, wanted):
            yield

    @contextmanager
    def _asking(self, models: Iterable[LoadedModel | None], wanted: Wanted) -> Iterator[None]:
        if not wanted(0.0):
            raise GivenUp("the load was given up")
        with asking(models, wanted):
            yield
        if not wanted(0.0):
            raise GivenUp("the load was given up")
