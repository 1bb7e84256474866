"""An answer of a loaded pair without a session: asked, and heard event by event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tui.engine.answer.answer import Answer
from tui.engine.answer.templates import TemplateRenderer
from tui.engine.pair.pair import Pair
from tui.protocol import (
    Event,
    Finished,
    Generate,
    Message,
    Origin,
    Rounds,
    Statistics,
    TextRound,
)

HELLO = (Message("user", "Hello there, how are you?"),)


@dataclass(frozen=True)
class Heard:
    """The events of an answer."""

    events: list[Event]

    @property
    def rounds(self) -> list[TextRound]:
        return [each for event in self.events if isinstance(event, Rounds) for each in event.rounds]

    @property
    def text(self) -> str:
        return "".join(text for r in self.rounds for text, origin in r.pieces if origin != Origin.REJECTED)

    @property
    def tokens(self) -> list[int]:
        return [token for r in self.rounds for token in r.tokens]

    @property
    def end(self) -> Finished:
        assert isinstance(self.events[-1], Finished)
        return self.events[-1]

    @property
    def statistics(self) -> Statistics:
        return self.end.statistics


def command(messages: Sequence[Message] = HELLO, **settings: Any) -> Generate:
    given = {"seed": 11, "ignore_eos": True, "max_tokens": 30, "lookup": False, **settings}
    return Generate(1, tuple(messages), **given)


def ask(
    pair: Pair,
    renderer: TemplateRenderer,
    messages: Sequence[Message] = HELLO,
    *,
    cancelled: Callable[[list[Event]], bool] = lambda events: False,
    **settings: Any,
) -> Heard:
    events: list[Event] = []
    Answer(pair, command(messages, **settings), events.append, lambda: cancelled(events)).run(renderer)
    return Heard(events)
