"""The messages of a chat that are there, and what can be done with one: read, edit, ask again, go on, copy,
open, race, see inside. Answers themselves are `turn.py`'s.
"""

from __future__ import annotations

import os
from dataclasses import replace

from msgspec import structs
from textual import on, work

from tui import protocol, store
from tui.chat import attachments
from tui.chat.draft_length import AUTO
from tui.chat.requests import Asked, Wish, generate_request
from tui.chat.summary import Summary
from tui.clean import clean_line, exact, without_sequences
from tui.client import EngineDied, EngineError
from tui.protocol.thoughts import without_thought
from tui.store.keeper import Unreadable
from tui.widgets.transcript import Transcript, Want, code_blocks

from .editor import EditorFailed, edited
from .turn import TurnScreen

RACED = 400
"""Tokens of a race, at most."""
SUM_UP = (
    "Sum up our conversation so far in at most 200 words, so that you can go on from it: names, numbers, "
    "decisions, what is still open. Write the summary and nothing else."
)
LEAVE = 0.5
"""Share of the context that is taken, at most, once the oldest turns are left out."""

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
"""What can be done with the last answer: how it is called as a command, and in words."""


class MessagesScreen(TurnScreen):
    """A conversation over whose messages a cursor moves."""

    _copied = ("", 0)
    """Of which message the code was copied last, and how many blocks of it."""

    def action_read(self) -> None:
        """Move the cursor over the messages; Esc comes back."""
        if self._conversation.last:
            self.set_focus(self.desk.transcript)
            self.desk.transcript.read_last()

    def action_write(self) -> None:
        """Back from the messages to the composer."""
        self.set_focus(self.desk.composer)

    @on(Transcript.Wanted)
    def _wanted(self, event: Transcript.Wanted) -> None:
        event.stop()
        if turn := self._conversation.turn(event.key):
            self.want(event.want, turn)

    def want(self, want: Want, turn: store.Turn) -> None:
        """Do with `turn` what a person wants."""
        match want:
            case "copy":
                self.app.copy_to_clipboard(exact(without_thought(turn.text)))
            case "code":
                self._copy_code(turn)
            case "open":
                self._open(turn)
            case "before" | "after":
                self._switch(turn, -1 if want == "before" else 1)
            case "edit":
                self._branches.edit(turn)
                self.refresh_bindings()
                self.set_focus(self.desk.composer)
            case "delete" | "undo" if not self._refuses():
                self._delete(turn if want == "delete" else None)
            case "inspect" if not self._refuses():
                if answer := self._conversation.answer_at(turn):
                    self._inspect(answer)
            case "again" | "same" | "continue" if not self._refuses():
                self._answer_again(want, turn)

    @work(exclusive=True, group="editor")
    async def action_editor(self) -> None:
        """The prompt in an editor, and what became of it back in the composer."""
        composer = self.desk.composer
        try:
            text = await edited(self.app, composer.prompt, os.environ)
        except (EditorFailed, OSError) as error:
            self.notify(clean_line(f"The editor: {error}"), severity="error", markup=False)
            return
        by_hand = composer.by_hand  # what is new may have been typed or pasted: that is not known of it
        names, command = attachments.named(by_hand), by_hand.startswith("/")
        composer.write_again(without_sequences(text), names, command=command)

    @work(exclusive=True, group="editor")
    async def _open(self, turn: store.Turn) -> None:
        """Look at a message in an editor; what is changed there changes nothing here."""
        try:
            await edited(self.app, exact(turn.text), os.environ)
        except (EditorFailed, OSError) as error:
            self.notify(clean_line(f"The editor: {error}"), severity="error", markup=False)

    def action_race(self) -> None:
        """The last prompt once more, plain and drafted, side by side."""
        from .versus import VersusScreen

        last = self._conversation.last
        if last is None or not self._loader.loaded:
            self.notify("Ask something first: the race runs the last prompt.", timeout=4, markup=False)
            return
        if self._refuses():
            return
        asked = Asked.read(last.settings)
        tokens = last.statistics.tokens if last.statistics else RACED
        generation = replace(
            self.generation,
            draft_length=self._drafting.length or AUTO,
            max_tokens=max(1, min(tokens, RACED)),
        )
        messages = self._conversation.messages_to(last)
        request = asked.applied(generate_request(self._draw_id(), messages, 0, generation))
        self._draw_id(), self._draw_id()  # the race takes the next two as well
        self.app.push_screen(VersusScreen(self._client, request, self._clock), self._came_back)

    def _came_back(self, error: EngineError | None) -> None:
        """From a screen that used the engine."""
        if isinstance(error, EngineDied):
            self._end(error)

    def action_inspect(self) -> None:
        """See inside the last answer."""
        if last := self._conversation.last:
            self.want("inspect", last)
        else:
            self.notify("Ask something first: this looks inside an answer.", timeout=4, markup=False)

    @work(exclusive=True, group="change")
    async def _inspect(self, answer: store.Turn) -> None:
        """Look inside `answer`, on a screen of its own."""
        from .inspection import InspectionScreen

        await self._keeper.settle()
        key = self._conversation.key
        try:
            stored = await self._keeper.ask(lambda store: store.read(key))
        except Unreadable as error:
            self.notify(clean_line(f"That answer cannot be read: {error}"), severity="error", markup=False)
            return
        turn = next((each for each in stored.turns if each.key == answer.key), None) if stored else None
        if turn is None or not turn.rounds:
            self.notify("It is not known how this answer came.", timeout=4, markup=False)
            return
        request = self._request_of(turn)
        screen = InspectionScreen(self._client, self._draw_id, turn, request, self._clock)
        self.app.push_screen(screen, self._came_back)

    def _request_of(self, answer: store.Turn) -> protocol.Generate | None:
        """What `answer`, with its rounds, was the answer to; None if its model is not loaded."""
        loaded = self._loader.loaded
        if loaded is None or loaded.main.name != answer.main:
            return None
        messages = self._conversation.messages_to(answer)
        request = Asked.read(answer.settings).applied(generate_request(0, messages, 0, self.generation))
        return structs.replace(
            request, resume=tuple(token for each in answer.rounds for token in each.tokens)
        )

    def action_leave_out(self) -> None:
        """Send only so many of the latest turns that half of the context is free again."""
        if self._refuses():
            return
        count = self._branches.leave_out(LEAVE / (self._fullness or 1))
        self.desk.show_notices(())
        words = (
            f"The first {count:,} messages are not sent any more."
            if count
            else "There is nothing to leave out."
        )
        self.notify(words, timeout=5, markup=False)

    @work(exclusive=True, group="turn")
    async def action_summarise(self) -> None:
        """Have the main model sum up what `action_leave_out` leaves out, and send that in its place."""
        share = LEAVE / (self._fullness or 1)
        messages = self._conversation.messages_to_sum_up(share, SUM_UP)
        loaded = self._loader.loaded
        if loaded and loaded.main.prompt_form == "text":
            words = "A base model continues text and sums up nothing. F5 leaves out the oldest turns."
            self.notify(words, timeout=6, markup=False)
            return
        if self._refuses() or not messages or not loaded:
            self.notify("There is nothing to sum up.", timeout=5, markup=False)
            return
        request = generate_request(self._draw_id(), messages, 0, self.generation)
        request = structs.replace(request, max_tokens=0, stop=(), thinking="off")
        self._answering, self.phase = request.id, "reading"
        self._say("summing up the oldest turns")
        summary, failure = Summary(loaded.context_length), "stopped"
        try:
            async for event in self._client.generate(request):
                match event:
                    case protocol.Round():
                        await self._hear_summary(summary, event)
                    case protocol.Finished():
                        failure = summary.failure(event.reason)
        except EngineError as error:
            self.desk.transcript.fail(error.message, error.hint)
            self._turn_over("ready")
            self._came_back(error)
            return
        count = 0 if failure else self._branches.leave_out(share, summary.text)
        if count:
            self.desk.show_notices(())
        elif failure != "stopped":
            words = f"There is no summary: {failure}. F5 leaves the oldest turns out without one."
            self.notify(words, severity="warning", timeout=10, markup=False)
        self._turn_over("ready" if count else f"{failure or 'stopped'}: nothing is left out")

    async def _hear_summary(self, summary: Summary, happened: protocol.Round) -> None:
        """One round of it. What grows too long is stopped: cut off, it would leave things out unseen."""
        summary.hear(happened)
        if self.phase == "reading" and summary.in_vain:
            await self.action_stop()
        elif self.phase == "reading":
            repeats = f"  it repeats itself: {self._stop_key} stops it" if summary.repeats else ""
            self._say(f"summing up the oldest turns  {summary.progress}{repeats}")

    def _copy_code(self, turn: store.Turn) -> None:
        blocks = code_blocks(exact(without_thought(turn.text)))
        key, done = self._copied
        place = done % len(blocks) if blocks and key == turn.key else 0
        if blocks:
            self.app.copy_to_clipboard(blocks[place])
            self._copied = (turn.key, place + 1)
            if len(blocks) > 1:
                self.notify(f"Code {place + 1} of {len(blocks)}", timeout=3, markup=False)
        else:
            self.notify("There is no code in this message.", timeout=3, markup=False)

    @work(exclusive=True, group="change")
    async def _switch(self, turn: store.Turn, by: int) -> None:
        """Show the branch beside `turn`."""
        if self._refuses():
            return
        try:
            if not await self._branches.switch(turn, by):
                self.notify("There is no other branch there.", timeout=3, markup=False)
        except Unreadable as error:
            self.notify(clean_line(f"That branch cannot be read: {error}"), severity="error", markup=False)

    def undo(self) -> None:
        """Bring back the messages that were deleted last."""
        if not self._refuses():
            self._delete(None)

    @work(exclusive=True, group="change")
    async def _delete(self, turn: store.Turn | None) -> None:
        """Take `turn` out with what follows it, or bring back what was taken out last."""
        transcript, prompt = self.desk.transcript, None
        if turn:
            count = sum(1 for each in self._conversation.path if turn.key in self._conversation.above(each))
            prompt = self._conversation.remove(turn)
            gone, them = ("1 message", "it") if count == 1 else (f"{count:,} messages", "them")
            self.notify(f"{gone} deleted. u or /undo brings {them} back.", timeout=6, markup=False)
        elif not self._conversation.restore():
            self.notify("Nothing was deleted.", timeout=3, markup=False)
            return
        try:
            await self._branches.show()
        except Unreadable as error:
            self.notify(clean_line(f"The chat cannot be read: {error}"), severity="error", markup=False)
        if prompt and not self.desk.composer.text:
            self.desk.composer.write_again(attachments.typed(prompt), attachments.names(prompt))
        if transcript.messages:
            transcript.cursor = len(transcript.messages) - 1 if transcript.has_focus else None
        else:
            self.desk.clear()
            self.set_focus(self.desk.composer)

    def _answer_again(self, want: Want, turn: store.Turn) -> None:
        answer = self._conversation.answer_at(turn)
        if answer is None:
            return
        asked = Asked.read(answer.settings)
        tokens = self._conversation.tokens_of(answer)
        if answer.ending in ("length", "context") and self.generation.stop:
            tokens = ()  # text that might have become a stop string was shown, and would come again
        if want != "continue":
            self._branches.leave(answer)
            seed = asked.seed if want == "same" else self._draw_seed()
            wish = Wish(self._conversation.messages(), Asked(seed))
        elif not tokens or (self._loader.loaded and self._loader.loaded.main.name != answer.main):
            why = "this answer is complete" if not tokens else "another model gave this answer"
            self.notify(f"It cannot go on: {why}.", timeout=4, markup=False)
            return
        else:
            self._branches.end_at(answer)
            wish = Wish(self._conversation.messages_to(answer), asked, tokens)
        self._begin(wish)
        if not self.desk.transcript.has_focus:  # who reads goes on: to the other branch, to the next message
            self.set_focus(self.desk.composer)
