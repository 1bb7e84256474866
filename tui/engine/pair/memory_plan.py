"""Plans the memory of a pair: whether it fits into this machine, and which smaller settings would.

All needs are known before anything is loaded. The size of the weights is in the header. All else comes from a
rehearsal by the library itself; for MLX, from the shape of the layers. The needs are compared with the memory
free now. The draft goes to the GPU as a whole, because a draft in the host's memory brings no speed-up.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import structs

from ...choices import HEAD, names_model
from ...errors import OutriderError
from ...protocol import CacheType, Load, MemoryUse
from ..backends import Options, Role
from ..backends.checkpoints import most_bytes
from ..library.gguf import BadModelFile
from ..library.header import Header, read_header
from ..library.mlx_folder import WINDOWS_SHARE, Folder, is_folder, read_folder
from ..library.mlx_heads import head_in
from ..machine.apple import ask_library
from ..machine.hardware import memory_bytes, room_for_chats
from ..starter import place
from .layer_split import LayerSplit, split_layers

SHORTEST = 2048
"""Tokens of the shortest context that is proposed."""
RESERVE = 0.05
"""Share of a GPU's memory that is left for its driver."""
_MLX_SPARE = 512
"""Entries that MLX keeps beyond a window: some to go back to, and the rest up to a round number."""
_MLX_ROWS = 2048
"""Tokens of a prompt that MLX reads in one call."""


class Unplanned(OutriderError):
    """The needs of the pair cannot be found out. The text gives the reason in one line."""


@dataclass(frozen=True)
class MemorySpace:
    """One memory of the machine."""

    name: str
    free: int
    total: int


@dataclass(frozen=True)
class Machine:
    gpu: MemorySpace | None
    """All GPUs together, because the library spreads layers over them by free memory."""
    host: MemorySpace
    labels: tuple[str, ...] = ()
    """ggml's names of the GPUs."""

    @property
    def shared(self) -> bool:
        """Whether the GPU uses the host's memory."""
        return sys.platform == "darwin" and self.gpu is not None


@dataclass(frozen=True)
class Need:
    """The needs of one model with one shape of cache, in bytes."""

    weights: int
    table: int
    """The part of the weights that stays in the host's memory."""
    output: int
    """Output layer, the first to go to the GPU; 0 if a copy of the table serves as output layer."""
    layers: int
    cache: int
    buffers_gpu: int
    buffers_host: int
    checkpoints: int = 0
    """Most bytes of copies of the cache, which lie in the host's memory."""
    everywhere: int = 0
    """The part of the weights that each machine of an MLX ring holds: embeddings and output layer."""

    @property
    def body(self) -> int:
        """Bytes of the weights of the layers."""
        return self.weights - self.table - self.output - self.everywhere

    def on_gpu(self, layers: int) -> tuple[int, int]:
        """Return weights and cache with `layers` layers on the GPU, counted from the output; -1 for all."""
        wanted = self.layers + 1 if layers < 0 else min(layers, self.layers + 1)
        share = max(0, wanted - 1) / max(1, self.layers)
        body = self.weights - self.table - self.output
        return round(body * share) + (self.output or self.table if wanted else 0), round(self.cache * share)


Needs = dict[Role, Need]


class RemoteMemory(NamedTuple):
    """The memory of a worker: all its devices together."""

    name: str
    free: int
    total: int
    round_trip: float | None = None
    """Seconds to the worker and back; None if unknown."""


class MemoryPlan(NamedTuple):
    """A memory plan, as in `MemoryPlanned`."""

    load: Load
    context_length: int
    fits: bool
    uses: tuple[MemoryUse, ...]
    split: LayerSplit | None = None
    """The layers of each worker; None without workers."""


def plan(load: Load, loaded: Load | None = None, workers: Sequence[RemoteMemory] = ()) -> MemoryPlan:
    """Return the plan for `load`, with the main model on this machine and on `workers`.

    Names must be resolved to paths. Raises `Unplanned`.
    """
    models = models_of(load)
    shapes = list(_shapes(load, models["main"]))
    before = models_of(loaded) if loaded else {}
    machine, needs = rehearse(load, models, shapes)
    if machine.gpu and not machine.shared and loaded:
        _, held = rehearse(loaded, before, [next(_shapes(loaded, before["main"]))])
        machine = _without(machine, loaded, held[0])
    for each, length, need in _ways(load, shapes, needs, machine, alone=not workers):
        split, uses = _spread(each, need, machine, workers)
        if all(use.needed <= use.free for use in uses):
            return MemoryPlan(each, length, True, uses, split)
    if needs[0] is None:
        raise Unplanned("the library rejects this context or this type of cache")
    split, uses = _spread(load, needs[0], machine, workers)
    return MemoryPlan(load, shapes[0][0], False, uses, split)


