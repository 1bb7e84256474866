"""Saves the caches of chats while the engine is idle, and loads them again when their chats continue.

The content of a cache is first copied into memory. From there it goes to the disk in pieces, between two
commands. So no answer waits for a disk. The copy also stays in memory while there is room. A fault here
costs only time: the prompt is then read as usual.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...choices import HEAD, is_scripted
from ...protocol import Load
from ..backends import ReadsAlong
from ..library.split_file import files_of
from ..machine.hardware import spare_memory
from ..machine.stored_facts import fingerprint
from ..pair.pair import Pair
from ..pair.reading import Calls, shared
from .held_states import FEWEST, HeldStates
from .model_states import ModelStates, calls_of
from .state_file import SavedState
from .state_folder import LEAST, ModelMark, StateFolder, StateWriter

_SHARE, _SHARE_HELD = 8, 256
"""A chat that stays open is saved again when an eighth of its tokens is new. So all its files together have
at most nine times the bytes of the last one. The state of another chat is loaded if it brings at least an
eighth of its tokens: the load takes time for each of them, but less than an eighth of the time to read one. A
state in memory is put back much faster: there, so small a part is enough."""
_ANY = 1
"""Tokens that are enough where a chat is left or comes back. If they were read again, it would be in calls of
other sizes, which round differently: the text could part from that of an unbroken session."""


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
        least: int = LEAST, held: HeldStates | None = None,
        memory: Callable[[], tuple[int, int | None]] = lambda: spare_memory(),
    ) -> None:  # fmt: skip
        """Without a pair, nothing is saved; without a folder, nothing goes to the disk. `marks` are those of
        the models of the pair, `held` the states in memory.

        `least` is the number of new tokens for which an open chat is written. `memory` returns the bytes of
        memory, and the free ones.
        """
        self.folder = folder
        """None if nothing goes to the disk."""
        self._held = held or HeldStates(0, memory)
        self._reader = pair.reader if pair else None
        models = pair.models if pair and (folder or self._held.on) else ()
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
        if is_scripted(command.main):
            return cls(None, None)
        held = HeldStates(command.memory_cache, lambda: spare_memory())
        folder = StateFolder(path, command.disk_cache) if command.disk_cache > 0 else None
        return cls(pair, folder, marks_of(pair, command), held=held)

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
        most = len(context) - 1
        own, states.own = states.own, ""
        usable = partial(states.usable, context, now)
        held = self._held.best(states.mark, usable) if own or most - has >= FEWEST else None
        if held and own == held.chat:  # others may have read the same tokens in other calls
            held = held if held.usable >= max(has, _ANY) else None
        elif held and held.usable - has < max(FEWEST, held.usable // _SHARE_HELD):
            held = None
        read = self._read(states, usable, own, most, held.usable if held else has, cancelled)
        if read or held is None:
            return read
        self._held.use(states.mark, held.chat)
        if self.folder:
            self.folder.use(states.mark, held.chat)
        if states.put(held.state):
            return held.state
        self._held.forget(held.chat)
        return None

    def _read(
        self, states: ModelStates, usable: Callable[..., int], own: str, most: int, other: int,
        cancelled: Callable[[], bool],
    ) -> SavedState | None:  # fmt: skip
        """Return the state from the disk that was put into the cache, where `most` tokens are wanted.

        It must be longer than the `other` tokens that can be had without the disk: by a single one if it is
        the state of the chat `own`, and else by many.
        """
        if self.folder is None or most - other < (_ANY if own else self._least):
            return None
        for candidate in self.folder.candidates(states.mark, usable):
            is_own = own and self.folder.is_of(candidate.path, own)
            if candidate.usable - other < (_ANY if is_own else max(self._least, candidate.usable // _SHARE)):
                continue
            if candidate.size > self._room() or not (state := self.folder.load(candidate.path, cancelled)):
                continue
            if states.put(state):
                states.saved(self._chat, state)
                return state
            self.folder.reject(candidate.path, "the library does not take it")
        return None

    def _room(self) -> int:
        """Return the most bytes for a copy of a cache in memory: half of the free memory."""
        _, free = self._memory()
        return sys.maxsize if free is None else free // 2

    # Saving

    def turn_to(self, chat: str) -> None:
        """The next answer is one of `chat`; empty for a chat that is not to be saved."""
        if chat != self._chat:
            self.leave()
            for states in self._states:
                states.own = chat
        self._chat = chat

    def leave(self) -> None:
        """Copy the unsaved caches of the present chat into memory. Other tokens will follow there."""
        self._take(lambda covered: _ANY, to_hold=True)
        self._chat = ""

    def save(self, idle: Callable[[], bool]) -> None:
        """Save the present chat, and all chats before it, as long as the engine is idle."""
        if idle():
            self._take(lambda covered: max(self._least, covered // _SHARE))
        while self._tasks and idle():
            self._step()

    def finish(self) -> None:
        """Write all that is not on the disk yet. It may take seconds. States in memory make room first."""
        self._held.forget()
        self._take(lambda covered: _ANY)
        self._chat = ""
        while self._tasks:
            self._step()

    @property
    def active(self) -> bool:
        """Whether `finish` may have work. Any thread may ask."""
        return self.folder is not None and bool(self._chat or self._tasks)

    def forget(self, chat: str | None) -> None:
        """Save nothing more of `chat`, or of any chat, until its next answer."""
        self._drop_tasks(None, chat)
        for states in self._states:
            states.forget(chat)
        self._held.forget(chat)
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

    def relieve(self) -> None:
        """Drop all states in memory if it is short. An answer asks again and again."""
        if self._held.relieve():
            self._drop_tasks()

    def _take(self, least: Callable[[int], int], *, to_hold: bool = False) -> None:
        """Copy each cache of which so many tokens are not on the disk. `least` gets the number of those
        there. If the copy is `to_hold`, a single token that is not in memory is enough."""
        for states in self._states if self._chat else ():
            covered, unsaved = states.unsaved(self._chat)
            to_write = self.folder is not None and unsaved >= least(covered)
            _, unheld = states.beyond(self._held.tokens(states.mark, self._chat))
            if not to_write and not (to_hold and self._held.on and unheld):
                continue
            self._held.prepare(states.mark, self._chat, states.model.length)
            if state := self._copy(states):
                self._held.keep(states.mark, self._chat, state)
                if to_write:
                    self._drop_tasks(states, self._chat)
                    states.saved(self._chat, state)
                    self._tasks.append(_Task(states, self._chat, state))

    def _copy(self, states: ModelStates) -> SavedState | None:
        """Return a copy of the cache; None if there is no room for one, or nothing to copy."""
        calls = self._reader.calls if self._reader and states is self._states[0] else Calls(0)
        try:
            return states.taken(calls, self._room())
        except MemoryError:
            if not self._held.size:
                return None
        self._held.forget()
        with suppress(MemoryError):
            return states.taken(calls, self._room())
        return None

    def _drop_tasks(self, states: ModelStates | None = None, chat: str | None = None) -> None:
        """Drop the copies that wait for the disk: those of a model and a chat, or all of them."""
        for task in [
            each for each in self._tasks if states in (None, each.states) and chat in (None, each.chat)
        ]:
            task.drop()
            task.states.forget(task.chat)
            self._tasks.remove(task)

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
            if not isinstance(error, FileNotFoundError):  # another engine was told to forget this chat
                task.states.forget(task.chat)
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        reason = error.strerror or str(error)
        if not self._fault:
            print(f"saved states: a chat cannot be saved: {reason}", file=sys.stderr, flush=True)
        self._fault = reason


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
    """Return the identity of a model: the ends, the size and the time of the last change of each file."""
    found = []
    with suppress(OSError):
        for each in files_of(path):
            found.append(f"{fingerprint(each)} {each.stat().st_mtime_ns}")
    return " ".join(found)
