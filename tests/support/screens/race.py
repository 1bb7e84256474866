"""The race of the last prompt alone, on an engine with known speeds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from tests.support.alone import Themed
from tui.client import EngineDied
from tui.protocol import (
    Event,
    Finished,
    Generate,
    Inspect,
    Inspected,
    Message,
    Origin,
    Statistics,
    TextRound,
    TokenCandidate,
    TokenInspection,
)  # fmt: skip
from tui.screens.race import RaceScreen

TEXT = "Every token is one that the main model chose: a draft changes when it comes and never which."

WORDS = TEXT.split()

PROMPT = Generate(5, (Message("user", "Why?"),), 7, max_tokens=40)


class Engine:
    """Stands for the client: the same words plain and drafted, one and three a round."""

    def __init__(self, differ: int | None = None, fault: bool = False, plain: float = 0.015) -> None:
        self.asked: list[Generate] = []
        self.cancelled: list[int] = []
        self.inspected: list[Inspect] = []
        self.differ, self.fault, self.plain = differ, fault, plain
        self.hold = asyncio.Event()
        self.hold.set()

    async def generate(self, request: Generate) -> AsyncGenerator[Event, None]:
        self.asked.append(request)
        drafted = request.draft_length != 0
        step, seconds = (3, 0.02) if drafted else (1, self.plain)
        for begin in range(0, len(WORDS), step):
            await self.hold.wait()
            words = WORDS[begin : begin + step]
            pieces = tuple((f"{word} ", int(Origin.DRAFT if drafted else Origin.PLAIN)) for word in words)
            tokens = [begin + place for place in range(len(words))]
            if drafted and self.differ is not None and self.differ in tokens:
                tokens[tokens.index(self.differ)] = 999
            if self.fault and begin:
                raise EngineDied("The engine was killed", "The next prompt starts it again.")
            yield TextRound(pieces, tuple(tokens), step - 1, 0, step - 1, seconds, 0.0, seconds, 9)
        speed = 100.0 if drafted else 50.0
        yield Finished(
            request.id, "stop", Statistics(tokens=len(WORDS), tokens_per_second=speed, drafted=8, accepted=6)
        )

    async def inspect(self, command: Inspect) -> Inspected:
        self.inspected.append(command)
        best = (TokenCandidate(command.begin, "when", 0.4),)
        place = TokenInspection(0.4, 0.4, True, best, rival="which", lead=0.02, rounding=0.08, tipped=True)
        return Inspected(command.id, places=(place,))

    async def cancel(self, number: int) -> None:
        self.cancelled.append(number)


class Alone(Themed):
    """The screen and nothing else."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        super().__init__()
        self.engine, self.folder = engine, folder
        self.now = 0.0
        self.ended: list[Any] = []

    def on_mount(self) -> None:
        screen = RaceScreen(self.engine, PROMPT, lambda: self.now, lambda: self.folder)  # type: ignore[arg-type]
        self.push_screen(screen, self.ended.append)

    @property
    def lanes(self) -> list[str]:
        assert isinstance(self.screen, RaceScreen)
        return [each.writer.text_of(0) if each.messages else "" for each in self.screen._transcripts]
