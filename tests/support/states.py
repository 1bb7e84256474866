"""A pair whose chats are saved in a folder, as one engine after the other would have it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.answering import Heard, command
from tui.engine.answer.answer import Answer
from tui.engine.answer.templates import TemplateRenderer
from tui.engine.backends import LoadedModel
from tui.engine.backends.selection import open_backend
from tui.engine.pair.pair import Pair
from tui.engine.pair.reading import ContextReader
from tui.engine.speculation.lookup import Lookup
from tui.engine.speculation.policy import FixedLength
from tui.engine.states.saved_chats import SavedChats, marks_of
from tui.engine.states.state_folder import StateFolder
from tui.protocol import Event, Load, Message

ROOM = 1 << 30


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
