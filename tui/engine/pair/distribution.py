"""Brings the main model of a load to several machines: reaches the workers, plans, and connects the library.

A worker that cannot be used is left out, with its reason. The load fails only if the model does not fit into
the memories that are left. This module opens no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import log
from pathlib import Path

from ...choices import HEAD, is_scripted, names_model
from ...errors import OutriderError
from ...protocol import Load, MemoryPlanned, PlanMemory, SurveyedWorker, WorkerState
from ..backends import ModelError, Ring, Spread
from ..library.describe import holds_only_head
from ..library.folder_copies import digest_of
from ..library.gguf import BadModelFile
from ..library.mlx_folder import is_folder, read_folder
from ..machine.worker_link import WorkerLost
from ..machine.worker_messages import FindModel, Greeting, Library, ModelFound, has_rpc
from ..machine.worker_pool import MissedWorker, ReachedWorker, WorkerPool
from ..starter import NAME as STARTER
from ..starter import place
from .layer_split import LayerSplit
from .memory_plan import MemoryPlan, RemoteMemory, Unplanned, plan

_NO_LAYER = "Its free memory holds no layer of this model"
_ONE_MACHINE = "This model is not split over machines"
_NOT_IN_RING = "It was not there when the ring of MLX was formed. Restart Outrider to use it"
_OTHER_RING = "This load needs other workers than the ring that MLX keeps"
_SECONDS = 60.0
"""Seconds in which a worker must find its copy of a model. A lost worker is noticed much sooner."""

Reached = Sequence[ReachedWorker | MissedWorker]


@dataclass(frozen=True)
class Distributed:
    """The place of each layer of a main model."""

    workers: tuple[WorkerState, ...] = ()
    spread: Spread | None = None
    """The layers of a GGUF model; None if it stays on this machine."""
    ring: Ring | None = None
    """The same for an MLX model."""

    @property
    def shared(self) -> bool:
        """Whether other machines compute layers."""
        return self.spread is not None or self.ring is not None


HERE = Distributed()
"""All layers on this machine."""


def distribute(load: Load, pool: WorkerPool) -> Distributed:
    """Return the places of the layers of `load`, whose names are paths. Connects the workers that get some.

    Raises `ModelError` if the model fits nowhere.
    """
    if not load.workers or not _can_split(load):
        return Distributed(_unused(load))
    library = library_for(load)
    reached: Reached = pool.reach(load.workers, library)
    paths: dict[str, str] = {}
    if library == "MLX":
        reached, paths = _with_copies(load, pool, reached)
    try:
        planned = plan(load, workers=_memories(reached))
    except Unplanned as error:
        raise ModelError(error.message, error.hint) from None
    states = tuple(_states(reached, planned.split))
    if not planned.fits or planned.load != load:
        raise ModelError(_too_large(planned, states), "Choose a smaller model or a shorter context.")
    if planned.split is None:
        return Distributed(states)
    if library == "MLX":
        return Distributed(states, ring=_on_ring(reached, planned, paths, pool))
    return Distributed(states, spread=_connect(reached, planned, pool))


def planned_memory(question: PlanMemory, load: Load, loaded: Load | None, pool: WorkerPool) -> MemoryPlanned:
    """Return the reply to `question`. The names of `load` and `loaded` are paths. Raises `Unplanned`."""
    reached = pool.reach(load.workers, library_for(load), again=False) if _can_split(load) else ()
    found = plan(load, loaded, _memories(reached, freed=loaded is not None))
    states = tuple(_states(reached, found.split)) if reached else _unused(load)
    return MemoryPlanned(question.id, found.load, found.context_length, found.fits, found.uses, states)


def library_for(load: Load) -> Library:
    """Return the library that opens the main model of `load`, whose name is a path."""
    return "MLX" if is_folder(Path(place(load.main, "main"))) else "llama.cpp"


def present_library() -> Library:
    """Return the library whose workers are surveyed without a model: llama.cpp if it has RPC here."""
    return "MLX" if not has_rpc() and Greeting.here().mlx_lm else "llama.cpp"


def surveyed(reached: Reached) -> tuple[SurveyedWorker, ...]:
    """Return the workers as the app shows them."""
    return tuple(
        SurveyedWorker(each.name, fault=each.reason.line)
        if isinstance(each, MissedWorker)
        else SurveyedWorker(
            each.name,
            tuple(device.name for device in each.survey.devices),
            sum(device.free for device in each.survey.devices),
            sum(device.total for device in each.survey.devices),
            each.link.round_trip,
        )
        for each in reached
    )


def _can_split(load: Load) -> bool:
    """Return whether the main model may be split: MLX gets the demo pair as a folder of its own."""
    return not is_scripted(load.main) and not (load.main == STARTER and load.backend == "mlx")


def _unused(load: Load) -> tuple[WorkerState, ...]:
    return tuple(WorkerState(each.name, 0, fault=_ONE_MACHINE) for each in load.workers)


def _with_copies(load: Load, pool: WorkerPool, reached: Reached) -> tuple[Reached, dict[str, str]]:
    """Return the workers without those that cannot join a ring for this model, and the path of the model on
    each that can."""
    try:
        folder = read_folder(load.main)
        digest = digest_of(folder)
    except (BadModelFile, OSError) as error:
        raise ModelError(f"{error} ({load.main})", "Choose another model.") from None
    wish = FindModel(folder.name, load.main, digest)
    with ThreadPoolExecutor(len(reached)) as threads:
        copies = list(threads.map(lambda each: _copy_on(each, wish, pool), reached))
    pairs = list(zip(reached, copies, strict=True))
    found = [each if isinstance(copy, str) else MissedWorker(each.name, copy) for each, copy in pairs]
    return found, {each.name: copy for each, copy in pairs if isinstance(copy, str)}


def _copy_on(each: ReachedWorker | MissedWorker, wish: FindModel, pool: WorkerPool) -> str | OutriderError:
    """Return the path of the model on a worker, or why it cannot join the ring."""
    if isinstance(each, MissedWorker):
        return each.reason
    if pool.ring and each.link not in pool.ring.links:
        return WorkerLost(_NOT_IN_RING)
    try:
        copy = each.link.ask(wish, ModelFound, _SECONDS)
    except WorkerLost as error:
        return error
    remedy = f"Copy the folder there, to {wish.path}"
    return WorkerLost(f"On {each.name}, {copy.fault}. {remedy}") if copy.fault else copy.path


def _memories(reached: Reached, *, freed: bool = False) -> list[RemoteMemory]:
    """Return the memories of the reached workers. `freed`: the loaded pair will be gone."""
    found = []
    for each in _usable(reached):
        devices = each.survey.devices
        total = sum(device.total for device in devices)
        free = sum(device.free for device in devices) + (each.link.held if freed else 0)
        found.append(RemoteMemory(each.name, min(free, total), total, each.link.round_trip))
    return found


def _usable(reached: Reached) -> list[ReachedWorker]:
    return [each for each in reached if isinstance(each, ReachedWorker)]


def _states(reached: Reached, split: LayerSplit | None) -> Iterator[WorkerState]:
    layers = iter(split.workers if split else ())
    for each in reached:
        if isinstance(each, MissedWorker):
            yield WorkerState(each.name, 0, fault=each.reason.message)
        else:
            count = next(layers, 0)
            yield WorkerState(each.name, count, each.link.round_trip, "" if count else _NO_LAYER)


def _too_large(planned: MemoryPlan, states: Sequence[WorkerState]) -> str:
    """Return why a model does not fit, with the workers that are missing."""
    short = next((use for use in planned.uses if use.needed > use.free), None)
    reason = "the model does not fit into the memories of these machines"
    if planned.fits:
        reason += f"; with a context of {planned.context_length:,} tokens it would"
    if short:
        needed, free = (f"{size / (1 << 30):.1f} GiB" for size in (short.needed, short.free))
        reason += f": {short.name} needs {needed}, {free} are free"
    missing = [f"{each.name}: {each.fault}" for each in states if each.fault and each.fault != _NO_LAYER]
    return "; ".join([reason, *missing])


def _on_ring(reached: Reached, planned: MemoryPlan, paths: dict[str, str], pool: WorkerPool) -> Ring | None:
    """Connect MLX to each worker that gets layers. Return None if there is none."""
    from .ring_leader import RingLeader, form_ring

    assert planned.split
    used = [
        (each, count) for each, count in zip(_usable(reached), planned.split.workers, strict=True) if count
    ]
    if not used:
        return None
    links = [each.link for each, _ in used]
    if pool.ring and list(pool.ring.links) != links:
        pool.failed(pool.ring.links, _OTHER_RING, "It starts the engine again.")
    _hold(reached, planned)
    ring = form_ring(links, pool)
    layers = [*(count for _, count in used), planned.split.here]
    if not layers[-1]:  # the last layer is always here
        layers[layers.index(max(layers))] -= 1
        layers[-1] = 1
    name = ", ".join(_described(each, count) for (each, _), count in zip(used, layers, strict=False))
    return RingLeader(ring, layers, [paths[each.name] for each, _ in used], name, pool)


def _hold(reached: Reached, planned: MemoryPlan) -> None:
    """Note the bytes that the pair will take on each worker."""
    held = {use.name: use.needed for use in planned.uses if use.layers}
    for each in _usable(reached):
        each.link.held = held.get(each.name, 0)


def _connect(reached: Reached, planned: MemoryPlan, pool: WorkerPool) -> Spread | None:
    """Connect llama.cpp to each worker that gets layers. Return None if there is none."""
    # A library that is missing or broken must not end an engine that has no workers, or uses MLX alone.
    from ..backends.llama_cpp import native
    from ..backends.llama_cpp.rpc import Rpc
    from ..backends.llama_cpp.spreading import by_free_memory

    assert planned.split
    try:
        rpc = Rpc(native.bindings())
    except (FileNotFoundError, AttributeError):
        raise ModelError("The llama.cpp here has no RPC", "`make clean run` builds it with RPC.") from None
    rpc.on_abort(pool.aborted)
    devices: list[int] = []
    layers: list[int] = []
    names = []
    _hold(reached, planned)
    for each, count in zip(_usable(reached), planned.split.workers, strict=True):
        if count:
            handles = _attach(each, rpc.build, rpc.connect)
            devices += handles
            layers += by_free_memory(count, [device.free for device in each.survey.devices])
            names.append(_described(each, count))
    if not devices:
        return None
    name, here = ", ".join(names), planned.split.here + 1
    return Spread(tuple(devices), tuple(layers), here, name, last_here=_has_head(planned.load))


def _has_head(load: Load) -> bool:
    """Return whether a head drafts: it lies behind the last layer, or reads the rows or cells of the last
    layers."""
    return load.draft == HEAD or (names_model(load.draft) and holds_only_head(place(load.draft, "draft")))


def _attach(worker: ReachedWorker, build: str, connect: Callable[[int], list[int]]) -> list[int]:
    if worker.survey.build != build:
        reason = f"{worker.name} has another build of llama.cpp: {worker.survey.build}, and here {build}"
        raise ModelError(reason, "Install the same version of Outrider on both, by `make clean run`.")
    try:
        return worker.link.attach(connect)
    except WorkerLost as error:
        raise ModelError(error.message, error.hint) from None


def _described(worker: ReachedWorker, layers: int) -> str:
    """Return a worker with its layers and about its round trip: costs are remembered by this text."""
    seconds = worker.link.round_trip
    shown = "" if seconds is None else f", {_coarse(seconds * 1000)} ms"
    return f"{worker.name} ({layers} layer{'' if layers == 1 else 's'}{shown})"


def _coarse(milliseconds: float) -> str:
    """Return the nearest of 1, 2, 5, 10, 20, 50 and so on; less than 1 counts as 1."""
    steps = [base * 10**power for power in range(4) for base in (1, 2, 5)]
    return f"{min(steps, key=lambda step: abs(log(max(milliseconds, 1)) - log(step)))}"
