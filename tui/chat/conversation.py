"""A conversation as a tree of turns, and the source of the messages for the next prompt. It shows and sends
nothing.

An edited prompt or another answer is a branch; the screen shows one path through the tree. Every event is
recorded at once as a change that the store can keep.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tui import protocol, store
from tui.clean import clean_line
from tui.protocol.pieces import said

from .context import SentContext
from .requests import Asked

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
            lambda key: self._turns[key] if key in self._path_keys() else None,
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
        self._turns: dict[str, store.Turn] = {}
        self._next: defaultdict[str, list[str]] = defaultdict(list)
        """The keys of the turns after each turn, oldest first; removed turns too."""
        self._path: dict[str, None] = {}
        self._path_end: str | None = None
        self._tokens: dict[str, tuple[int, ...]] = {}
        """The tokens of the answers that can continue."""
        self._removed: list[dict[str, store.Turn]] = []
        """The removed turns, the latest removal last."""
        self._shown = ""
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
            parent = turn.parent if turn.parent in self._turns else ""
            self._turns[turn.key] = replace(turn, parent=parent, rounds=())
            self._next[parent].append(turn.key)
            if turn.rounds and store.text_of(turn.rounds) == turn.text and _can_go_on(turn.ending, turn.text):
                self._tokens[turn.key] = tuple(token for each in turn.rounds for token in each.tokens)
        self.context.begin(stored.sent_from, stored.summary)
        self._shown = stored.shown if stored.shown in self._turns else ""
        return self._step_back()

    # The tree

    def turn(self, key: str) -> store.Turn | None:
        return self._turns.get(key)

    @property
    def path(self) -> Sequence[store.Turn]:
        """The turns that are shown, oldest first."""
        return [self._turns[key] for key in self._path_keys()]

    def _path_keys(self) -> dict[str, None]:
        """Return the keys of the path in order. The result is kept until the path ends elsewhere."""
        if self._path_end != self._shown:
            above = self.above(self._turns.get(self._shown))
            self._path, self._path_end = dict.fromkeys(reversed(above)), self._shown
        return self._path

    @property
    def last(self) -> store.Turn | None:
        """The last turn of the path."""
        return self._turns.get(self._shown)

    def show(self, key: str) -> None:
        """End the path at the turn `key`; empty for the beginning."""
        self._shown = key
        self._record(store.SelectBranch(self.key, key))

    def remove(self, turn: store.Turn) -> store.Turn | None:
        """Remove `turn` and all turns after it. Returns the prompt that has no answer now, if there is one.

        Another branch is shown in its place where there is one.
        """
        beside = self._beside(turn)
        gone = {key: each for key, each in self._turns.items() if turn.key in self.above(each)}
        self._removed.append(gone)
        self._turns = {key: each for key, each in self._turns.items() if key not in gone}
        self._record(store.RemoveMessages(tuple(gone)))
        others = [each for each in beside if each.key != turn.key]
        self._shown = self.leaf(others[-1]) if others else turn.parent
        unanswered = self._step_back()
        self.show(self._shown)
        return unanswered

    def restore(self) -> bool:
        """Restore the turns of the last removal. Returns False if there is none."""
        if not self._removed:
            return False
        gone = self._removed.pop()
        self._turns |= gone
        self._record(store.RemoveMessages(tuple(gone), removed=False))
        self.show(self.leaf(next(iter(gone.values()))))
        return True

    def branch(self, turn: store.Turn) -> tuple[int, int]:
        """Return the place of `turn` among the branches beside it, from 1, and the number of branches."""
        keys = [each.key for each in self._beside(turn)]
        return (keys.index(turn.key) + 1 if turn.key in keys else len(keys) + 1), max(1, len(keys))

    def sibling(self, turn: store.Turn, by: int) -> store.Turn | None:
        """Return the branch `by` places after `turn`."""
        beside = self._beside(turn)
        place = next((number for number, each in enumerate(beside) if each.key == turn.key), None)
        return None if place is None or not 0 <= place + by < len(beside) else beside[place + by]

    def leaf(self, turn: store.Turn) -> str:
        """Return the last turn of the latest path through `turn`."""
        for each in reversed(self._turns.values()):
            if each.role == "assistant" and each.text and turn.key in self.above(each):
                return each.key
        return turn.key

    def above(self, turn: store.Turn | None) -> dict[str, None]:
        """Return the keys from `turn` up to the beginning, the key of `turn` first."""
        keys: dict[str, None] = {}
        while turn:
            keys[turn.key] = None
            turn = self._turns.get(turn.parent)
        return keys

    def _beside(self, turn: store.Turn) -> list[store.Turn]:
        """Return `turn` and the turns that could stand in its place. A prompt without an answer could not."""
        beside = [self._turns[key] for key in self._next[turn.parent] if key in self._turns]
        return [each for each in beside if each.role == turn.role and self._could_stand(each)]

    def _could_stand(self, turn: store.Turn) -> bool:
        if turn.key in self._path_keys():
            return True
        answers = [self._turns[key] for key in self._next[turn.key] if key in self._turns]
        return bool(turn.text) if turn.role == "assistant" else any(each.text for each in answers)

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
        self._add(store.Turn(draw_key(), self._shown, "user", question, files=files))
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
            self._shown,
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
        if self._open:
            turn = self._turns[self._open]
            whole = _joined(turn.statistics, statistics)
            self._turns[self._open] = replace(turn, text=text, ending=ending, statistics=whole)
            self._record(store.FinishAnswer(self._open, text, ending, whole))
            if not _can_go_on(ending, text):
                del self._tokens[self._open]
        self._open, self._heard = None, []
        if not text and self._begun:
            self._step_back()
            self._record(store.SelectBranch(self.key, self._shown))
        return bool(text)

    def _step_back(self) -> store.Turn | None:
        """Go back to the last answer. Returns the prompt after it that had no answer, if there was one."""
        prompt = None
        while (last := self._turns.get(self._shown)) and (last.role == "user" or not last.text):
            prompt = last
            self._shown = last.parent
        return prompt

    def _add(self, turn: store.Turn) -> None:
        self._turns[turn.key] = turn
        self._next[turn.parent].append(turn.key)
        self._shown = turn.key
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
