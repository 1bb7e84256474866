"""The measurement: the same prompts with the same seed, plain and drafted in turn.

Both ways share the engine, the loaded models and the minutes in which they run, so a slow machine slows both.
Each answer starts with empty caches. All results are kept at once, so that a measurement that is broken off
loses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...clean import clean_line
from ...client import EngineClient, EngineError
from ...client.parting import explained, first_difference
from ...protocol import Finished, Load, Loaded, Loading, NotDrafting, Notice, Obstacle, TextRound
from .plan import BenchPlan, Prompt
from .progress import Progress
from .report import as_line
from .results import BenchRun, Series, result_of, series_of

GIVE_UP = 3
"""Failed prompts in a row after which the measurement ends."""
WARM_UP = 16
"""Tokens of the unmeasured answers at the beginning, because a device is slow at first."""


class Measurement:
    """Carries out a plan with one pair of models in its own engine. Use it once."""

    def __init__(self, client: EngineClient, load: Load, plan: BenchPlan, progress: Progress) -> None:
        self.complete = False
        """Whether all answers of the plan were measured."""
        self._client = client
        self._load_command = load
        self._plan = plan
        self._progress = progress
        self._loaded: Loaded | None = None
        self._runs: list[BenchRun] = []
        self._partings: dict[tuple[Prompt, float], str] = {}
        self._number = 0

    @property
    def series(self) -> Series | None:
        """The results so far; None if there are none."""
        found = series_of(self._loaded, self._runs, self._partings) if self._loaded else None
        return found if found and found.results else None

    async def run(self) -> None:
        """Measure, report each failure, and end the engine in any case."""
        try:
            await self._prepare()
            self.complete = await self._all()
        except EngineError as error:
            self._progress.remark(error.line)
        finally:
            await self._client.close()

    async def _prepare(self) -> None:
        """Start an engine and make it ready for the first measured answer."""
        self._progress.wait("Starting the engine")
        await self._client.start()
        loaded = await self._client.load(self._load_command, self._loading)
        if why := loaded.obstacle:
            load = self._load_command
            who = f"nothing can draft for {load.main}" if why.everything else f"{load.draft} cannot draft"
            raise EngineError(f"{who}: {why.text}")
        await self._warm_up()
        self._loaded = loaded

    def _loading(self, event: Loading) -> None:
        self._progress.wait(event.stage, event.fraction)

    async def _warm_up(self) -> None:
        plan = replace(self._plan, max_tokens=min(self._plan.max_tokens, WARM_UP))
        prompt, temperature, _ = next(plan.cases())
        self._progress.wait("Warming up")
        for drafted in (False, True):
            await self._answer(plan, prompt, temperature, drafted)

    async def _all(self) -> bool:
        """Return whether no prompt failed. Raises `EngineError` after `GIVE_UP` failures in a row."""
        failed = in_a_row = 0
        for prompt, temperature, order in self._plan.cases():
            before = len(self._runs)
            try:
                await self._case(prompt, temperature, order)
                in_a_row = 0
            except EngineError as error:
                self._progress.remark(f"{clean_line(prompt.text, 40)}: {error.line}")
                self._progress.skip(len(order) - (len(self._runs) - before))
                del self._runs[before:]
                failed, in_a_row = failed + 1, in_a_row + 1
                if in_a_row == GIVE_UP:
                    raise EngineError(f"{GIVE_UP} prompts failed one after the other: given up") from None
        return not failed

    async def _case(self, prompt: Prompt, temperature: float, order: tuple[bool, ...]) -> None:
        if self._client.state == "dead":
            await self._prepare()
        for drafted in order:
            way = "drafted" if drafted else "plain"
            self._progress.begin(f"{way} at {temperature:g}: {prompt.text}")
            self._runs.append(await self._answer(self._plan, prompt, temperature, drafted))
            self._progress.end()
        runs = [run for run in self._runs if (run.prompt, run.temperature) == (prompt, temperature)]
        await self._explain((prompt, temperature), runs)
        self._progress.report(as_line(result_of(runs)))

    async def _explain(self, case: tuple[Prompt, float], runs: Sequence[BenchRun]) -> None:
        """Ask once for the reason if the texts of a case differ."""
        at = first_difference([run.tokens for run in runs])
        plain = next((run for run in runs if not run.drafted), None)
        if at is None or plain is None or case in self._partings:
            return
        self._number += 2
        request = self._plan.question(self._number, *case, drafted=False)
        self._partings[case] = await explained(self._client, self._number - 1, request, plain.tokens, at)

    async def _answer(self, plan: BenchPlan, prompt: Prompt, temperature: float, drafted: bool) -> BenchRun:
        """Return one complete answer. Raises `EngineError` if it fails or was drafted only in part."""
        self._number += 1
        tokens: list[int] = []
        rounds: list[tuple[int, int]] = []
        wrong: Notice | None = None
        why: Obstacle | None = None
        async for event in self._client.generate(plan.question(self._number, prompt, temperature, drafted)):
            if isinstance(event, TextRound):
                tokens += event.tokens
                rounds.append((event.drafted, event.accepted))
            elif isinstance(event, Notice):
                wrong = event
            elif isinstance(event, NotDrafting):
                why = event.obstacle
            elif isinstance(event, Finished):
                finished = event
        if wrong is not None:
            raise EngineError(wrong.message)
        reason = why.text if why else ""
        return BenchRun(
            prompt, temperature, drafted, tuple(tokens), finished.statistics, tuple(rounds), reason
        )
