"""An MLX ring as its leader sees it: the workers that compute the other layers of a main model.

It forms the ring once in the life of the engine, loads the stages, tells the workers each call, and compares
the tokens that they choose. A worker that is lost ends the engine, as with llama.cpp. It computes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, pairwise
from threading import Condition
from typing import NoReturn

from ..backends import GivenUp, ModelError, Options
from ..machine.ring_lines import Join, close_ring
from ..machine.worker_link import START, WorkerLink, WorkerLost
from ..machine.worker_messages import (
    BeginStage,
    Chosen,
    DropStage,
    FromWorker,
    LoadStage,
    OfStage,
    OpenRing,
    RingJoined,
    RingOpened,
    StageFailed,
    StageReady,
)
from ..machine.worker_pool import FormedRing, WorkerPool

_JOINING = 60.0
"""Seconds in which a worker must join, which imports MLX. A lost worker is noticed much sooner."""
_MOMENT = 0.1
"""Seconds between two looks at a load that may be cancelled."""
_ALONE = "Load the model again. If it happens again, use one machine, without --workers."


def form_ring(links: Sequence[WorkerLink], pool: WorkerPool) -> FormedRing:
    """Return the ring of this process, which is formed at the first call. Raises `ModelError`."""
    if pool.ring:
        return pool.ring
    from ..backends.mlx.ring import RingWire, join_ring

    found: list[RingWire] = []

    def join(accepts: int, connects: int) -> None:
        found.append(join_ring(0, len(links) + 1, accepts, connects))

    try:
        _close(links, join, pool)
    except WorkerLost as error:
        raise ModelError(error.message, error.hint) from None
    pool.ring = FormedRing(tuple(links), found[0])
    return pool.ring


def _close(links: Sequence[WorkerLink], join: Join, pool: WorkerPool) -> None:
    members = []
    for rank, link in enumerate(links, 1):
        doors = link.ask(OpenRing(rank, len(links) + 1), RingOpened, START)
        members.append((link, doors.left, doors.right))
    for link in links:
        link.wait(RingJoined, _JOINING)
        link.rely()
    try:
        close_ring(members, join)
    except RuntimeError as error:  # of mlx
        pool.failed(links, f"The machines cannot connect to a ring: {error}"[:300], _ALONE)


class RingLeader:
    """Implements `backends.mlx.ring.LeadsRing` for one load."""

    def __init__(
        self, ring: FormedRing, layers: Sequence[int], paths: Sequence[str], name: str, pool: WorkerPool
    ) -> None:
        """`layers` are the numbers of layers: of each worker, and of this machine. `paths` are the places of
        the model on the workers."""
        self.name = name
        self.lines = ring.lines
        ends = [0, *accumulate(layers)]
        *self._shares, self.own = (range(begin, end) for begin, end in pairwise(ends))
        self._links, self._paths = ring.links, paths
        self._pool = pool
        self._changed = Condition()
        self._ready: set[int] = set()
        self._fault: ModelError | None = None
        self._chosen: dict[int, dict[str, tuple[int, ...]]] = {}
        """The tokens of calls that were not compared yet: by the number of the call, and by the machine."""
        for place, link in enumerate(self._links):
            link.listener = partial(self._heard, place)

    def begin(self, options: Options) -> None:
        """Let all workers read their weights."""
        with self._changed:
            self._ready.clear()
            self._fault = None
        for link, path, share in zip(self._links, self._paths, self._shares, strict=True):
            link.send(
                LoadStage(
                    path, share.start, share.stop, options.context_length, options.cache_type, options.exact
                )
            )

    def ready(self, wanted: Callable[[], bool]) -> None:
        """Wait until all machines have their weights. Raises `GivenUp` and `ModelError`."""
        with self._changed:
            while len(self._ready) < len(self._links):
                if self._fault:
                    raise self._fault
                if not wanted():
                    raise GivenUp("the load was given up")
                self._changed.wait(_MOMENT)
        self.tell(BeginStage())

    def give_up(self) -> None:
        """Let all workers free what they have loaded."""
        self.tell(DropStage())

    def tell(self, *messages: OfStage) -> None:
        for link in self._links:
            link.send(*messages)

    def expect(self, number: int, tokens: Sequence[int]) -> None:
        self._compare(number, "", tuple(tokens))

    def check(self) -> None:
        with self._changed:
            fault, self._fault = self._fault, None
        if fault:
            raise fault

    def fail(self, error: ModelError) -> NoReturn:
        self._pool.failed(self._links, error.message, error.hint or _ALONE)

    def _heard(self, place: int, message: FromWorker) -> None:
        name = self._links[place].host.name
        match message:
            case Chosen(number, tokens):
                self._compare(number, name, tokens)
            case StageReady():
                self._note(place)
            case StageFailed(reason):
                self._failed(f"{name}: {reason}")

    def _note(self, place: int) -> None:
        with self._changed:
            self._ready.add(place)
            self._changed.notify_all()

    def _failed(self, words: str) -> None:
        """Let the load fail, or end the process if the other machines already wait for this worker."""
        with self._changed:
            loading = len(self._ready) < len(self._links)
            if loading:
                self._fault = ModelError(words, _ALONE)
                self._changed.notify_all()
        if not loading:  # perhaps because another worker is lost, which is then the reason
            self._pool.failed(self._links, words, _ALONE)

    def _compare(self, number: int, name: str, tokens: tuple[int, ...]) -> None:
        """Compare the tokens of a call as soon as all machines have told theirs; this one has no name."""
        with self._changed:
            told = self._chosen.setdefault(number, {})
            told[name] = tokens
            if len(told) <= len(self._links):
                return
            del self._chosen[number]
            own = told.pop("")
            for other, chosen in told.items():
                if chosen != own:
                    words = f"{other} chose another token than this machine, so the answer ends here"
                    self._fault = ModelError(words, _ALONE)
