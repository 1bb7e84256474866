"""The numbers beside the conversation. It shows readings and models, and counts nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace
from rich.cells import cell_len
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from tui import protocol
from tui.chat.meter import MeterReading
from tui.choices import AUTO
from tui.clean import clean_line
from tui.quantities import UNKNOWN, cells, named, number, percent, rounding, shortened

from .bars import Bars

WIDTH = 29
"""Columns inside the padding."""
Row = tuple[str, str]
Part = tuple[float, str]


class Drafter(NamedTuple):
    """The model that drafts, as the sidebar names it, and the color of its tokens."""

    name: str
    tone: str


DRAFT, HEAD = Drafter("draft", "$token-draft"), Drafter("head", "$token-head")


class Sidebar(VerticalScroll, can_focus=False):
    """Speed, drafts, time and context of the answer, and its models."""

    DEFAULT_CSS = """
    Sidebar {
        width: 34;
        padding: 1 2 0 2;
        border-left: solid $line;
        background: $background;
        scrollbar-size-vertical: 0;
        Static { height: auto; margin-bottom: 1; text-wrap: nowrap; }
        Bars { height: 2; margin-bottom: 1; color: $token-draft; }
        #speed-now { margin-bottom: 0; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 (Textual's own name)
        super().__init__(id=id)
        self._models = Static(id="models")
        self._speed_now = Static(id="speed-now")
        self._bars = Bars(id="bars")
        self._speed = Static(id="speed")
        self._drafts = Static(id="drafts")
        self._time = Static(id="time")
        self._room = Static(id="context")
        self._context_length: int | None = None
        self._loaded: protocol.Loaded | None = None
        self._drafter = DRAFT
        self._link = ""
        self._rows = 0
        self._lookup = False
        self._reading = MeterReading()
        self._drafting = ""
        """The draft length in a few words."""

    def compose(self) -> ComposeResult:
        yield self._models
        yield self._speed_now
        yield self._bars
        yield from (self._speed, self._drafts, self._time, self._room)

    class Toggled(Message):
        """The sidebar came or went."""

    def on_show(self) -> None:
        self.post_message(self.Toggled())

    def on_hide(self) -> None:
        self.post_message(self.Toggled())

    def on_mount(self) -> None:
        self.show_models(None)
        self.show_reading(MeterReading(), ())

    def show_models(self, loaded: protocol.Loaded | None) -> None:
        """Show the loaded pair, or that there is none."""
        self._loaded = loaded
        self._drafter = HEAD if loaded and loaded.draft and loaded.draft.is_head else DRAFT
        self._context_length = loaded.context_length if loaded else None
        rows: list[Row] = [(name, UNKNOWN) for name in ("main", "draft", "backend", "device")]
        if loaded:
            rows = [
                ("main", _model(loaded.main)),
                (self._drafter.name, _model(loaded.draft, "lookup" if self._lookup else "none")),
                ("backend", clean_line(loaded.backend, WIDTH - 9)),
                ("device", clean_line(loaded.device.partition(" + ")[0], WIDTH - 8)),
            ]
            rows += [(clean_line(each.name, 12), _share(each)) for each in loaded.workers]
        if loaded and loaded.rounding:
            rows.append(rounding(loaded.rounding))
        if self._link:
            rows.append(("host", clean_line(self._link, WIDTH - 6)))
        content = Content("\n").join([_heading("Models"), _table(rows)])
        if len(rows) != self._rows:
            self._rows = len(rows)
            self._models.update(content)
        else:
            _put(self._models, content)

    def show_rounding(self, measured: protocol.Rounding | None) -> None:
        """Show the measured rounding of the main model."""
        if self._loaded and measured and measured != self._loaded.rounding:
            self.show_models(replace(self._loaded, rounding=measured))

    def show_drafting(self, words: str, *, lookup: bool) -> None:
        """Show the draft length, and whether the lookup proposes where there is no draft model."""
        self._drafting = words
        self._show_drafts()
        if lookup != self._lookup:
            self._lookup = lookup
            self.show_models(self._loaded)

    def show_link(self, words: str) -> None:
        """Add a row for the engine's machine and the state of the link. Foreign text."""
        if words != self._link:
            self._link = words
            self.show_models(self._loaded)

    def show_reading(self, reading: MeterReading, history: Sequence[float]) -> None:
        """Show the numbers of this moment. Heights never change, so no layout is needed."""
        _put(self._speed_now, _heading("Speed now", number(reading.speed_now, "tok/s")))
        _put(self._speed, _table(_speed_rows(reading)))
        self._reading = reading
        self._show_drafts()
        _put(self._time, _time(reading, self._drafter))
        _put(self._room, _context(reading, self._context_length))
        self._bars.values = tuple(history)

    def _show_drafts(self) -> None:
        _put(self._drafts, _drafts(self._reading, self._drafting, self._drafter.tone))


def _share(worker: protocol.WorkerState) -> str:
    """Return the layers of a worker."""
    return f"{worker.layers:,} layer{'' if worker.layers == 1 else 's'}" if worker.layers else "not used"


def _put(place: Static, content: Content) -> None:
    """Show `content` if it has changed: painting the same again would be felt over ssh."""
    if not (isinstance(place.content, Content) and place.content.is_same(content)):
        place.update(content, layout=False)


def _speed_rows(reading: MeterReading) -> list[Row]:
    return [
        ("whole answer", number(reading.speed, "tok/s")),
        ("first token", "restored " * reading.restored + number(reading.first_token, "s", 2)),
        ("speed-up", _speed_up(reading)),
    ]


def _speed_up(reading: MeterReading) -> str:
    """Return the speed-up; where the engine cannot measure it, the key that can."""
    unknown = reading.drafted and reading.speed_up is None
    return "ctrl+r measures it" if unknown else number(reading.speed_up, "×", 2)


def _drafts(reading: MeterReading, drafting: str, tone: str) -> Content:
    known = reading.acceptance is not None
    counts = f"{reading.accepted:,} of {reading.drafted:,}" if known else UNKNOWN
    rate = UNKNOWN if reading.acceptance is None else percent(reading.acceptance)
    return Content("\n").join(
        [
            _heading("Drafts accepted", counts, short="Accepted"),
            _bar([(reading.acceptance or 0.0, tone)]),
            _table(
                [
                    ("acceptance rate", rate),
                    ("tokens per round", number(reading.tokens_per_round, "")),
                    ("drafted per round", number(reading.drafted_per_round, "")),
                    _draft_length(reading, drafting),
                ]
            ),
        ]
    )


def _draft_length(reading: MeterReading, drafting: str) -> Row:
    """Return the draft length. Where the engine decides it and drafts nothing, add its reason."""
    if reading.not_drafting and drafting.startswith(AUTO):
        return "drafting", clean_line(f"{AUTO}: {reading.not_drafting}", WIDTH - 9)
    return "draft length", drafting or UNKNOWN


def _time(reading: MeterReading, drafter: Drafter) -> Content:
    draft, verify = reading.draft_share, reading.verify_share
    other = None if draft is None or verify is None else max(0.0, 1.0 - draft - verify)
    shares = [
        (drafter.name, draft, drafter.tone),
        ("verify", verify, "$token-main"),
        ("other", other, "$quiet"),
    ]
    legend = Content("  ").join(
        Content.styled(f"{name} {figure}", style)
        for (name, _, style), figure in zip(shares, _percents(draft, verify), strict=True)
    )
    bar = _bar([(share, style) for _, share, style in shares if share is not None])
    return Content("\n").join([_heading("Where the time went, in %"), bar, legend])


def _percents(draft: float | None, verify: float | None) -> tuple[str, str, str]:
    """Return the shares of draft, verify and the rest in whole percents that add up to 100."""
    if draft is None or verify is None:
        return UNKNOWN, UNKNOWN, UNKNOWN
    one = round(draft * 100)
    other = min(round(verify * 100), 100 - one)
    return str(one), str(other), str(100 - one - other)


def _context(reading: MeterReading, length: int | None) -> Content:
    used = reading.context_used
    share = used / length if used is not None and length else 0.0
    words = UNKNOWN if used is None or not length else f"{used:,} of {length:,}"
    seed = UNKNOWN if reading.seed is None else str(reading.seed)
    return Content("\n").join(
        [
            _heading("Context used", words, short="Context"),
            _bar([(share, "$error" if share > 0.9 else "$primary")]),
            _table([("seed", seed)]),
        ]
    )


def _heading(title: str, value: str = "", short: str = "") -> Content:
    """Return a section's first line, with its main value at the right edge; `short` replaces a long value."""
    if short and len(title) + len(value) >= WIDTH:
        title = short
    return _line(title, "bold $primary", value)


def _table(rows: Sequence[Row]) -> Content:
    """Return rows with names on the left and values at the right edge."""
    return Content("\n").join(_line(name, "$quiet", value) for name, value in rows)


def _line(name: str, style: str, value: str) -> Content:
    """Return a name and its value with at least one space between them; a long name is cut."""
    room = WIDTH - cell_len(value) - 1 if value else WIDTH
    name = shortened(name, room)
    return Content.assemble((name, style), Content(" " * (WIDTH - cell_len(name) - cell_len(value)) + value))


def _bar(parts: Sequence[Part]) -> Content:
    """Return shares of the whole, 0 to 1, side by side; a thin line fills the rest."""
    pieces = []
    start = reached = 0
    total = 0.0
    for share, style in parts:
        total += share
        reached = max(start, cells(total, WIDTH))
        pieces.append(Content.styled("━" * (reached - start), style))
        start = reached
    return Content.assemble(*pieces, ("─" * (WIDTH - reached), "$line"))


def _model(model: protocol.ModelFacts | None, none: str = "") -> str:
    return none if model is None else shortened(clean_line(named(model)), WIDTH - 6)
