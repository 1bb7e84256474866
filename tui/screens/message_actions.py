"""The actions on messages of a chat: edit, answer again, continue, branch, copy, delete, look inside.

They work on a `ChatSession` and the transcript. `chat.py` has their keys, and `chat/turn.py` makes the
answers.
"""

from __future__ import annotations

import os
from dataclasses import replace

from msgspec import structs
from textual.screen import Screen

from tui import protocol, store
from tui.chat import attachments
from tui.chat.conversation import Conversation
from tui.chat.requests import Asked, TurnRequest, generate_request
from tui.chat.session import ChatSession
from tui.choices import AUTO
from tui.clean import exact, without_sequences
from tui.client import EngineDied, EngineError
from tui.protocol.thoughts import without_thought
from tui.store.keeper import Unreadable
from tui.widgets.chat_panel import ChatPanel
from tui.widgets.transcript import Want, code_blocks

from .background import work_alone
from .editor import EditorFailed, edited
from .transcript_sync import TranscriptSync

RACED = 400
"""Tokens of a race, at most."""
SUM_UP = (
    "Sum up our conversation so far in at most 200 words, so that you can go on from it: names, numbers, "
    "decisions, what is still open. Write the summary and nothing else."
)
LEAVE = 0.5
"""Share of the context in use, at most, after the oldest turns are left out."""

OF_THE_LAST: tuple[tuple[Want, str, str, str], ...] = (
    ("edit", "edit", "Edit the last prompt", "Sent, it is a branch beside the one that it was"),
    ("again", "again", "Regenerate", "With a new seed; this answer stays as a branch"),
    ("same", "same", "Regenerate, same seed", "Another answer with the seed of the last"),
    ("continue", "continue", "Go on with the answer", "From the token at which it was broken off"),
    ("inspect", "inspect", "See inside the answer", "Every token and its alternatives"),
    ("copy", "copy", "Copy the answer", "As Markdown"),
    ("delete", "delete", "Delete the answer", "With all that follows; /undo brings it back"),
    ("code", "code", "Copy the code", "The next block of the answer"),
)
"""The actions on the last answer: action, name as a command, title, explanation."""


