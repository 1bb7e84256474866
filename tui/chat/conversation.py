"""A conversation: its prompts and answers, and the source of the messages for the next prompt. It shows and
sends nothing.

`turn_tree` has its branches. Every event is recorded at once as a change that the store can keep.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tui import protocol, store
from tui.clean import clean_line
from tui.protocol.pieces import said

from .context import SentContext
from .requests import Asked
from .turn_tree import TurnTree

if TYPE_CHECKING:
    from tui.store.store import StoredConversation as Stored

TITLE = 80
"""Characters of the first prompt that become the title."""
_UNENDED = ("cancelled", "length", "context", "cut", "")
"""The endings of answers that can continue."""
_SUMS = (
    *("tokens", "rounds", "drafted", "accepted", "looked_up", "lookup_accepted"),
    *("seconds", "draft_seconds", "verify_seconds"),
)
"""Statistics that are added up."""


def draw_key() -> str:
    """Return 16 random letters, the key of a new conversation or message."""
    return os.urandom(8).hex()


class Conversation:
    """One conversation. It keeps an unfinished answer; a prompt without an answer is not sent again."""

    def __init__(
        self, system_prompt: str = "", record: Callable[[store.Change], None] = lambda change: None
    ) -> None:
        self._record = record
        self.context = SentContext(
            lambda: self.path,
            lambda key: self.tree.turn(key) if key in self.tree.keys else None,
            lambda key, summary: record(store.TrimContext(self.key, key, summary)),
        )
        """The part of it that the model receives."""
        self.context.system_prompt = system_prompt
        self.forget()

    def forget(self) -> None:
        """Begin an empty conversation."""
        self.key = draw_key()
        self.settings = ""
        """The settings of this conversation that differ from the config, as text of `SetOverrides`."""
        self._begun = False
        self.tree = TurnTree()
        self._tokens: dict[str, tuple[int, ...]] = {}
        """The tokens of the answers that can continue."""
        self.context.begin()
        self._open: str | None = None
        self._heard: list[str] = []
        self._unwritten: list[protocol.TextRound] = []
        self._rounds = 0

    def open(self, stored: Stored) -> store.Turn | None:
        """Continue with `stored`. Returns the prompt at its end that has no answer, if there is one."""
        self.forget()
        self.key = stored.key
        self.settings = stored.settings
        self._begun = True
        for turn in stored.turns:
            # A parent comes before its children, so no file can produce a circle.
            parent = turn.parent if self.tree.turn(turn.parent) else ""
            self.tree.add(replace(turn, parent=parent, rounds=()))
            if turn.rounds and store.text_of(turn.rounds) == turn.text and _can_go_on(turn.ending, turn.text):
                self._tokens[turn.key] = tuple(token for each in turn.rounds for token in each.tokens)
        self.context.begin(stored.sent_from, stored.summary)
        self.tree.end = stored.shown if self.tree.turn(stored.shown) else ""
        return self.tree.step_back()

    # The path

    def turn(self, key: str) -> store.Turn | None:
        return self.tree.turn(key)

    @property
    def path(self) -> Sequence[store.Turn]:
        """The turns that are shown, oldest first."""
        return self.tree.path

    @property
    def last(self) -> store.Turn | None:
        """The last turn of the path."""
        return self.tree.last

    def show(self, key: str) -> None:
        """End the path at the turn `key`; empty for the beginning."""
        self.tree.end = key
        self._record(store.SelectBranch(self.key, key))

    def remove(self, turn: store.Turn) -> store.Turn | None:
        """Remove `turn` and all turns after it. Returns the prompt that has no answer now, if there is one.

        Another branch is shown in its place where there is one.
        """
        self._record(store.RemoveMessages(tuple(self.tree.remove(turn))))
        unanswered = self.tree.step_back()
        self.show(self.tree.end)
        return unanswered

    def restore(self) -> bool:
        """Restore the turns of the last removal. Returns False if there is none."""
        keys = tuple(self.tree.restore())
        if keys:
            self._record(store.RemoveMessages(keys, removed=False))
            self.show(self.tree.end)
        return bool(keys)

    # Answers that are there

    def tokens_of(self, answer: store.Turn) -> tuple[int, ...]:
        """Return the tokens after which `answer` can continue; none if it cannot."""
        return self._tokens.get(answer.key, ())

    # A turn

    def ask(self, question: str, files: tuple[store.Attached, ...] = ()) -> tuple[protocol.Message, ...]:
        """Add a prompt that contains `files`. Returns the messages to answer."""
        if not self._begun:
            self._begun = True
            title = clean_line(question.strip().partition("\n")[0], TITLE) or "Untitled"
            self._record(store.StartConversation(self.key, title))
            if self.settings:
                self._record(store.SetOverrides(self.key, self.settings))
        self._add(store.Turn(draw_key(), self.tree.end, "user", question, files=files))
        return self.context.messages()

    def adjust(self, settings: str) -> None:
        """Record settings that differ from the config, for all answers from now on."""
        self.settings = settings
        if self._begun:
            self._record(store.SetOverrides(self.key, settings))

    def answer(self, request: protocol.Generate, loaded: protocol.Loaded | None) -> None:
        """Begin an answer to the last prompt."""
        turn = store.Turn(
            draw_key(),
            self.tree.end,
            "assistant",
            main=loaded.main.name if loaded else "",
            draft=loaded.draft.name if loaded and loaded.draft else "",
            settings=Asked.of(request).written(),
        )
        self._open = turn.key
        self._heard, self._unwritten, self._rounds = [], [], 0
        self._tokens[turn.key] = ()
        self._add(turn)

    def go_on(self) -> None:
        """Continue the last answer."""
        if last := self.last:
            self._open = last.key
            self._heard, self._unwritten = [last.text], []
            # Parts are written in order, and none has more rounds than tokens.
            self._rounds = len(self._tokens.get(last.key, ())) + 1

    def hear(self, event: protocol.TextRound) -> None:
        """Add a round to the answer."""
        self._heard.append(said(event.pieces))
        self._unwritten.append(event)

    def flush(self) -> None:
        """Record the text that came since the last call."""
        if self._open and self._unwritten:
            self._record(store.AppendRounds(self._open, self._rounds, tuple(self._unwritten)))
            self._rounds += len(self._unwritten)
            more = (token for each in self._unwritten for token in each.tokens)
            self._tokens[self._open] = (*self._tokens.get(self._open, ()), *more)
            self._unwritten = []

    def close(self, ending: store.Ending = "cut", statistics: protocol.Statistics | None = None) -> bool:
        """End the turn. Returns False if it left nothing, so that it is not part of the conversation."""
        self.flush()
        text = "".join(self._heard)
        if self._open and (turn := self.tree.turn(self._open)):
            whole = _joined(turn.statistics, statistics)
            self.tree.replace(replace(turn, text=text, ending=ending, statistics=whole))
            self._record(store.FinishAnswer(self._open, text, ending, whole))
            if not _can_go_on(ending, text):
                del self._tokens[self._open]
        self._open, self._heard = None, []
        if not text and self._begun:
            self.tree.step_back()
            self.show(self.tree.end)
        return bool(text)

    def _add(self, turn: store.Turn) -> None:
        self.tree.add(turn)
        self.tree.end = turn.key
        self._record(store.AddMessage(self.key, turn))


def _can_go_on(ending: store.Ending, text: str) -> bool:
    """Whether an answer with this ending was broken off, but not inside a character that was shown."""
    return ending in _UNENDED and not (ending in ("length", "context") and text.endswith("\ufffd"))


def _joined(
    before: protocol.Statistics | None, now: protocol.Statistics | None
) -> protocol.Statistics | None:
    """Return the statistics of an answer that continued, over all its parts."""
    if before is None or now is None:
        return now or before
    sums = {name: getattr(before, name) + getattr(now, name) for name in _SUMS}
    known = before.plain_seconds is not None and now.plain_seconds is not None
    plain = (before.plain_seconds or 0.0) + (now.plain_seconds or 0.0) if known else None
    whole = replace(now, **sums, plain_seconds=plain, time_to_first_token=before.time_to_first_token)
    return replace(whole, tokens_per_second=whole.tokens / whole.seconds if whole.seconds else None)
