"""Saves the caches of chats while the engine is idle, and loads them again when their chats continue.

The content of a cache is first copied into memory, which takes a tenth of a second for a gigabyte. From
there it goes to the disk in pieces, between two commands. So no answer waits for a disk. Whatever fails here
costs only time: the prompt is then read as usual.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...choices import HEAD, is_scripted
from ...protocol import Load
from ..backends import CacheState, LoadedModel, Portable, ReadsAlong, common_prefix
from ..machine.hardware import memory_bytes
from ..machine.stored_facts import fingerprint
from ..pair.pair import Pair
from ..pair.reading import Calls, shared, usable
from .state_file import ReadingRule, SavedState, StateHead
from .state_folder import LEAST, ModelMark, StateFolder, StateWriter

_SHARE = 8
"""A chat that stays open is saved again when an eighth of its tokens is new. So all its files together have
at most nine times the bytes of the last one. A saved state is loaded if it brings at least an eighth of its
tokens: the load takes time for each of them, but less than an eighth of the time to read one."""


class ModelStates:
    """The saved states of one loaded model."""

    def __init__(self, model: LoadedModel, mark: ModelMark) -> None:
        self.model = model
        self.mark = mark
        self._saved: tuple[str, Sequence[int]] = ("", ())
        """The chat and the tokens of its latest state on disk, or on the way there."""

    def unsaved(self, chat: str) -> tuple[int, int]:
        """Return how many tokens of the cache are saved for `chat`, and how many are not."""
        held = self.model.reach(self.model.length)
        of_chat, tokens = self._saved
        covered = min(held, common_prefix(tokens, self.model.tokens)) if of_chat == chat else 0
        return covered, held - covered

    def taken(self, chat: str, calls: Calls, most: int) -> SavedState | None:
        """Return a copy of the cache, with at most `most` bytes; None if it cannot be copied."""
        state = self.model.take_state(most) if isinstance(self.model, Portable) else None
        if state is None or not _keeps_its_bits(self.model, calls, state.cut_from):
            return None
        self._saved = chat, state.tokens
        rule = ReadingRule(calls.chunk, calls.rows, tuple((each.start, each.stop) for each in calls.answers))
        copies = tuple((length, len(copy)) for length, copy in state.copies)
        head = StateHead(
            self.mark.model,
            self.mark.library,
            len(state.tokens),
            state.cut_from,
            copies,
            len(state.cells),
            rule,
        )
        return SavedState(head, state.tokens, tuple(copy for _, copy in state.copies), state.cells)

    def usable(self, context: Sequence[int], now: Calls, head: StateHead, tokens: Sequence[int]) -> int:
        """Return how many tokens of `context` a saved state would save from being read."""
        before = calls_of(head.rule)
        if head.tokens > self.model.capacity or not _keeps_its_bits(self.model, now, head.cut_from):
            return 0
        return usable(common_prefix(tokens, context[:-1]), before, now, head.reach)

    def put(self, chat: str, state: SavedState) -> bool:
        """Put a saved state into the cache. Returns False if that is impossible; the cache is then empty."""
        copies = zip((length for length, _ in state.head.copies), state.copies, strict=True)
        content = CacheState(state.tokens, state.cells, tuple(copies), state.head.cut_from)
        if not isinstance(self.model, Portable) or not self.model.put_state(content):
            return False
        self._saved = chat, state.tokens
        return True

    def forget(self, chat: str | None) -> None:
        """The states of `chat`, or all of them, are no longer on the disk."""
        if chat is None or chat == self._saved[0]:
            self._saved = ("", ())


@dataclass
class _Task:
    """A state that is in memory and must go to the disk."""

    states: ModelStates
    chat: str
    state: SavedState
    writer: StateWriter | None = None

    def drop(self) -> None:
        if self.writer:
            self.writer.drop()


class SavedChats:
    """The chats of a loaded pair: saved when they are left, loaded when they continue."""

    def __init__(
        self, pair: Pair | None, folder: StateFolder | None, marks: Sequence[ModelMark] = (),
        least: int = LEAST, memory: Callable[[], int | None] = lambda: memory_bytes()[1],
    ) -> None:  # fmt: skip
        """Without a pair or a folder, nothing is saved. `marks` are those of the models of the pair.

        `least` is the number of tokens that are worth a file. `memory` returns the free bytes of memory.
        """
        self.folder = folder
        """None if nothing is saved."""
        self._reader = pair.reader if pair else None
        models = pair.models if pair and folder else ()
        self._states = [ModelStates(*each) for each in zip(models, marks, strict=bool(models))]
        self._least = least
        self._memory = memory
        self._chat = ""
        """The chat in the caches; empty for none, and for one that is not to be saved."""
        self._tasks: list[_Task] = []
        self._fault = ""
        """Why the last state could not be saved; empty if it could."""
        self._told = ""
        """The last reason that the user knows."""

    @classmethod
    def of(cls, pair: Pair, command: Load, path: Path) -> SavedChats:
        """Return the saved chats in the folder `path` for a pair that was loaded by `command`."""
        if command.disk_cache <= 0 or is_scripted(command.main):
            return cls(None, None)
        return cls(pair, StateFolder(path, command.disk_cache), marks_of(pair, command))

    # Loading

    def wake(
        self, context: Sequence[int], answers: Sequence[range], first: int, cancelled: Callable[[], bool]
    ) -> int:
        """Load the longest saved beginning of `context`, if the main model's cache has far fewer tokens.

        `answers` are the earlier answers, and the present one begins at the token `first`. Return how many
        tokens of the context it has then; 0 if nothing was loaded.
        """
        if not (self._chat and self._states and self._reader):
            return 0
        reader = self._reader
        now = reader.rule(answers, first)
        found = self._woken(self._states[0], context, now, reader.usable(context, now), cancelled)
        if found:
            reader.calls = calls_of(found.head.rule)
            if isinstance(self._states[-1].model, ReadsAlong):  # it would read on without its saved state
                self.wake_draft(context, cancelled)
        return reader.usable(context, now) if found else 0

    def wake_draft(self, context: Sequence[int], cancelled: Callable[[], bool]) -> bool:
        """Load the longest saved beginning of `context` for the draft, if its cache has far fewer tokens.

        Return whether something was loaded. The cache may then have more tokens than `context` shares.
        """
        if not self._chat or len(self._states) < 2:
            return False
        states = self._states[1]
        draft = states.model
        held = draft.reach(shared(draft, context))
        return self._woken(states, context, Calls(draft.chunk), held, cancelled) is not None

    def _woken(
        self, states: ModelStates, context: Sequence[int], now: Calls, has: int,
        cancelled: Callable[[], bool],
    ) -> SavedState | None:  # fmt: skip
        """Return the saved state that was put into the cache, which has `has` tokens of `context` so far."""
        if len(context) - 1 - has < self._least or self.folder is None:
            return None
        found = self.folder.candidates(states.mark, lambda *each: states.usable(context, now, *each))
        for candidate in found:
            if candidate.usable - has < max(self._least, candidate.usable // _SHARE):
                break
            if candidate.size > self._room() or not (state := self.folder.load(candidate.path, cancelled)):
                continue
            if states.put(self._chat, state):
                return state
            self.folder.reject(candidate.path, "the library does not take it")
            has = 0
        return None

    def _room(self) -> int:
        """Return the most bytes for a copy of a cache in memory: half of the free memory."""
        free = self._memory()
        return sys.maxsize if free is None else free // 2

    # Saving

    def turn_to(self, chat: str) -> None:
        """The next answer is one of `chat`; empty for a chat that is not to be saved."""
        if chat != self._chat:
            self.leave()
        self._chat = chat

    def leave(self) -> None:
        """Copy the unsaved caches of the present chat into memory. Other tokens will follow there."""
        self._take(lambda covered: self._least)
        self._chat = ""

    def save(self, idle: Callable[[], bool]) -> None:
        """Save the present chat, and all chats before it, as long as the engine is idle."""
        if idle():
            self._take(lambda covered: max(self._least, covered // _SHARE))
        while self._tasks and idle():
            self._step()

    def finish(self) -> None:
        """Save all that is not saved yet. It may take seconds."""
        self.leave()
        while self._tasks:
            self._step()

    @property
    def active(self) -> bool:
        """Whether `finish` may have work. Any thread may ask."""
        return self.folder is not None and bool(self._chat or self._tasks)

    def forget(self, chat: str | None) -> None:
        """Save nothing more of `chat`, or of any chat, until its next answer."""
        for task in [each for each in self._tasks if chat in (None, each.chat)]:
            task.drop()
            self._tasks.remove(task)
        for states in self._states:
            states.forget(chat)
        if chat in (None, self._chat):
            self._chat = ""

    def told(self) -> str:
        """Return a sentence about a chat that could not be saved, for the user; empty if there is none.

        Each reason is told once, until a state is saved again.
        """
        if self._fault == self._told:
            return ""
        self._told = self._fault
        if not self._fault:
            return ""
        return (
            f"A chat will be read again when you come back to it: its cache cannot be saved ({self._fault})."
        )

    def _due(self, states: ModelStates, least: Callable[[int], int]) -> bool:
        if not self._chat:
            return False
        covered, unsaved = states.unsaved(self._chat)
        return unsaved >= least(covered)

    def _take(self, least: Callable[[int], int]) -> None:
        """Copy each cache of which so many tokens are unsaved. `least` gets the number of saved ones."""
        for states in self._states:
            if not self._due(states, least):
                continue
            calls = self._reader.calls if self._reader and states is self._states[0] else Calls(0)
            if state := states.taken(self._chat, calls, self._room()):
                for task in self._tasks:
                    if task.states is states and task.chat == self._chat:
                        task.drop()
                        self._tasks.remove(task)
                        break
                self._tasks.append(_Task(states, self._chat, state))

    def _step(self) -> None:
        """Write one piece of the oldest task."""
        task = self._tasks[0]
        try:
            if task.writer is None and self.folder:
                task.writer = self.folder.begin(task.states.mark, task.chat, task.state)
            if task.writer is None or task.writer.step():
                self._tasks.remove(task)
                self._fault = ""
        except OSError as error:
            task.drop()
            self._tasks.remove(task)
            task.states.forget(task.chat)
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        reason = error.strerror or str(error)
        if not self._fault:
            print(f"saved states: a chat cannot be saved: {reason}", file=sys.stderr, flush=True)
        self._fault = reason


def _keeps_its_bits(model: LoadedModel, calls: Calls, cut_from: int) -> bool:
    """Return whether the next rows have the bits that exact mode promises.

    A saved window has only its latest cells. They lie in other places then, and attention over them rounds
    differently.
    """
    return not (calls.rows and cut_from and model.rewinds == "anywhere")


def calls_of(rule: ReadingRule) -> Calls:
    """Return the calls of a saved rule."""
    return Calls(rule.chunk, rule.rows, tuple(range(*each) for each in rule.answers))


def marks_of(pair: Pair, command: Load) -> list[ModelMark]:
    """Return the conditions for the caches of a pair that was loaded by `command`."""
    backend, exact = pair.backend, pair.rounding and pair.rounding.exact
    library = f"{backend.name} {backend.version}"
    bits = f"exact {backend.device()} {command.threads} {pair.reader.rows}" if exact else "fast"
    marks = []
    for model, form in zip(pair.models, (f"{command.cache_type} {bits}", "draft"), strict=False):
        own = model.facts.path
        path = Path(pair.main.facts.path if own == HEAD else own)
        form = HEAD if own == HEAD else form
        group = "\n".join((str(path), backend.name, form))
        marks.append(ModelMark(group, _identity(path), library))
    return marks


def _identity(path: Path) -> str:
    """Return the identity of a model's file or folder: its ends, its size and the time of its last change."""
    changed = 0
    with suppress(OSError):
        changed = path.stat().st_mtime_ns
    return f"{fingerprint(path)} {changed}"
