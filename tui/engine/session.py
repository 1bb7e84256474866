"""Carries out commands one after the other, on the thread that runs the models, and owns the loaded pair.

Every command ends in an event. No failure of a model or of a command ends the session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from time import monotonic

from msgspec import structs

from .. import protocol
from ..choices import AUTO, LOOKUP, DraftLength
from ..paths import find_states
from .answer.answer import Answer
from .answer.inspection import inspect
from .answer.templates import TemplateRenderer
from .backends import GivenUp, LoadedModel, ModelError, asking
from .backends.selection import open_backend
from .library.local import Library
from .machine.hardware import all_memory
from .machine.worker_pool import WorkerPool
from .pair.distribution import distribute
from .pair.exactness import keep_last
from .pair.pair import Pair, load_pair
from .pair.stages import Progress
from .sentences import failure
from .speculation.policy import FixedLength
from .speculation.sampling import InvalidLogits
from .starter import NAME as STARTER
from .starter import place
from .states.saved_chats import SavedChats
from .states.state_folder import DiskUsage, StateFolder

LOAD = 0
"""The id of a load; every answer has its own id."""
_STEP = 0.01
_INTERVAL = 0.05


class Session:
    """Carries out commands one at a time."""

    def __init__(
        self, send: Callable[[protocol.Event], None], cancelled: Callable[[int], bool],
        draft_length: Callable[[protocol.Generate], DraftLength] = lambda command: command.draft_length,
        library: Library | None = None,
        idle: Callable[[], bool] = lambda: False,
        workers: WorkerPool | None = None,
    ) -> None:  # fmt: skip
        """`cancelled` returns whether the answer (or load) with an id is no longer wanted.

        `draft_length` returns the draft length for the next rounds of a command. Without a `library`, it uses
        the library of this machine. `idle` returns whether no command is waiting. `workers` are the
        workers that loads may use.
        """
        self._workers = workers or WorkerPool()
        self._idle = idle
        self._library = library or Library.here(all_memory)
        self._send = send
        self._cancelled = cancelled
        self._draft_length = draft_length
        self._pair: Pair | None = None
        self._chats = SavedChats(None, None)
        self._templates = TemplateRenderer()

    def preload(self) -> None:
        """Import the backend that most models need, so that the first load need not wait for it."""
        with suppress(Exception):  # the load that needs it reports the fault
            open_backend(place(STARTER, "main"))

    def serve(self, commands: Iterator[protocol.Command]) -> None:
        """Carry out all `commands`."""
        for command in commands:
            self.do(command)

    @property
    def saves(self) -> bool:
        """Whether the end of the session may have a chat to save."""
        return self._chats.active

    def save(self) -> None:
        """Save the chat: the process ends."""
        self._chats.finish()

    def close(self) -> None:
        """Save the chat, free the models and end the template worker."""
        self._unload()
        self._templates.close()
        self._workers.close()

    def do(self, command: protocol.Command) -> None:
        """Carry out one command; every error becomes a `Failed`."""
        answer: int = getattr(command, "id", LOAD)
        try:
            match command:
                case protocol.Load():
                    self._load(command)
                case protocol.Generate():
                    self._generate(command)
                    self._chats.save(self._idle)
                    self._practise()
                case protocol.Inspect():
                    self._chats.leave()
                    stopped = partial(self._stopped, command.id)
                    inspect(self._loaded, command, self._send, stopped, self._templates)
                case protocol.Count():
                    tokens = self._loaded.main.vocabulary.encode(command.text)
                    self._send(protocol.Counted(command.id, len(tokens)))
                case protocol.ForgetStates():
                    gone = self._forget(command.chat or None)
                    self._send(protocol.StatesForgotten(command.id, gone.files, gone.size))
                case protocol.Unload():
                    self._unload()
                    self._send(protocol.Unloaded())
            self._chats.save(self._idle)
        except InvalidLogits as error:
            hint = "Its file may be damaged: choose another model, or download it again."
            self._fail(answer, ModelError(f"the model produced {error}", hint))
        except Exception as error:  # the process edge
            self._fail(answer, error)

    def _load(self, command: protocol.Load) -> None:
        started = monotonic()
        if self._pair:
            self._unload()
            self._send(protocol.Unloaded())
        if command.draft == AUTO:
            self._send(protocol.Loading("Looking for a draft"))
        command = self._library.resolved(command, lambda: not self._cancelled(LOAD))
        if command.workers:
            self._send(protocol.Loading("Connecting to the workers"))
        parts = distribute(command, self._workers)
        self._pair = pair = load_pair(command, self._progress(), parts)
        if pair.draft and (cost := pair.draft_cost) is not None:
            self._library.records.keep_cost(pair.main.facts.path, pair.draft.facts.path, cost)
        # A cache on workers would cross their links, in one call that nothing can interrupt.
        saved = structs.replace(command, disk_cache=-1, memory_cache=0) if parts.shared else command
        self._chats = SavedChats.of(pair, saved, find_states())
        if command.disk_cache == 0:
            self._forget(None)
        self._send(
            protocol.Loaded(
                self._info(pair.main, demo=command.main == STARTER),
                self._info(pair.draft, demo=command.draft == STARTER) if pair.draft else None,
                pair.obstacle,
                pair.backend.name,
                pair.backend.device(),
                pair.main.capacity,
                pair.plain_tokens_per_second,
                monotonic() - started,
                pair.policy.length if isinstance(pair.policy, FixedLength) else AUTO,
                pair.rounding,
                parts.workers,
            )
        )
        self._learn()

    def _learn(self) -> None:
        """Measure the facts that a load need not wait for, until a command comes."""
        pair = self._loaded
        if pair.later and self._idle():
            with suppress(GivenUp, ModelError, InvalidLogits):
                with asking(pair.models, lambda tokens: self._idle()):
                    rounding = pair.later(lambda _: self._idle())
                keep_last(pair.main.facts.path, rounding)
                self._pair = replace(pair, rounding=rounding, later=None)
        self._practise()

    def _practise(self) -> None:
        """Learn the costs of rounds, until a command comes."""
        with suppress(GivenUp, ModelError, InvalidLogits):
            self._loaded.practise(self._idle)

    def _info(self, model: LoadedModel, *, demo: bool) -> protocol.ModelFacts:
        """Return `model` as the app shows it, under its name in the library."""
        facts = model.facts
        return structs.replace(facts, name=self._library.name(facts.path, facts.name), demo=demo)

    def _progress(self) -> Progress:
        """Return a function that sends progress, but not every step of it."""
        shown: tuple[str, float, float] = ("", 0.0, 0.0)

        def progress(stage: str, fraction: float | None) -> bool:
            nonlocal shown
            now, share = monotonic(), fraction or 0.0
            if stage != shown[0] or (share >= shown[1] + _STEP and now >= shown[2] + _INTERVAL):
                shown = (stage, share, now)
                self._send(protocol.Loading(stage, fraction))
            return not self._cancelled(LOAD)

        return progress

    @property
    def _loaded(self) -> Pair:
        if self._pair is None:
            raise ModelError("no model is loaded", "Load a model first.")
        return self._pair

    def _generate(self, command: protocol.Generate) -> None:
        pair = self._loaded
        stopped, length = partial(self._stopped, command.id), partial(self._draft_length, command)
        self._chats.turn_to(command.chat)
        if fault := self._chats.told():
            self._send(protocol.Notice(command.id, fault))
        answer = Answer(pair, command, self._send, stopped, length, chats=self._chats)
        finished = answer.run(self._templates)
        if command.draft_length == AUTO and length() == AUTO:
            draft = pair.draft.facts.path if pair.draft else LOOKUP
            self._library.records.keep(pair.main.facts.path, draft, finished)

    def _stopped(self, answer: int) -> bool:
        """Return whether an answer is no longer wanted. Meanwhile, look after the free memory."""
        self._chats.relieve()
        return self._cancelled(answer)

    def _fail(self, answer: int, error: Exception) -> None:
        if answer != LOAD and self._pair:
            self._pair.clear()
        self._send(failure(answer, error))

    def _forget(self, chat: str | None) -> DiskUsage:
        """Remove the saved state of a chat, or all of them. Return what was removed."""
        self._chats.forget(chat)
        return StateFolder(find_states(), 0).forget(chat)

    def _unload(self) -> None:
        if self._pair:
            self._chats.finish()
            self._pair.close()
        self._pair, self._chats = None, SavedChats(None, None)
