"""Engines whose chats are saved: a pair with a folder, and a session that answers commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.support.answering import Heard, command
from tests.support.engine import text_of
from tui.engine.answer.answer import Answer
from tui.engine.answer.templates import TemplateRenderer
from tui.engine.backends import LoadedModel
from tui.engine.backends.selection import open_backend
from tui.engine.pair.pair import Pair
from tui.engine.pair.reading import ContextReader
from tui.engine.session import Session
from tui.engine.speculation.lookup import Lookup
from tui.engine.speculation.policy import FixedLength
from tui.engine.states.saved_chats import SavedChats, marks_of
from tui.engine.states.state_folder import StateFolder
from tui.protocol import (
    Event,
    Finished,
    Generate,
    Load,
    Message,
    Notice,
    Rounds,
    Sampling,
    Statistics,
)

ROOM = 1 << 30
TOLD = "Tell me about the rivers and the mountains of a country that you know. " * 4
OTHER = "What do the birds and the fishes of the sea say to the wind and the rain? " * 4


class Desk:
    """An engine that answers one chat, and saves it in `folder`, or nowhere."""

    def __init__(
        self, main: LoadedModel, draft: LoadedModel | None, folder: Path | None, renderer: TemplateRenderer,
        rows: int = 0,
    ) -> None:  # fmt: skip
        """`rows` is that of exact mode; 0 is fast mode."""
        backend = open_backend(main.facts.path)
        reader = ContextReader(main, rows, checkpoints=not (rows and main.drops_from))
        self.pair = Pair(backend, main, draft, None, None, FixedLength(3), reader, Lookup(()))
        marks = marks_of(self.pair, Load(main.facts.path))
        self.folder = StateFolder(folder, ROOM) if folder else None
        self.chats = SavedChats(self.pair, self.folder, marks, least=8)
        self._renderer = renderer

    def ask(self, messages: Sequence[Message], chat: str = "one", **settings: Any) -> Heard:
        events: list[Event] = []
        asked = command(messages, **{"draft_length": 3, **settings})
        self.chats.turn_to(chat)
        Answer(self.pair, asked, events.append, lambda: False, chats=self.chats).run(self._renderer)
        return Heard(events)

    def end(self) -> None:
        """Save everything and free the models, as at the end of an engine."""
        self.chats.finish()
        self.pair.close()


class Talk:
    """A session with a toy, and its events."""

    def __init__(self, model: Path, disk: int = ROOM, memory: int = 0, **load: Any) -> None:
        self.events: list[Event] = []
        self.idle: Callable[[], bool] = lambda: False
        """Whether the engine is idle. Where it is always so, a pair would practice for half a minute."""
        self.session = Session(self.events.append, lambda _: False, idle=lambda: self.idle())
        self.load = Load(
            str(model),
            load.pop("draft", "none"),
            1024,
            threads=1,
            disk_cache=disk,
            memory_cache=memory,
            **load,
        )
        self.session.do(self.load)

    def ask(self, prompt: str = TOLD, chat: str = "one", **settings: Any) -> Statistics:
        return self.chat([Message("user", prompt)], chat, **settings)

    def chat(self, messages: Sequence[Message], chat: str = "one", **settings: Any) -> Statistics:
        self.events.clear()
        settings = {"seed": 3, "max_tokens": 12, "ignore_eos": True, "sampling": Sampling(0.7), **settings}
        self.session.do(Generate(1, tuple(messages), chat=chat, **settings))
        assert isinstance(self.events[-1], Finished), self.events
        return self.events[-1].statistics

    @property
    def tokens(self) -> list[int]:
        rounds = (each for event in self.events if isinstance(event, Rounds) for each in event.rounds)
        return [token for each in rounds for token in each.tokens]

    @property
    def text(self) -> str:
        return text_of(self.events)

    @property
    def notices(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, Notice)]

    def rest(self) -> None:
        """Be idle until all is saved."""
        self.session._chats.save(lambda: True)