def _spread(
    load: Load, needs: Needs, machine: Machine, workers: Sequence[RemoteMemory]
) -> tuple[LayerSplit | None, tuple[MemoryUse, ...]]:
    """Return the split of the main model, and the memory uses: those of this machine first."""
    if not workers:
        return None, _uses(load, needs, machine)
    main = needs["main"]
    layer = max(1.0, (main.body + main.cache) / max(1, main.layers))
    buffers = main.buffers_gpu + main.buffers_host + main.everywhere
    base = _uses(load, _part(needs, 0), machine)
    local = base[0] if machine.gpu and load.gpu_layers else base[-1]
    room = [each.free - buffers for each in workers]
    split = split_layers(main.layers, layer, local.free - local.needed, room)
    uses = list(_uses(load, _part(needs, split.here), machine))
    for worker, layers in zip(workers, split.workers, strict=True):
        if layers:
            weights, cache = (round(size * layers / main.layers) for size in (main.body, main.cache))
            uses.append(
                MemoryUse(worker.name, worker.free, worker.total, weights, 0, cache, buffers,
                          layers=layers, round_trip=worker.round_trip)
            )  # fmt: skip
    return split, tuple(uses)


def _part(needs: Needs, layers: int) -> Needs:
    """Return the needs of this machine if it computes only `layers` layers of the main model."""
    main = needs["main"]
    share = layers / max(1, main.layers)
    part = replace(
        main, weights=main.weights - main.body + round(main.body * share), layers=layers,
        cache=round(main.cache * share),
    )  # fmt: skip
    return {**needs, "main": part}


def models_of(load: Load) -> dict[Role, Header | Folder]:
    """Return the headers of the main model and of the draft, if there is one."""
    names: dict[Role, str] = {"main": load.main}
    if names_model(load.draft):
        names["draft"] = load.draft
    found: dict[Role, Header | Folder] = {}
    for role, name in names.items():
        path = Path(place(name, role))
        try:
            found[role] = read_folder(path) if is_folder(path) else read_header(path)
        except (BadModelFile, OSError) as error:
            raise Unplanned(f"{path.name}: {error}") from None
    return found


