"""The memory plan of a pair: a bar for each memory with the parts of its use, and the settings of the load.

It shows a plan and computes none.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from textual.content import Content
from textual.widget import Widget

from tui.clean import clean_line
from tui.protocol import Load, MemoryPlanned, MemoryUse, WorkerState
from tui.quantities import cells, context, delay, size

HOST = "memory"
"""The name of the machine's own memory, as `MemoryUse.name`."""
_BAR = 16
_NAME = 14
"""Cells, at most."""
_MAKERS = ("NVIDIA ", "GeForce ", "AMD ", "Radeon ", "Intel(R) ")
"""The parts of a GPU's name that say least."""
_PARTS = (
    ("main", "$token-main", "main"),
    ("draft", "$token-draft", "draft"),
    ("cache", "$token-lookup", "caches"),
    ("buffers", "$quiet", "buffers"),
    ("chats", "$secondary", "chats up to"),
)
_CACHES = {"f16": "16 bits", "q8_0": "8 bits"}


class MemoryBars(Widget):
    """Two lines, three if a GPU has a memory of its own, and one more for each worker."""

    DEFAULT_CSS = """
    MemoryBars { height: auto; min-height: 3; max-height: 9; margin: 0 4; text-wrap: nowrap; }
    """

    def __init__(self, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._planned: MemoryPlanned | None = None
        self._asked: Load | None = None
        self._words = ""

    def show(self, asked: Load | None, planned: MemoryPlanned | None = None, words: str = "") -> None:
        """Show the plan for `asked`; None shows nothing. `words` stand in place of an unknown plan."""
        workers = max(_workers(self._planned), _workers(planned))
        self._asked, self._planned, self._words = asked, planned, words
        self.refresh(layout=workers > 0)

    def render(self) -> Content:
        if self._asked is None:
            return Content("")
        planned, width = self._planned, self.size.width
        if planned is None:
            settings = _settings(self._asked, self._asked, 0, self._asked.gpu_layers >= 0, width)
            return Content("\n").join([Content(clean_line(self._words)), settings])
        gpu = any(use.name != HOST and not use.layers for use in planned.uses)
        settings = _settings(self._asked, planned.load, planned.context_length, gpu, width)
        return Content("\n").join([*_machines(planned, width), settings])


def _workers(planned: MemoryPlanned | None) -> int:
    """Return the number of lines that show workers."""
    return len(planned.workers) if planned else 0


def _settings(asked: Load, load: Load, tokens: int, gpu: bool, width: int) -> Content:
    """Return the settings of the load. A setting that differs from the wish stands out, beside the wish."""
    wanted = "shorter" if asked.context_length == 0 else f"not {context(asked.context_length)}"
    parts = [
        (
            "F5 context ",
            context(tokens or load.context_length),
            wanted if load.context_length != asked.context_length else "",
        ),
        (
            "F6 cache ",
            _CACHES[load.cache_type],
            f"not {_CACHES[asked.cache_type]}" if load.cache_type != asked.cache_type else "",
        ),
    ]
    if gpu:
        fewer = load.gpu_layers != asked.gpu_layers
        parts.append(("F7 GPU layers ", _layers(load), f"not {_layers(asked)}" if fewer else ""))
    shown: list[tuple[str, str]] = []
    brief: list[tuple[str, str]] = []
    for name, value, before in parts:
        brief += [("   ", ""), (name, "$quiet"), (value, "bold $warning" if before else "")]
        shown += brief[-3:]
        if before:
            shown.append((f" ({before})", "$warning"))
    line = Content.assemble(*shown[1:])
    return line if line.cell_length <= width else Content.assemble(*brief[1:])


def _layers(load: Load) -> str:
    return "all" if load.gpu_layers < 0 else f"{load.gpu_layers:,}"


def _machines(planned: MemoryPlanned, width: int) -> list[Content]:
    """Return a line for each memory, and one for each worker that computes nothing."""
    missing = [worker for worker in planned.workers if worker.fault]
    room = _room([*planned.uses, *missing])
    without = [
        Content.assemble((f"{_name(each, room)} ", "$quiet"), (clean_line(each.fault, 200), "$warning"))
        for each in missing
    ]
    return [*_uses(planned.uses, width, room), *without]


def _uses(uses: Sequence[MemoryUse], width: int, room: int) -> list[Content]:
    return [_use(use, _name(use, room), width) for use in uses]


def _room(named: Sequence[MemoryUse | WorkerState]) -> int:
    """Return the cells for the longest name."""
    return min(_NAME, max((cell_len(_short(clean_line(each.name))) for each in named), default=0))


def _name(named: MemoryUse | WorkerState, room: int) -> str:
    return set_cell_size(_short(clean_line(named.name)), room)


def _short(name: str) -> str:
    """Return "NVIDIA GeForce RTX 4090" as people call it: "RTX 4090"."""
    for maker in _MAKERS:
        name = name.removeprefix(maker)
    return name


def _use(use: MemoryUse, name: str, width: int) -> Content:
    """Return the bar of one memory with its numbers, and its parts if there is room for them."""
    fits = use.needed <= use.free
    whole = max(use.free, use.needed + use.chats, 1)
    bar = [("█" * cells(getattr(use, part) / whole, _BAR), tone) for part, tone, _ in _PARTS]
    rest = max(0, _BAR - sum(len(text) for text, _ in bar))
    words = f"  {size(use.needed)} of {size(use.free)} free" + ("" if fits else ": does not fit")
    line = Content.assemble(
        (name + " ", "$quiet"), *bar, ("░" * rest, "$line"), (words, "bold" if fits else "bold $error")
    )
    parts = [
        (f"  {called} {size(value)}", tone) for part, tone, called in _PARTS if (value := getattr(use, part))
    ]
    if use.layers:
        layers = f"  {use.layers:,} layer{'' if use.layers == 1 else 's'}"
        line = Content.assemble(line, (f"{layers}, {delay(use.round_trip)} there and back", "$quiet"))
    choices = (Content.assemble(line, *parts), Content.assemble(line, *parts[-1:]) if use.chats else line)
    return next((each for each in choices if each.cell_length <= width), line)
