"""The last prompt twice, plain and drafted, from empty caches with the same seed. It shows the speed-up, and
that the text is the same.

The two run one after the other, because they share one machine. A replay then shows both side by side with
the measured times.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from msgspec.structs import replace
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Static

from tui.chat.export import new_file
from tui.chat.formatting import accepted
from tui.clean import clean_line
from tui.client import EngineClient, EngineError
from tui.client.parting import explained, first_difference
from tui.protocol import Finished, Generate, Statistics, TextRound
from tui.quantities import number
from tui.widgets.keyline import KeyLine
from tui.widgets.transcript import Transcript

_FRAME = 1 / 30
_BAR = 32
BUSIER = "This machine was busier while it decoded plainly: race once more."
SPAN = "From the first token to the last; reading the prompt is not in it."


@dataclass
class RaceRun:
    """One answer with its times."""

    name: str
    rounds: list[tuple[float, TextRound]] = field(default_factory=list)
    """The rounds, each with its time in seconds since the round of the first token."""
    statistics: Statistics | None = None

    def hear(self, event: TextRound) -> None:
        self.rounds.append((self.seconds + event.seconds, event))

    @property
    def tokens(self) -> list[int]:
        return [token for _, each in self.rounds for token in each.tokens]

    @property
    def seconds(self) -> float:
        """Seconds from the round of the first token to the end of the last round. All figures use this
        span."""
        return self.rounds[-1][0] if self.rounds else 0.0

    @property
    def speed(self) -> float | None:
        """Tokens per second; None before the end, and for a single token."""
        known = self.statistics and len(self.tokens) > 1 and self.seconds > 0
        return len(self.tokens) / self.seconds if known else None


class RaceScreen(Screen[EngineError | None]):
    """Ends with an error of the engine, or with None."""

    AUTO_FOCUS = ""
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (90, "-wide")]  # noqa: RUF012 (as Textual declares it)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space", "replay", "Once more", id="race.replay",
                tooltip="Show both once more, side by side"),
        Binding("ctrl+e", "export", "Export", id="race.export", tooltip="Write it as SVG and as text"),
        Binding("escape", "back", "Back", id="race.back", tooltip="Back to the chat"),
    ]  # fmt: skip
    DEFAULT_CSS = """
    RaceScreen {
        #lanes { height: 1fr; margin: 1 2 0 2; }
        .lane {
            width: 1fr;
            padding: 0 1;
            border: round $line;
            border-title-color: $quiet;
            border-subtitle-color: $foreground;
        }
        #result { height: 4; margin: 0 4; }
        &.-narrow #lanes { margin: 0; }
        &.-narrow #result { margin: 0 2; }
    }
    """

    def __init__(
        self,
        client: EngineClient,
        request: Generate,
        clock: Callable[[], float],
        folder: Callable[[], Path] = Path.cwd,
    ) -> None:
        """`request` is the prompt to answer; its id and the next two ids are used."""
        super().__init__()
        self._client = client
        self._request = request
        self._clock = clock
        self._folder = folder
        self._runs = (RaceRun("plain decoding"), RaceRun("with drafting"))
        self._transcripts = tuple(Transcript(classes="transcript") for _ in self._runs)
        self._lanes = tuple(Vertical(each, classes="lane") for each in self._transcripts)
        self._result = Static(id="result", markup=False)
        self._replay: Timer | None = None
        self._began = 0.0
        self._shown = [0, 0]
        """Number of rounds of each run that the replay has shown."""
        self._coming = 0
        """The id of the answer that comes now; 0 for none."""
        self._why = ""
        """The reason why the texts part, as far as it is known."""
        self._error: EngineError | None = None

    def compose(self) -> ComposeResult:
        with Horizontal(id="lanes"):
            yield from self._lanes
        yield self._result
        yield KeyLine()

    def on_mount(self) -> None:
        for run, lane, transcript in zip(self._runs, self._lanes, self._transcripts, strict=True):
            lane.border_title = run.name
            transcript.highlight = "full"
        self._run()

    @work(exclusive=True)
    async def _run(self) -> None:
        drafted = replace(self._request, fresh=True)
        plain = replace(drafted, id=drafted.id + 1, draft_length=0, lookup=False)
        try:
            await self._answer(0, plain)
            await self._answer(1, drafted)
        except EngineError as error:
            self._error = error
            self._result.update(Content.styled(clean_line(error.message), "$error"))
            return
        finally:
            self._coming = 0
        self._conclude()
        self.action_replay()
        await self._explain(plain)

    async def _answer(self, place: int, request: Generate) -> None:
        """Run one of the two answers and show it live."""
        run, transcript = self._runs[place], self._transcripts[place]
        self._coming = request.id
        self._result.update(
            Content.styled(f"{run.name}: the answer comes at the speed of this machine …", "$quiet")
        )
        transcript.writer.begin("assistant")
        async with aclosing(self._client.generate(request)) as events:
            async for event in events:
                match event:
                    case TextRound():
                        run.hear(event)
                        transcript.writer.append(event.pieces)
                    case Finished():
                        run.statistics = event.statistics
        transcript.writer.finish()
        self._lanes[place].border_subtitle = number(run.speed, "tok/s")

    async def _explain(self, plain: Generate) -> None:
        """Find the reason if the texts part."""
        if (at := self.parted_at) is None:
            return
        try:
            self._why = await explained(self._client, plain.id + 2, plain, self._runs[0].tokens, at)
        except EngineError as error:
            self._why = clean_line(error.message)
        self._conclude()

    # The result

    @property
    def parted_at(self) -> int | None:
        """The first token at which the texts differ, from 0; None if they are the same."""
        return first_difference([run.tokens for run in self._runs])

    @property
    def ratio(self) -> float | None:
        """Ratio of the speeds, which is the ratio of the times if both runs have the same number of
        tokens."""
        plain, drafted = self._runs
        return drafted.speed / plain.speed if plain.speed and drafted.speed else None

    def proof(self) -> str:
        """Return whether the texts are the same, and the reason if not."""
        if (at := self.parted_at) is None:
            return f"the same {len(self._runs[0].tokens):,} tokens"
        return self._why or f"the texts differ from token {at + 1:,} on"

    def lines(self) -> list[str]:
        """The result in words, a bar for each run."""
        longest = max(*(run.seconds for run in self._runs), 1e-9)
        bars = [
            f"{run.name:15} {'━' * max(1, round(_BAR * run.seconds / longest)):{_BAR}} "
            f"{number(run.seconds, 's', 3 if longest < 1 else 2):>8}  {number(run.speed, 'tok/s')}"
            for run in self._runs
        ]
        done = self._runs[1].statistics
        span = BUSIER if self.ratio and self.ratio > self.most else SPAN
        facts = (self.verdict(), self.proof(), accepted(done) if done else "")
        return [*bars, ", ".join(filter(None, facts)), span]

    @property
    def most(self) -> float:
        """Upper bound of the ratio on a machine that is the same in both runs: the tokens per round."""
        drafted = self._runs[1]
        return len(drafted.tokens) / max(1, len(drafted.rounds))

    def verdict(self) -> str:
        """The ratio in words."""
        if self.ratio and self.ratio > self.most:
            return f"at most {number(self.most, '×', 2)} as fast"
        return f"{number(self.ratio, '×', 2)} as fast"

    def _conclude(self) -> None:
        tones = ("$token-main", "$token-draft", "bold", "$quiet")
        shown = [Content.styled(line, tone) for line, tone in zip(self.lines(), tones, strict=True)]
        self._result.update(Content("\n").join(shown))

    # Keys

    def action_replay(self) -> None:
        """Replay both from the start, with the measured times."""
        if self._coming or self._replay or not all(run.statistics for run in self._runs):
            return
        for transcript in self._transcripts:
            transcript.writer.clear()
            transcript.writer.begin("assistant")
        self._shown = [0, 0]
        self._began = self._clock()
        self._replay = self.set_interval(_FRAME, self._tick)

    def _tick(self) -> None:
        passed = self._clock() - self._began
        left = 0
        for place, (run, transcript) in enumerate(zip(self._runs, self._transcripts, strict=True)):
            while self._shown[place] < len(run.rounds) and run.rounds[self._shown[place]][0] <= passed:
                transcript.writer.append(run.rounds[self._shown[place]][1].pieces)
                self._shown[place] += 1
            left += len(run.rounds) - self._shown[place]
        if not left and self._replay:
            self._replay.stop()
            self._replay = None
            for transcript in self._transcripts:
                transcript.writer.finish()

    def action_export(self) -> None:
        if not all(run.statistics for run in self._runs):
            return
        title = f"outrider: {self.verdict()}"
        try:
            svg = new_file(self._folder(), "outrider-race", ".svg", self.app.export_screenshot(title=title))
            text = new_file(self._folder(), "outrider-race", ".txt", "\n".join(self.lines()) + "\n")
        except OSError as error:
            self.notify(f"It is not written: {error.strerror}", severity="error", markup=False)
            return
        self.notify(clean_line(f"Written: {svg.name} and {text.name}"), markup=False)

    async def interrupt(self) -> bool:
        """End the race. Returns False if it is over."""
        if running := bool(self._coming):
            await self.action_back()
        return running

    async def action_back(self) -> None:
        if self._coming:
            await self._client.cancel(self._coming)
            self.workers.cancel_all()
        self.dismiss(self._error)
