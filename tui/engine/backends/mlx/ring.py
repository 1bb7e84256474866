"""MLX's ring between the machines that share a model, and the model on each of them.

Every machine runs the same calls and chooses by itself: the noise of a choice is a hash, so all choose the
same token. The machine of the engine leads. It tells the workers each call before it runs the call, and
compares their tokens with its own. The draft is on the machine of the leader alone, because it needs no layer
of another.

A process can join only one ring in its life, because mlx keeps its first one. The ring takes the addresses of
its lines from a file; both are on the loopback address. This module starts no worker.
"""

from __future__ import annotations

import json
import os
import select
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn, Protocol, runtime_checkable

import mlx.core as mx

from ....host import LOOPBACK
from ...machine.worker_messages import DropStage, Extend, OfStage, Rewind, StartAnswer
from ...speculation.loop import Pick
from ...speculation.sampling import Constraint, Sampler
from .. import Asker, ModelError, Ring, check_call
from .caches import Caches
from .model import MlxModel
from .parts import Parts
from .pipeline import Stage

_NOBODY = f"{LOOPBACK}:1"
"""The address of a machine that is no neighbor: mlx reads it and does not use it."""


def join_ring(rank: int, size: int, accepts: int, connects: int) -> RingWire:
    """Join a ring of `size` machines as number `rank`, and return its lines.

    mlx takes a connection at the port `accepts`, and connects to the port `connects`, both on the loopback
    address. Raises any error of mlx.
    """
    nodes = [[_NOBODY] for _ in range(size)]
    nodes[rank] = [f"{LOOPBACK}:{accepts}"]
    nodes[(rank + 1) % size] = [f"{LOOPBACK}:{connects}"]
    with tempfile.NamedTemporaryFile("w", prefix="outrider-ring-", suffix=".json") as file:
        json.dump(nodes, file)
        file.flush()
        os.environ.update(MLX_HOSTFILE=file.name, MLX_RANK=str(rank))
        try:
            return RingWire(mx.distributed.init(strict=True, backend="ring"), accepts)
        finally:
            del os.environ["MLX_HOSTFILE"], os.environ["MLX_RANK"]


class RingWire:
    """Implements `pipeline.Wire` by a group of mlx. All rows go one way around."""

    def __init__(self, group: Any, port: int) -> None:
        """At `port`, mlx has taken the connection from the machine before this one."""
        self._group = group
        self._arrivals = select.poll()
        self._before = _connection_at(port)
        self._arrivals.register(self._before, select.POLLIN)
        self.rank, self.size = group.rank(), group.size()

    def send(self, rows: Any) -> None:
        behind = (self.rank + 1) % self.size
        mx.eval(mx.distributed.send(rows, behind, group=self._group, stream=mx.cpu))

    def receive(self, like: Any) -> Any:
        self._arrivals.poll()  # mlx would keep a processor busy until the rows come
        before = (self.rank - 1) % self.size
        rows = mx.distributed.recv_like(like, before, group=self._group, stream=mx.cpu)
        mx.eval(rows)
        return rows


def _connection_at(port: int) -> socket.socket:
    """Return a second name for the connection that mlx has taken at a port of this machine."""
    for descriptor in [int(each.name) for each in Path("/dev/fd").iterdir()]:
        with suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            with socket.socket(fileno=os.dup(descriptor)) as found:
                if found.getsockname()[:2] == (LOOPBACK, port) and found.getpeername():
                    return found.dup()
    raise RuntimeError("mlx has no connection at its port")


class WholeCalls(Parts):
    """Computes each call at once: all machines must cut calls in the same way, whatever their speed."""

    def are_needed(self, tokens: int) -> bool:
        return False

    def most(self, tokens: int) -> int:
        return tokens


@runtime_checkable
class LeadsRing(Ring, Protocol):
    """The ring as its leader sees it."""

    def tell(self, *messages: OfStage) -> None:
        """Send messages to all workers, as one piece."""
        ...

    def expect(self, number: int, tokens: Sequence[int]) -> None:
        """Note the tokens that every worker should choose in the call with this number."""
        ...

    def check(self) -> None:
        """Raise `ModelError` if a worker has chosen other tokens."""
        ...

    def fail(self, error: ModelError) -> NoReturn:
        """End the process: a call has failed here, and the workers may wait for it forever."""
        ...