def _shapes(load: Load, main: Header | Folder) -> Iterator[tuple[int, CacheType]]:
    """Yield context lengths and cache types: first those asked for, then smaller ones."""
    trained = (main.facts if isinstance(main, Header) else main).context_length
    asked = Options("main", load.context_length).tokens(trained)
    types: list[CacheType] = [load.cache_type]
    if load.cache_type == "f16":
        types.append("q8_0")
    lengths = [asked]
    while lengths[-1] // 2 >= SHORTEST:
        lengths.append(lengths[-1] // 2)
    yield from product(lengths, types)


def _ways(
    asked: Load, shapes: Sequence[tuple[int, CacheType]], needs: Sequence[Needs | None], machine: Machine,
    *, alone: bool,
) -> Iterator[tuple[Load, int, Needs]]:  # fmt: skip
    """Yield `asked` and then the alternatives, the best first, each with its context length.

    `alone`: no worker takes layers, so that fewer of them may lie on the GPU.
    """
    possible = []
    for (length, cache_type), need in zip(shapes, needs, strict=True):
        said = asked.context_length if length == shapes[0][0] else length
        if need:
            load = structs.replace(asked, context_length=said, cache_type=cache_type)
            possible.append((load, length, need))
    yield from possible
    if alone and machine.gpu and not machine.shared and asked.gpu_layers < 0:
        for load, length, need in possible:
            for layers in range(need["main"].layers, -1, -1):
                yield structs.replace(load, gpu_layers=layers), length, need


def _uses(load: Load, needs: Needs, machine: Machine) -> tuple[MemoryUse, ...]:
    gpu = dict.fromkeys(("main", "draft", "cache", "buffers"), 0)
    host = dict(gpu)
    for role, need in needs.items():
        layers = Options.of(load, role).gpu_layers if machine.gpu else 0
        weights, cache = need.on_gpu(layers)
        if machine.shared:  # only one copy exists
            weights, cache = (need.weights, need.cache) if layers else (0, 0)
        gpu[role] += weights
        gpu["cache"] += cache
        gpu["buffers"] += need.buffers_gpu + (need.buffers_host if machine.shared else 0)
        copied = need.table if weights and not need.output and not machine.shared else 0
        host[role] += need.weights - weights + copied
        host["cache"] += need.cache - cache
        (gpu if machine.shared else host)["cache"] += need.checkpoints
        host["buffers"] += 0 if machine.shared else need.buffers_host
    found = [_use(machine.gpu, gpu)] if machine.gpu else []
    if not machine.shared or any(host.values()):
        found.append(_use(machine.host, host))
    last = found[-1]  # the host's memory
    chats = room_for_chats(load.memory_cache, last.free - last.needed)
    return (*found[:-1], structs.replace(last, chats=chats))


def _use(memory: MemorySpace, taken: dict[str, int]) -> MemoryUse:
    return MemoryUse(memory.name, memory.free, memory.total, **taken)


def _without(machine: Machine, loaded: Load, held: Needs | None) -> Machine:
    """Return the machine as it will be after the loaded pair is gone."""
    if held is None or machine.gpu is None:
        return machine
    freed = _uses(loaded, held, machine)[0].needed
    free = min(machine.gpu.total, machine.gpu.free + freed)
    return replace(machine, gpu=replace(machine.gpu, free=free))


def rehearse(
    load: Load, models: dict[Role, Header | Folder], shapes: Sequence[tuple[int, CacheType]]
) -> tuple[Machine, list[Needs | None]]:
    """Return the machine, and for each shape the needs of both models."""
    files = {role: each for role, each in models.items() if isinstance(each, Header)}
    said = _ask(
        [[place(getattr(load, role), role), asdict(Options.of(load, role))] for role in files],
        [{"context_length": length, "cache_type": cache_type} for length, cache_type in shapes],
    )
    machine = _machine(said["gpus"])
    by_role: dict[Role, list[Need | None]] = {}
    for role, answer in zip(files, said["models"], strict=True):
        if isinstance(answer, str):
            raise Unplanned(answer)
        by_role[role] = [each and _need(files[role], each, machine.labels) for each in answer]
    for role, model in models.items():
        if isinstance(model, Folder):
            head, gpu = role == "main" and load.draft == HEAD, bool(machine.gpu)
            by_role[role] = [
                _folder_need(model, role, *shape, gpu=gpu, head=head, whole=bool(load.workers))
                for shape in shapes
            ]
    rows = zip(*by_role.values(), strict=True)
    return machine, [dict(zip(by_role, row, strict=True)) if all(row) else None for row in rows]


def _ask(models: Iterable[Any], shapes: Iterable[Any]) -> Any:
    """Let llama.cpp rehearse in a separate process. Raises `Unplanned`."""
    command = [sys.executable, "-m", "tui.engine.backends.llama_cpp.rehearsal"]
    asked = json.dumps({"models": list(models), "shapes": list(shapes)}).encode()
    words = {"silent": "does not report the memory it needs", "fails": "cannot open it"}
    said = ask_library("llama.cpp", command, question=asked, **words)
    if "error" in said:
        raise Unplanned(said["error"])
    return said


def _machine(gpus: Sequence[Any]) -> Machine:
    total, available = memory_bytes()
    free = min(total, (total if available is None else available) + _held())
    host = MemorySpace("memory", free, total)
    if not gpus:
        return Machine(None, host)
    names = [gpu["name"] for gpu in gpus]
    name = names[0] if len(names) == 1 else f"{len(names)} GPUs"
    total = sum(gpu["total"] for gpu in gpus)
    free = max(0, sum(gpu["free"] for gpu in gpus) - round(RESERVE * total))
    return Machine(MemorySpace(name, free, total), host, tuple(gpu["label"] for gpu in gpus))


def _held() -> int:
    """Return the bytes that only this process holds. Most of it is the loaded pair."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text("ascii").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def _need(header: Header, reserved: Any, labels: Sequence[str]) -> Need:
    on_gpu = [
        size
        for name, size in reserved["buffers"].items()
        if any(name == label or name.startswith(f"{label}_") for label in labels)
    ]
    return Need(
        weights=header.facts.size,
        table=header.table_bytes,
        output=header.output_bytes,
        layers=header.block_count,
        cache=reserved["cache"],
        buffers_gpu=sum(on_gpu),
        buffers_host=sum(reserved["buffers"].values()) - sum(on_gpu),
        checkpoints=most_bytes(reserved["state"], header.facts.size),
    )


def _folder_need(
    folder: Folder,
    role: Role,
    length: int,
    cache_type: CacheType,
    *,
    gpu: bool = True,
    head: bool = False,
    whole: bool = False,
) -> Need:
    """Return the needs with a full context, and with the head in the folder if `head`.

    `whole`: windows keep every entry. MLX itself takes its memory only as it goes.
    """
    widened = 0 if gpu else folder.widened
    of_number = 32 if widened else 16
    weights = folder.weight_bytes + widened
    of_head = folder.cached_numbers // max(1, folder.layers) * of_number // 8 * length
    found = head_in(folder)
    if found and found.alone:
        of_head = 0 if found.family == "gemma" else of_head  # an assistant looks at the main model's cache
        return Need(weights, 0, 0, 1, of_head, 2 * _MLX_ROWS * folder.widest, 0)
    bits = 8.5 if cache_type == "q8_0" and role == "main" else of_number
    token = round(folder.cached_numbers * bits / 8)
    windows, window = folder.windowed
    windows = min(windows, folder.layers)
    of_windows = token * windows // max(1, folder.layers)
    held = (
        length
        if whole or of_windows * length <= folder.weight_bytes // WINDOWS_SHARE
        else window + _MLX_SPARE
    )
    cache = (token - of_windows) * length + of_windows * min(length, held)
    buffers = 2 * _MLX_ROWS * folder.widest
    if found and head:
        cache += of_head
        weights += sum(each.end - each.begin for each in folder.beside)
    return Need(weights, 0, 0, folder.layers, cache, buffers, 0, everywhere=folder.outer_bytes)
