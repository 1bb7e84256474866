"""The screen inside an answer alone, on an engine that weighs tokens without a model."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from tests.support.alone import Themed
from tui.client import EngineDied
from tui.protocol import (
    Generate,
    Inspect,
    Inspected,
    Message,
    Origin,
    TextRound,
    TokenCandidate,
    TokenInspection,
)
from tui.screens.inspection import InspectionScreen
from tui.store.changes import Turn

D, M, P, R, L = Origin.DRAFT, Origin.MAIN, Origin.PLAIN, Origin.REJECTED, Origin.LOOKUP
H = Origin.HEAD


def rounds() -> tuple[TextRound, ...]:
    """Five tokens: three of a round that was right in two of four, one plain, one drafted whole."""
    pieces = ((("a", L), ("b\n", D), (" no", R), (" nor", R), ("c", M)), (("d", P),), (("e", D),))
    shapes = (((1, 2, 3), 4, 1, 2), ((4,), 0, 0, 0), ((5,), 1, 0, 1))
    return tuple(
        TextRound(tuple((t, int(o)) for t, o in pieces[number]), tokens, drafted, looked_up, accepted, 0.02,
              0.005, 0.014, 9)
        for number, (tokens, drafted, looked_up, accepted) in enumerate(shapes)
    )  # fmt: skip


TEXTS = ("a", "b\n", "c", "d", "e")

TURN = Turn("k", "p", "assistant", "ab\ncde", "stop", "Big", "Small", '{"seed": 7}', rounds=rounds())

PROMPT = Generate(0, (Message("user", "Why?"),), 7, resume=(1, 2, 3, 4, 5))


class Engine:
    """Stands for the client: it says the same of every place."""

    def __init__(self, fault: bool = False, mute: bool = False, lead: float = 0.0) -> None:
        self.asked: list[Inspect] = []
        self.fault, self.mute, self.lead = fault, mute, lead

    async def inspect(self, command: Inspect) -> Inspected:
        self.asked.append(command)
        if self.fault:
            raise EngineDied("The engine was killed", "The next prompt starts it again.")
        if not command.count:
            return Inspected(command.id, texts=TEXTS)
        best = (TokenCandidate(2, "b", 0.75), TokenCandidate(9, "else", 0.125))
        place = TokenInspection(0.75, 0.9, True, best, best[::-1], rival="else")
        if self.lead:
            place = replace(place, lead=self.lead, rounding=0.08)
        places = (place,) * (0 if self.mute else command.count)
        return Inspected(command.id, places=places)


class Screen(Themed):
    def __init__(self, engine: Engine, folder: Path, request: Generate | None = PROMPT) -> None:
        super().__init__()
        self.engine = engine
        self.folder = folder
        self.request = request
        self.now = 100.0
        self.ids = 0
        self.result: object = "open"

    def on_mount(self) -> None:
        self.inside = InspectionScreen(
            self.engine, self.draw, TURN, self.request, lambda: self.now, lambda: self.folder  # type: ignore[arg-type]
        )  # fmt: skip
        self.push_screen(self.inside, lambda result: setattr(self, "result", result))

    def draw(self) -> int:
        self.ids += 1
        return self.ids

    @property
    def current(self) -> str:
        token = self.inside._tokens.current
        return token.text if token else ""