class MessageActions:
    """The actions of one chat screen."""

    def __init__(
        self, screen: Screen[None], session: ChatSession, sync: TranscriptSync, panel: ChatPanel
    ) -> None:
        """`screen` runs the workers and shows other screens."""
        self._screen = screen
        self._session = session
        self._sync = sync
        self._panel = panel
        self._copied = ("", 0)
        """The message whose code was copied last, and the number of copied blocks."""

    def want(self, want: Want, turn: store.Turn) -> None:
        """Do the wanted action on `turn`."""
        session = self._session
        match want:
            case "copy":
                self._screen.app.copy_to_clipboard(exact(without_thought(turn.text)))
            case "code":
                self._copy_code(turn)
            case "open":
                work_alone(self._screen, "editor", self._open, turn)
            case "before" | "after":
                if not session.rejects():
                    work_alone(self._screen, "change", self._switch, turn, -1 if want == "before" else 1)
            case "edit":
                self._sync.edit(turn)
                self._screen.refresh_bindings()
                self._screen.set_focus(self._panel.composer)
            case "delete" if not session.rejects():
                work_alone(self._screen, "change", self._delete, turn)
            case "undo":
                self.undo()
            case "inspect" if not session.rejects():
                if answer := answer_at(session.conversation, turn):
                    work_alone(self._screen, "change", self._inspect, answer)
            case "again" | "same" | "continue" if not session.rejects():
                self._answer_again(want, turn)

    def want_of_last(self, want: Want, missing: str = "this is about the last answer") -> None:
        """Do the action on the last answer. Without one, show `missing`."""
        if last := self._session.conversation.last:
            self.want(want, last)
        else:
            self._panel.tell(f"Ask something first: {missing}.", seconds=4)

    # Text

    def _copy_code(self, turn: store.Turn) -> None:
        blocks = code_blocks(exact(without_thought(turn.text)))
        key, done = self._copied
        place = done % len(blocks) if blocks and key == turn.key else 0
        if not blocks:
            self._panel.tell("There is no code in this message.", seconds=3)
            return
        self._screen.app.copy_to_clipboard(blocks[place])
        self._copied = (turn.key, place + 1)
        if len(blocks) > 1:
            self._panel.tell(f"Code {place + 1} of {len(blocks)}", seconds=3)

    async def edit_prompt(self) -> None:
        """Open the prompt in an editor, and put the result back into the composer."""
        composer = self._panel.composer
        text = await self._edited(composer.prompt)
        if text is None:
            return
        by_hand = composer.by_hand  # the new text may be typed or pasted, which is unknown
        names, command = attachments.named(by_hand), by_hand.startswith("/")
        composer.write_again(without_sequences(text), names, command=command)

    async def _open(self, turn: store.Turn) -> None:
        """Show a message in an editor. Changes there have no effect here."""
        await self._edited(exact(turn.text))

    async def _edited(self, text: str) -> str | None:
        """Return `text` after an editor. Without an editor, show that and return None."""
        try:
            return await edited(self._screen.app, text, os.environ)
        except (EditorFailed, OSError) as error:
            self._panel.tell(f"The editor: {error}", severity="error")
            return None

    # Branches

    async def _switch(self, turn: store.Turn, by: int) -> None:
        """Show the branch beside `turn`."""
        try:
            if not await self._sync.switch(turn, by):
                self._panel.tell("There is no other branch there.", seconds=3)
        except Unreadable as error:
            self._panel.tell(f"That branch cannot be read: {error}", severity="error")

    def undo(self) -> None:
        """Restore the messages that were deleted last."""
        if not self._session.rejects():
            work_alone(self._screen, "change", self._delete, None)

    async def _delete(self, turn: store.Turn | None) -> None:
        """Remove `turn` and the turns after it; None restores the last removal."""
        conversation, prompt = self._session.conversation, None
        if turn:
            count = sum(1 for each in conversation.path if turn.key in conversation.tree.above(each))
            prompt = conversation.remove(turn)
            self._session.states.forget(conversation.key)
            gone, them = ("1 message", "it") if count == 1 else (f"{count:,} messages", "them")
            self._panel.tell(f"{gone} deleted. u or /undo brings {them} back.", seconds=6)
        elif not conversation.restore():
            self._panel.tell("Nothing was deleted.", seconds=3)
            return
        try:
            await self._sync.show()
        except Unreadable as error:
            self._panel.tell(f"The chat cannot be read: {error}", severity="error")
        if prompt:
            self._sync.give_back(prompt)
        transcript = self._panel.transcript
        if transcript.messages:
            transcript.cursor = len(transcript.messages) - 1 if transcript.has_focus else None
        else:
            self._panel.clear()
            self._screen.set_focus(self._panel.composer)

    # Answers

    def _answer_again(self, want: Want, turn: store.Turn) -> None:
        session = self._session
        answer = answer_at(session.conversation, turn)
        if answer is None:
            return
        asked = Asked.read(answer.settings)
        tokens, loaded = session.conversation.tokens_of(answer), session.connection.loaded
        if answer.ending in ("length", "context") and session.generation.stop:
            tokens = ()  # text that could begin a stop string was shown, and would come again
        if want != "continue":
            self._sync.leave(answer)
            seed = asked.seed if want == "same" else session.draw_seed()
            wish = TurnRequest(session.conversation.context.messages(), Asked(seed))
        elif not tokens or (loaded and loaded.main.name != answer.main):
            why = "this answer is complete" if not tokens else "another model gave this answer"
            self._panel.tell(f"It cannot go on: {why}.", seconds=4)
            return
        else:
            self._sync.end_at(answer)
            wish = TurnRequest(session.conversation.context.messages_to(answer), asked, tokens)
        session.answer(wish)
        if not self._panel.transcript.has_focus:  # a reader moves on: to the other branch or message
            self._screen.set_focus(self._panel.composer)

    def race(self) -> None:
        """Run the last prompt once more, plain and drafted, side by side."""
        from .race import RaceScreen

        session = self._session
        last = session.conversation.last
        if last is None or not session.connection.loaded:
            self._panel.tell("Ask something first: the race runs the last prompt.", seconds=4)
            return
        if session.rejects():
            return
        tokens = last.statistics.tokens if last.statistics else RACED
        generation = replace(
            session.generation,
            draft_length=session.drafting.length or AUTO,
            max_tokens=max(1, min(tokens, RACED)),
        )
        messages = session.conversation.context.messages_to(last)
        request = generate_request(session.turn.draw_id(), messages, 0, generation)
        request = Asked.read(last.settings).applied(request)
        session.turn.draw_id(), session.turn.draw_id()  # the race takes the next two as well
        self._screen.app.push_screen(RaceScreen(session.client, request, session.clock), self._came_back)

    def _came_back(self, error: EngineError | None) -> None:
        """Take the result of a screen that used the engine."""
        if isinstance(error, EngineDied):
            self._session.connection.fail(error)

    async def _inspect(self, answer: store.Turn) -> None:
        """Look inside `answer`, on a screen of its own."""
        from .inspection import InspectionScreen

        session = self._session
        await session.keeper.settle()
        try:
            stored = await session.keeper.read(session.conversation.key)
        except Unreadable as error:
            self._panel.tell(f"That answer cannot be read: {error}", severity="error")
            return
        turn = next((each for each in stored.turns if each.key == answer.key), None) if stored else None
        if turn is None or not turn.rounds:
            self._panel.tell("It is not known how this answer came.", seconds=4)
            return
        request = self._request_of(turn)
        screen = InspectionScreen(session.client, session.turn.draw_id, turn, request, session.clock)
        self._screen.app.push_screen(screen, self._came_back)

    def _request_of(self, answer: store.Turn) -> protocol.Generate | None:
        """The request of `answer`, with its rounds; None if its model is not loaded."""
        loaded = self._session.connection.loaded
        if loaded is None or loaded.main.name != answer.main:
            return None
        messages = self._session.conversation.context.messages_to(answer)
        request = generate_request(0, messages, 0, self._session.generation)
        request = Asked.read(answer.settings).applied(request)
        return structs.replace(
            request, resume=tuple(token for each in answer.rounds for token in each.tokens)
        )

    # The context

    @property
    def _share(self) -> float:
        """The share of the sent text that stays when the oldest turns are left out."""
        return LEAVE / (self._session.turn.fullness or 1)

    def leave_out(self) -> None:
        """Leave out the oldest turns, so that half of the context is free again."""
        if self._session.rejects():
            return
        count = self._sync.leave_out(self._share)
        self._panel.show_notices(())
        words = f"The first {count:,} messages are not sent any more."
        self._panel.tell(words if count else "There is nothing to leave out.", seconds=5)

    def summarize(self) -> None:
        """Let the main model sum up the oldest turns, and send the summary in their place."""
        session, share = self._session, self._share
        messages = session.conversation.context.messages_to_sum_up(share, SUM_UP)
        loaded = session.connection.loaded
        if loaded and loaded.main.prompt_form == "text":
            words = "A base model continues text and sums up nothing. F5 leaves out the oldest turns."
            self._panel.tell(words, seconds=6)
        elif session.rejects():
            pass
        elif not messages or not loaded:
            self._panel.tell("There is nothing to sum up.", seconds=5)
        else:
            session.turn.summarize(messages, share)


def answer_at(conversation: Conversation, turn: store.Turn) -> store.Turn | None:
    """Return `turn` if it is an answer, else the shown answer to it."""
    if turn.role == "assistant":
        return turn
    return next((each for each in conversation.path if each.parent == turn.key), None)
