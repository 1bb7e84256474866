"""The path through a conversation that stands on the screen: cut off, shown again, another one beside it.

What leaves the screen is laid aside as it is, so that a branch comes back at once. It asks no engine.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tui.protocol import Origin
from tui.store import Conversation as Stored
from tui.store import Keeper, Turn, text_of
from tui.widgets.desk import Desk

from . import wording
from .conversation import Conversation

if TYPE_CHECKING:
    from tui.widgets.transcript import Message


class Branches:
    """Keeps the desk's transcript on the path of a conversation."""

    def __init__(self, conversation: Conversation, desk: Desk, keeper: Keeper | None) -> None:
        """What is not laid aside any more, or never was shown, comes from `keeper`."""
        self._conversation = conversation
        self._desk = desk
        self._keeper = keeper
        self._aside: dict[str, Message] = {}
        self._edited: Turn | None = None

    def forget(self) -> None:
        """Another conversation begins."""
        self._aside.clear()
        self._edited = None
        self._desk.composer.border_title = ""

    # A turn

    def edit(self, turn: Turn) -> None:
        """Put the prompt of `turn` into the composer; sent, it is a branch beside the one that it was."""
        prompt = turn if turn.role == "user" else self._conversation.turn(turn.parent)
        if prompt:
            self._edited = prompt
            self._desk.composer.take_up(prompt.text)
            self._desk.composer.border_title = "an earlier prompt: sent, it is a branch; Esc gives it up"

    @property
    def is_editing(self) -> bool:
        return self._edited is not None

    def give_up(self) -> None:
        """Leave the prompt that is edited as it was."""
        self._edited = None
        self._desk.composer.border_title = ""
        self._desk.composer.clear()

    def make_room(self) -> None:
        """A prompt comes: if it is an edited one, what it was leaves the screen."""
        if self._edited:
            self.leave(self._edited)
        self._edited = None
        self._desk.composer.border_title = ""

    def leave(self, turn: Turn) -> None:
        """Go back to before `turn`: it and what follows stay as a branch."""
        self._cut(turn.key)
        self._conversation.show(turn.parent)

    def end_at(self, turn: Turn) -> None:
        """Go back to `turn`: what follows stays as a branch."""
        messages = self._desk.transcript.messages
        place = next((number for number, each in enumerate(messages) if each.key == turn.key), len(messages))
        if place + 1 < len(messages):
            self._lay_aside(place + 1)
        self._conversation.show(turn.key)

    def show_prompt(self) -> None:
        """The prompt that was asked last."""
        if turn := self._conversation.last:
            self._desk.begin(turn.text, turn.key, self._mark(turn))

    def show_answer(self) -> None:
        """The answer that begins to come, or goes on."""
        transcript, turn = self._desk.transcript, self._conversation.last
        if turn and transcript.messages and transcript.messages[-1].key == turn.key:
            transcript.go_on()
        elif turn:
            transcript.begin("assistant", key=turn.key)

    def end_answer(self) -> None:
        """The answer is all there, or there is none."""
        turn = self._conversation.last
        self._desk.transcript.finish(self._note(turn) if turn else "")

    # A path

    async def switch(self, turn: Turn, by: int) -> bool:
        """Show the branch `by` places beside `turn`; False if there is none. Raises `Unreadable`."""
        sibling = self._conversation.sibling(turn, by)
        if sibling:
            self._conversation.show(self._conversation.leaf(sibling))
            await self.show()
        return bool(sibling)

    async def show(self, stored: Stored | None = None) -> None:
        """Bring the screen to the path of the conversation. Raises `Unreadable`."""
        path = list(self._conversation.path)
        messages = self._desk.transcript.messages
        same = 0
        while same < min(len(path), len(messages)) and messages[same].key == path[same].key:
            same += 1
        if same < len(messages):
            self._lay_aside(same)
        if self._keeper and not stored and any(turn.key not in self._aside for turn in path[same:]):
            key = self._conversation.key
            stored = await self._keeper.ask(lambda store: store.read(key))
        read = {turn.key: turn for turn in stored.turns} if stored else {}
        for turn in path[same:]:
            self._put(turn, read.get(turn.key, turn))
            await asyncio.sleep(0)

    def _put(self, turn: Turn, read: Turn) -> None:
        """Show a whole turn; `read` is the same with its rounds."""
        transcript = self._desk.transcript
        if message := self._aside.pop(turn.key, None):
            transcript.put(message, self._note(turn))
        elif turn.role == "user":
            self._desk.begin(turn.text, turn.key, self._mark(turn))
        else:
            transcript.begin("assistant", key=turn.key)
            transcript.append(pieces_of(read))
            transcript.finish(self._note(turn))

    def _cut(self, key: str) -> None:
        messages = self._desk.transcript.messages
        place = next((number for number, each in enumerate(messages) if each.key == key), None)
        if place is not None:
            self._lay_aside(place)

    def _lay_aside(self, place: int) -> None:
        self._aside |= {each.key: each for each in self._desk.transcript.cut(place) if each.key}

    def _note(self, turn: Turn) -> str:
        """The faint line under a turn."""
        if turn.role == "user":
            return self._mark(turn)
        parts = (self._mark(turn), wording.finished(turn.ending, turn.statistics))
        return " · ".join(filter(None, parts))

    def _mark(self, turn: Turn) -> str:
        """Which of the branches at its place it is; empty where there is but one."""
        place, count = self._conversation.branch(turn)
        return f"‹ {place} of {count} ›" if count > 1 else ""


def pieces_of(turn: Turn) -> list[tuple[str, int]]:
    """The text of an answer with where it came from, as far as that is known."""
    if text_of(turn.rounds) != turn.text:
        return [(turn.text, Origin.PLAIN)]
    return [piece for each in turn.rounds for piece in each.pieces]