class StagedModel(MlxModel):
    """A model of which this machine computes one stage, as it is on a worker."""

    def __init__(self, network: Any, caches: Caches, *given: Any, stage: Stage, **named: Any) -> None:
        super().__init__(network, caches, *given, **named)
        self._stage = stage

    def _run(self, end: int) -> None:
        self._stage.scored = False
        try:
            super()._run(end)
        finally:
            self._stage.scored = True


class LeadingModel(StagedModel):
    """The model on the machine of the engine: tells the workers each call."""

    def __init__(self, *given: Any, ring: LeadsRing, **named: Any) -> None:
        super().__init__(*given, **named)
        self._ring = ring
        self._calls = 0
        self._cuts: list[OfStage] = []
        """Cuts that the workers make before the next call. They need no message of their own."""
        self._compared = False
        """Whether the workers choose by the same rule."""
        self._grammar: tuple[Constraint, str] | None = None

    def start(self, sampler: Sampler) -> None:
        super().start(sampler)
        message, self._compared = started(sampler, self._grammar)
        self._ring.tell(message)

    def constraint(self, grammar: str) -> Constraint:
        found = super().constraint(grammar)
        self._grammar = found, grammar
        return found

    def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]:
        """Raises `ModelError` also if a worker chose other tokens in an earlier call."""
        check_call(self, tokens, picks, self._picks)
        self._ring.check()
        self.asker.begin()
        self._calls += 1
        compared = picks > 0 and self._compared
        call = Extend(self._calls, tuple(tokens), picks, compared)
        cuts, self._cuts = self._cuts, []
        self._ring.tell(*cuts, call)
        try:
            with _certain(self.asker):
                chosen = super().extend(tokens, picks)
        except ModelError as error:
            self._ring.fail(error)
        if compared:
            self._ring.expect(self._calls, [pick.token for pick in chosen])
        return chosen

    def rewind(self, length: int) -> None:
        self._cuts.append(Rewind(length))
        super().rewind(length)

    def checkpoint(self, length: int) -> None:
        """Copy nothing: only caches that can be cut anywhere are shared."""

    def close(self) -> None:
        self._ring.tell(DropStage())
        super().close()


def staged(ring: Ring, stage: Stage) -> Callable[..., MlxModel]:
    """Return the class of the model on this machine of the ring."""
    if isinstance(ring, LeadsRing):
        return lambda *given, **named: LeadingModel(*given, stage=stage, ring=ring, **named)
    return lambda *given, **named: StagedModel(*given, stage=stage, **named)


def keep_all(caches: Caches, capacity: int) -> None:
    """Let windows keep every entry, so that each machine can cut to any length. Raises `ModelError`."""
    caches.spare_all(capacity, sys.maxsize)
    if caches.unknown or caches.rewinds != "anywhere":
        reason = "its cache cannot be cut back on several machines"
        raise ModelError(reason, "Load this model on one machine, without --workers.")


def started(sampler: Sampler, grammar: tuple[Constraint, str] | None) -> tuple[StartAnswer, bool]:
    """Return the message that starts an answer with this sampler on a worker, and whether both choose alike.

    `grammar` is the latest constraint, with its text. A sampler of a check looks at the rows in its own way.
    """
    chain = asdict(replace(sampler.chain, bias={}))
    chain["bias"] = tuple(
        (token, value if isfinite(value) else None) for token, value in sampler.chain.bias.items()
    )
    known = grammar is not None and sampler.constraint is grammar[0]
    text = grammar[1] if grammar and known else ""
    alike = sampler.is_plain and (sampler.constraint is None or known)
    return StartAnswer(**chain, seed=sampler.seed, start=sampler.start, grammar=text), alike


@contextmanager
def _certain(asker: Asker) -> Iterator[None]:
    """Let a call go on in any case, because other machines already compute it."""
    wanted = asker.wanted
    asker.wanted = lambda tokens: wanted(tokens) or True
    try:
        yield
    finally:
        asker.wanted = wanted
