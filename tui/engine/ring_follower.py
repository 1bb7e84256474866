"""A worker of an MLX ring: computes some layers of a model, in the calls that the engine tells.

One thread does all work with MLX, because its arrays belong to the thread that made them. The pipe is read
elsewhere (`worker.py`), so that probes are answered during a call. A failed call is reported, and the engine
then ends the worker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from math import inf
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from .backends import GivenUp, Options
from .library.folder_copies import copy_here
from .library.local import Library
from .machine.hardware import all_memory, memory_bytes
from .machine.ring_lines import Entrance
from .machine.worker_messages import (
    BeginStage,
    Chosen,
    DropStage,
    Extend,
    FindModel,
    FromWorker,
    LoadStage,
    ModelFound,
    OfRing,
    OfStage,
    OpenRing,
    Rewind,
    RingJoined,
    RingOpened,
    StageFailed,
    StageReady,
    StartAnswer,
    Survey,
    Surveyed,
    Unable,
    WorkerDevice,
)
from .sentences import reason_of
from .speculation.sampling import Chain, InvalidLogits, Sampler

if TYPE_CHECKING:
    from .backends.mlx.model import MlxModel

Send = Callable[[FromWorker], None]


class RingFollower:
    """Carries out messages one after the other, on a thread of its own."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting: SimpleQueue[OfRing | Survey] = SimpleQueue()
        self._unwanted = False
        """Whether the load in progress is given up."""
        self._entrance: Entrance | None = None
        self._lines: object = None
        self._model: MlxModel | None = None
        Thread(target=self._work, name="ring", daemon=True).start()

    def put(self, message: OfRing | Survey) -> None:
        """Carry out `message` after all others. May be called from any thread."""
        self._unwanted = isinstance(message, DropStage)
        self._waiting.put(message)

    def _work(self) -> None:
        while True:
            message = self._waiting.get()
            try:
                self._carry_out(message)
            except GivenUp:
                self._drop()
            except Exception as error:  # the process edge: a foreign library may raise anything
                reason = reason_of(error)
                self._send(StageFailed(reason) if isinstance(message, OfStage) else Unable(reason))

    def _carry_out(self, message: OfRing | Survey) -> None:
        match message:
            case Survey():
                self._send(self._survey())
                import_module(f"{__package__}.backends.mlx")  # the first load need not wait for it
            case FindModel(name, path, digest):
                places = Library.here(all_memory).places
                self._send(ModelFound(*copy_here(name, path, digest, places)))
            case OpenRing(rank, size):
                self._join(rank, size)
            case LoadStage():
                self._load(message)
            case DropStage():
                self._drop()
            case _:
                self._call(message)

    def _survey(self) -> Surveyed:
        import mlx.core as mx

        total, free = memory_bytes()
        free = total if free is None else free
        if most := int(mx.device_info().get("max_recommended_working_set_size") or 0):
            total, free = min(total, most), min(free, most - mx.get_active_memory())
        name = str(mx.device_info().get("device_name") or "processor")[:200]
        return Surveyed(mx.__version__, (WorkerDevice(name, max(0, free), total),))

    def _join(self, rank: int, size: int) -> None:
        self._entrance = entrance = Entrance()
        self._send(RingOpened(entrance.left, entrance.right))
        from .backends.mlx.ring import join_ring

        def join(accepts: int, connects: int) -> None:
            self._lines = join_ring(rank, size, accepts, connects)

        entrance.join(join)
        self._send(RingJoined())

    def _load(self, message: LoadStage) -> None:
        from .backends.mlx import MlxBackend

        self._drop()
        options = Options(
            "main", message.context_length, cache_type=message.cache_type, exact=message.exact
        )  # fmt: skip
        share = Following(self, self._lines, range(message.begin, message.end))
        self._model = MlxBackend().load(
            message.path, replace(options, ring=share), lambda _: not self._unwanted
        )

    def wait_for_begin(self) -> None:
        """Report that the weights are there, and wait for the other machines. Raises `GivenUp`."""
        self._send(StageReady())
        if not isinstance(self._waiting.get(), BeginStage):
            raise GivenUp("the load was given up")

    def _call(self, message: OfRing) -> None:
        if self._model is None:
            return  # the load has failed, and the engine knows it
        match message:
            case StartAnswer():
                self._model.start(self._sampler(self._model, message))
            case Rewind(length):
                self._model.rewind(length)
            case Extend(number, tokens, picks, compared):
                try:
                    chosen = self._model.extend(tokens, picks)
                except InvalidLogits:  # the engine sees the same numbers
                    return
                if compared:
                    self._send(Chosen(number, tuple(pick.token for pick in chosen)))

    def _sampler(self, model: MlxModel, message: StartAnswer) -> Sampler:
        constraint = model.constraint(message.grammar) if message.grammar else None
        bias = {token: -inf if value is None else value for token, value in message.bias}
        chain = Chain(
            message.temperature, message.top_k, message.top_p, message.min_p, message.repeat_penalty,
            message.presence_penalty, message.frequency_penalty, message.penalty_last_n, bias,
        )  # fmt: skip
        return Sampler(chain, message.seed, message.start, constraint=constraint)

    def _drop(self) -> None:
        if self._model:
            self._model.close()
        self._model = None


class Following:
    """Implements `backends.Ring` on a worker."""

    name = ""

    def __init__(self, follower: RingFollower, lines: object, own: range) -> None:
        self._follower = follower
        self.lines, self.own = lines, own

    def begin(self, options: Options) -> None:
        """The engine has told all machines."""

    def ready(self, wanted: Callable[[], bool]) -> None:
        self._follower.wait_for_begin()

    def give_up(self) -> None:
        """The engine hears of a failure from `RingFollower`."""
