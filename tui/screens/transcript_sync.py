"""Keeps the transcript on the path of a conversation: prompts, answers as they come, other branches.

Messages that leave the screen are kept in memory, so that a branch comes back at once. It asks no engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING

from tui import store
from tui.chat import attachments, formatting
from tui.chat.conversation import Conversation
from tui.protocol import Origin, Statistics, TextRound
from tui.protocol.thoughts import TURNED, Part, Thoughts
from tui.store.keeper import Keeper
from tui.widgets.chat_panel import ChatPanel
from tui.widgets.transcript import Transcript

from .edited_prompt import EditedPrompt

if TYPE_CHECKING:
    from tui.store.store import StoredConversation as Stored
    from tui.widgets.transcript import MessageBlock

SLICE = 0.03
"""Seconds of work between two looks for a key."""
LEFT = "up to here nothing is sent any more"
SUMMED_UP = "up to here the summary is sent"
SUMMARY = "summary of the turns above"


class TranscriptSync:
    """Keeps the transcript on the path of a conversation."""

    def __init__(self, conversation: Conversation, panel: ChatPanel, keeper: Keeper) -> None:
        """Messages that are not in memory come from `keeper`."""
        self._conversation = conversation
        self._panel = panel
        self._keeper = keeper
        self._answer: ShownAnswer | None = None
        """The answer that comes now."""
        self._aside: dict[str, list[MessageBlock]] = {}
        self.edited = EditedPrompt(panel.composer)

    @property
    def is_empty(self) -> bool:
        """Whether no message is shown."""
        return not self._panel.transcript.messages

    def forget(self) -> None:
        """Begin another conversation."""
        self._panel.clear()
        self._aside.clear()
        self.edited.close()

    # A turn

    def edit(self, turn: store.Turn) -> None:
        """Put the prompt of `turn` into the composer. When it is sent, it becomes a branch beside the old
        one."""
        prompt = turn if turn.role == "user" else self._conversation.turn(turn.parent)
        if prompt:
            self.edited.open(prompt)

    def make_room(self) -> None:
        """Make room for a prompt. If it is an edited one, its old form leaves the screen."""
        if prompt := self.edited.close():
            self.leave(prompt)
        # A prompt without an answer is no part of the conversation, and would stand there twice.
        path = {each.key for each in self._conversation.path}
        for place, message in enumerate(self._panel.transcript.messages):
            if message.role == "user" and message.key not in path:
                self._panel.transcript.writer.cut(place)
                return

    def leave(self, turn: store.Turn) -> None:
        """Go back to the turn before `turn`; `turn` and the turns after it stay as a branch."""
        places = self._places(turn.key)
        if places:
            self._lay_aside(places[0])
        self._conversation.show(turn.parent)

    def end_at(self, turn: store.Turn) -> None:
        """Go back to `turn`; the turns after it stay as a branch."""
        places = self._places(turn.key)
        if places and places[-1] + 1 < len(self._panel.transcript.messages):
            self._lay_aside(places[-1] + 1)
        self._conversation.show(turn.key)

    def show_prompt(self) -> None:
        """Show the last prompt."""
        if turn := self._conversation.last:
            self._panel.begin(attachments.folded(turn), turn.key, self._mark(turn))

    def show_answer(self) -> None:
        """Begin, or continue, the last answer of the conversation."""
        transcript, turn = self._panel.transcript, self._conversation.last
        if turn:
            goes_on = bool(transcript.messages) and transcript.messages[-1].key == turn.key
            self._answer = ShownAnswer(transcript, turn.key, turn.text if goes_on else "")

    def hear(self, event: TextRound) -> None:
        """Show more of the answer."""
        if self._answer:
            self._answer.hear(event)

    def end_answer(self, note: str | None = None) -> None:
        """End the answer. `note` stands under it in place of its figures."""
        turn = self._conversation.last
        if self._answer:
            self._answer.end(note if note is not None else self._note(turn) if turn else "")
        self._answer = None

    def end_prompt(self, note: str) -> None:
        """Mark the last prompt as unanswered; `note` stands under it."""
        self._panel.transcript.writer.finish(note)

    def fail(self, message: str, hint: str) -> None:
        """Show why the answer broke off."""
        self._panel.transcript.writer.fail(message, hint)

    def give_back(self, prompt: store.Turn | None = None) -> None:
        """Put `prompt`, or the last prompt that was sent, into an empty text box."""
        composer = self._panel.composer
        if composer.text:
            return
        if prompt:
            composer.write_again(attachments.typed(prompt), attachments.names(prompt))
        else:
            composer.action_recall(-1)

    def leave_out(self, share: float, summary: str = "") -> int:
        """Leave out the oldest turns and mark the place. Returns the number of turns left out."""
        marked = self._conversation.context.left
        count = self._conversation.context.leave_out(share, summary)
        for turn in (marked, self._conversation.context.left) if count else ():
            if turn and (places := self._places(turn.key)):
                messages = self._panel.transcript.writer.cut(places[0])
                own = [each for each in messages if each.key == turn.key and not _is_summary(each)]
                self._show_again(turn, own)
                for message in messages[len(places) :]:
                    self._panel.transcript.writer.put(message)
        return count

    def _show_again(self, turn: store.Turn, messages: Sequence[MessageBlock]) -> None:
        """Show the messages of `turn` with the line under them, and the summary if it stands after them."""
        transcript = self._panel.transcript
        for message in messages:
            transcript.writer.put(message, "" if message is not messages[-1] else self._note(turn))
        self._show_summary(turn)

    def _show_summary(self, turn: store.Turn) -> None:
        left, transcript = self._conversation.context.left, self._panel.transcript
        if self._conversation.context.summary and left and left.key == turn.key:
            transcript.writer.begin("assistant", key=turn.key)
            transcript.writer.think(SUMMARY)
            transcript.writer.append([(self._conversation.context.summary, Origin.PLAIN)])
            transcript.writer.finish(SUMMED_UP)

    # A path

    async def switch(self, turn: store.Turn, by: int) -> bool:
        """Show the branch `by` places beside `turn`; False if there is none. Raises `Unreadable`."""
        sibling = self._conversation.tree.sibling(turn, by)
        if sibling:
            self._conversation.show(self._conversation.tree.leaf(sibling))
            await self.show()
        return bool(sibling)

    async def show(self, stored: Stored | None = None) -> None:
        """Bring the screen to the path of the conversation. Raises `Unreadable`."""
        path = list(self._conversation.path)
        keys = list(dict.fromkeys(each.key for each in self._panel.transcript.messages))
        same = 0
        while same < min(len(path), len(keys)) and keys[same] == path[same].key:
            same += 1
        if same < len(keys):
            self._lay_aside(self._places(keys[same])[0])
        if not stored and any(turn.key not in self._aside for turn in path[same:]):
            stored = await self._keeper.read(self._conversation.key)
        read = {turn.key: turn for turn in stored.turns} if stored else {}
        due = 0.0
        for turn in path[same:]:
            self._put(turn, read.get(turn.key, turn))
            if monotonic() > due:
                await asyncio.sleep(0)
                due = monotonic() + SLICE

    def _put(self, turn: store.Turn, read: store.Turn) -> None:
        """Show a whole turn; `read` is the same turn with its rounds."""
        transcript = self._panel.transcript
        if messages := self._aside.pop(turn.key, None):
            self._show_again(turn, [each for each in messages if not _is_summary(each)])
        elif turn.role == "user":
            self._panel.begin(attachments.folded(turn), turn.key, self._mark(turn))
        else:
            answer = ShownAnswer(transcript, turn.key)
            for each in rounds_of(read):
                answer.hear(each)
            answer.end(self._note(turn))
            self._show_summary(turn)

    def _places(self, key: str) -> Sequence[int]:
        """Return the numbers of the messages that show the turn `key`."""
        return [number for number, each in enumerate(self._panel.transcript.messages) if each.key == key]

    def _lay_aside(self, place: int) -> None:
        for message in self._panel.transcript.writer.cut(place):
            if message.key:
                self._aside.setdefault(message.key, []).append(message)

    def _note(self, turn: store.Turn) -> str:
        """Return the faint line under a turn."""
        if turn.role == "user":
            return self._mark(turn)
        left = self._conversation.context.left
        parts = (
            self._mark(turn),
            formatting.finished(turn.ending, turn.statistics),
            LEFT if left and left.key == turn.key and not self._conversation.context.summary else "",
        )
        return " · ".join(filter(None, parts))

    def _mark(self, turn: store.Turn) -> str:
        """Return the number of a branch at its place; empty for a single one."""
        place, count = self._conversation.tree.branch(turn)
        return f"‹ {place} of {count} ›" if count > 1 else ""


def _is_summary(message: MessageBlock) -> bool:
    return message.headline == SUMMARY


def rounds_of(turn: store.Turn) -> Sequence[TextRound]:
    """Return the rounds of an answer; if they are unknown, one round with its text."""
    if store.text_of(turn.rounds) == turn.text:
        return turn.rounds
    return (TextRound(((turn.text, int(Origin.PLAIN)),), (), 0, 0, 0, 0.0, 0.0, 0.0, 0),)


class ShownAnswer:
    """One answer on the screen: one message, or two with the same key, a thought and the text after it."""

    def __init__(self, transcript: Transcript, key: str, so_far: str = "") -> None:
        """`so_far` is the text of an answer that continues; the screen shows it already."""
        self._transcript = transcript
        self._key = key
        self._thoughts = Thoughts()
        self._spent = Statistics()
        """The cost of the rounds in which the thought came."""
        self._all = Statistics()
        self._answering = False
        if so_far:
            self._answering = any(not part.thought for part in self._thoughts.feed([(so_far, Origin.PLAIN)]))
            transcript.writer.go_on()
        else:
            transcript.writer.begin("assistant", key=key)

    def hear(self, event: TextRound) -> None:
        """Show one more round."""
        before = self._thoughts.thinking
        self._all = self._all.plus(event)
        parts = self._thoughts.feed(event.pieces)
        if before or self._thoughts.thinking or any(part.thought for part in parts):
            self._spent = self._spent.plus(event)
            self._transcript.writer.think(formatting.thought(self._spent, over=not self._thoughts.thinking))
        self._write(parts)

    def end(self, note: str) -> None:
        """End the answer; `note` stands under it."""
        self._write(self._thoughts.end())
        if self._spent.rounds and not self._answering:
            self._transcript.writer.think(formatting.thought(self._spent, over=True))
            self._answer()
        self._transcript.writer.finish(note)

    def _write(self, parts: list[Part]) -> None:
        if TURNED in parts:
            at = parts.index(TURNED)
            self._write(parts[:at])
            self._turn()
            parts = parts[at + 1 :]
        self._transcript.writer.append([(part.text, part.origin) for part in parts if part.thought])
        answer = [(part.text, part.origin) for part in parts if not part.thought]
        if answer and not self._answering:
            self._answer()
        self._transcript.writer.append(answer)

    def _answer(self) -> None:
        """End the thought, if there was one, and begin the answer."""
        self._answering = True
        if self._spent.rounds:
            self._transcript.writer.finish()
            self._transcript.writer.begin("assistant", key=self._key)

    def _turn(self) -> None:
        """Turn the shown text into a thought."""
        self._spent = self._all
        self._answering = False
        self._transcript.writer.think(formatting.thought(self._spent, over=True))
