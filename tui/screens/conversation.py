"""What was said, as a tree of turns: what the next prompt is answered from. It shows and sends nothing.

An edited prompt or another answer is a branch; one path through the tree is shown. Whatever happens is
recorded as a change at once, so that it can be kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from tui.clean import clean_line
from tui.protocol import Generate, Loaded, Message, Origin, Round, Statistics
from tui.store import Begin, Change, Close, Ending, Hear, Say, Show, Turn, draw_key, text_of
from tui.store import Conversation as Stored

TITLE = 80
"""Characters of the first prompt that make a title."""


class Conversation:
    """One conversation. An answer is kept as far as it came; a prompt without one is not answered from."""

    def __init__(
        self, system_prompt: str = "", record: Callable[[Change], None] = lambda change: None
    ) -> None:
        self._opening = (Message("system", system_prompt),) if system_prompt else ()
        self._record = record
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.key = draw_key()
        self._begun = False
        self._turns: dict[str, Turn] = {}
        self._shown = ""
        self._open: str | None = None
        self._heard: list[str] = []
        self._unwritten: list[Round] = []
        self._parts = 0

    def open(self, stored: Stored) -> str:
        """Go on with `stored`; the prompt that stands there without an answer, if there is one."""
        self.forget()
        self.key = stored.key
        self._begun = True
        for turn in stored.turns:
            # A parent comes before what follows it: so there is no circle, whatever the file holds.
            parent = turn.parent if turn.parent in self._turns else ""
            self._turns[turn.key] = replace(turn, parent=parent, rounds=())
        self._shown = stored.shown if stored.shown in self._turns else ""
        return self._step_back()

    @property
    def path(self) -> Sequence[Turn]:
        """The turns that are shown, the first one first."""
        path: list[Turn] = []
        key = self._shown
        while turn := self._turns.get(key):
            path.append(turn)
            key = turn.parent
        return path[::-1]

    def ask(self, question: str) -> tuple[Message, ...]:
        """Add a prompt; the messages to answer."""
        if not self._begun:
            self._begun = True
            title = clean_line(question.strip().partition("\n")[0], TITLE) or "Untitled"
            self._record(Begin(self.key, title))
        self._add(Turn(draw_key(), self._shown, "user", question))
        return (*self._opening, *(Message(turn.role, turn.text) for turn in self.path))

    def answer(self, request: Generate, loaded: Loaded | None) -> None:
        """An answer to what was asked comes now."""
        settings = {"seed": request.seed, **asdict(request.sampling)}
        turn = Turn(
            draw_key(),
            self._shown,
            "assistant",
            main=loaded.main.name if loaded else "",
            draft=loaded.draft.name if loaded and loaded.draft else "",
            settings=json.dumps(settings),
        )
        self._open = turn.key
        self._heard, self._unwritten, self._parts = [], [], 0
        self._add(turn)

    def hear(self, event: Round) -> None:
        """More of the answer."""
        self._heard.append(text_of((event,)))
        self._unwritten.append(event)

    def flush(self) -> None:
        """Record what has come since."""
        if self._open and self._unwritten:
            self._record(Hear(self._open, self._parts, tuple(self._unwritten)))
            self._parts += 1
            self._unwritten = []

    def close(self, ending: Ending = "cut", statistics: Statistics | None = None) -> bool:
        """End the turn; False if it left nothing behind, and is not part of the conversation."""
        self.flush()
        text = "".join(self._heard)
        if self._open:
            turn = self._turns[self._open]
            self._turns[self._open] = replace(turn, text=text, ending=ending, statistics=statistics)
            self._record(Close(self._open, text, ending, statistics))
        self._open, self._heard = None, []
        if not text and self._begun:
            self._step_back()
            self._record(Show(self.key, self._shown))
        return bool(text)

    def _step_back(self) -> str:
        """Go back to the last answer; the prompt that stood there without one, if there was one."""
        prompt = ""
        while (last := self._turns.get(self._shown)) and (last.role == "user" or not last.text):
            prompt = last.text
            self._shown = last.parent
        return prompt

    def _add(self, turn: Turn) -> None:
        self._turns[turn.key] = turn
        self._shown = turn.key
        self._record(Say(self.key, turn))


def pieces_of(turn: Turn) -> list[tuple[str, int]]:
    """The text of an answer with where it came from, as far as that is known."""
    if text_of(turn.rounds) != turn.text:
        return [(turn.text, Origin.PLAIN)]
    return [piece for each in turn.rounds for piece in each.pieces]
