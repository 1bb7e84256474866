"""Inside an answer: a cursor over its tokens, the alternatives to each, and a replay of its rounds.

The record of the rounds holds its history. The probabilities come from the models, which run over the answer
again if the main model of the answer is loaded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Static

from tui.chat.export import new_file
from tui.chat.trace import Token, as_json_lines, drafted_by_head, tokens_of
from tui.clean import clean_line
from tui.client import EngineClient, EngineError
from tui.protocol import Generate, Inspect, Origin, TokenInspection
from tui.quantities import number
from tui.store.changes import Turn
from tui.widgets.keyline import KeyLine
from tui.widgets.tokens import TokenView

from . import answer_figures

WINDOW = 16
"""Positions in one question to the models."""
_PATIENCE = 0.06
"""Seconds that the cursor must rest before the models are asked."""
_FRAME = 1 / 30
SPEEDS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0)


class InspectionScreen(Screen[EngineError | None]):
    """Ends with an error of the engine, or with None."""

    AUTO_FOCUS = ""
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 (as Textual declares it)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "token(-1)", "Token", key_display="←→", id="inside.before",
                tooltip="The token before"),
        Binding("right,l", "token(1)", "Token after", show=False, id="inside.after",
                tooltip="The token after"),
        Binding("up,k", "line(-1)", "Line up", show=False, id="inside.up", tooltip="A line up"),
        Binding("down,j", "line(1)", "Line down", show=False, id="inside.down", tooltip="A line down"),
        Binding("shift+left,comma", "round(-1)", "Round", key_display=", .", id="inside.round_before",
                tooltip="The round before"),
        Binding("shift+right,full_stop", "round(1)", "Round after", show=False, id="inside.round_after",
                tooltip="The round after"),
        Binding("n", "rejected(1)", "Rejected", id="inside.rejected_next", tooltip="The next rejected token"),
        Binding("N", "rejected(-1)", "Rejected before", show=False, id="inside.rejected_before",
                tooltip="The rejected token before"),
        Binding("home,g", "end(-1)", "First", show=False, id="inside.first", tooltip="The first token"),
        Binding("end,G", "end(1)", "Last", show=False, id="inside.last", tooltip="The last token"),
        Binding("space", "play", "Replay", id="inside.play",
                tooltip="Replay from the cursor, round by round, or stop"),
        Binding("plus,equals_sign", "speed(1)", "Faster", show=False, id="inside.faster",
                tooltip="Replay faster"),
        Binding("minus", "speed(-1)", "Slower", show=False, id="inside.slower", tooltip="Replay slower"),
        Binding("ctrl+s", "show_rejected", "Rejected", show=False, id="inside.show_rejected",
                tooltip="Show or hide rejected tokens"),
        Binding("tab", "figures", "Figures", id="inside.figures",
                tooltip="How drafts did over the answer, where there is no room for both"),
        Binding("ctrl+e", "export", "Export", show=False, id="inside.export",
                tooltip="Write the trace as JSON lines"),
        Binding("escape,q", "back", "Back", id="inside.back", tooltip="Back to the chat"),
    ]  # fmt: skip
    DEFAULT_CSS = """
    InspectionScreen {
        #inside { height: 1fr; margin: 1 2 0 2; }
        TokenView { width: 1fr; height: 1fr; }
        #anatomy {
            width: 46;
            height: 1fr;
            padding: 0 2;
            border: round $line;
            scrollbar-size-vertical: 0;
        }
        #anatomy Static { height: auto; margin-bottom: 1; }
        &.-narrow #inside { layout: vertical; margin: 0; }
        &.-narrow #anatomy { width: 100%; height: 16; }
        &.-narrow #anatomy Static { margin-bottom: 0; }
        &.-narrow #figures { display: none; }
        &.-narrow.-figures #figures { display: block; }
        &.-narrow.-figures .of-token { display: none; }
    }
    """

    def __init__(
        self, client: EngineClient, draw_id: Callable[[], int], turn: Turn, request: Generate | None,
        clock: Callable[[], float], folder: Callable[[], Path] = Path.cwd,
    ) -> None:  # fmt: skip
        """`turn` is an answer with its rounds; `request` is the command that it answered, with its tokens.

        Without a `request` no model is asked, because another model is loaded. `draw_id` returns new ids for
        commands.
        """
        super().__init__()
        self._client = client
        self._draw_id = draw_id
        self._turn = turn
        self._request = request
        self._clock = clock
        self._folder = folder
        self._rounds = turn.rounds
        self._total = sum(len(each.tokens) for each in turn.rounds)
        self._texts: tuple[str, ...] = ()
        self._places: dict[int, TokenInspection] = {}
        self._tokens = TokenView(id="tokens")
        self._token = Static(id="token", classes="of-token", markup=False)
        self._candidates = Static(id="candidates", classes="of-token", markup=False)
        self._round = Static(id="round", classes="of-token", markup=False)
        self._figures = Static(id="figures", markup=False)
        self._why = "" if request else f"Load {clean_line(turn.main)} to see its probabilities."
        self._speed = SPEEDS.index(1.0)
        self._replay: Timer | None = None
        self._at = 0.0
        """Seconds of the answer that the replay has shown."""
        self._last = 0.0
        self._error: EngineError | None = None

    def compose(self) -> ComposeResult:
        with Horizontal(id="inside"):
            yield self._tokens
            with VerticalScroll(id="anatomy", can_focus=False):
                yield from (self._token, self._candidates, self._round, self._figures)
        yield KeyLine()

    def on_mount(self) -> None:
        by = clean_line(self._turn.main) or "the answer"
        self._tokens.border_title = f"{by}: {self._total:,} tokens in {len(self._rounds):,} rounds"
        self._figures.update(answer_figures.figures(self._rounds))
        self._tokens.show(tokens_of(self._rounds))
        if self._request:
            self._read_texts(self._request)

    # Answers of the models

    @work(group="texts")
    async def _read_texts(self, request: Generate) -> None:
        """Read the texts of single tokens. Afterwards the cursor moves over single tokens."""
        if not (found := await self._ask(Inspect(self._draw_id(), request))):
            return
        before = self._tokens.current
        self._texts = found
        self._tokens.show(tokens_of(self._rounds, self._texts))
        if before:
            self._tokens.go_to_round(before.round)
        self._tell()

    async def _ask(self, command: Inspect) -> tuple[str, ...]:
        """Send `command` and keep its results. Returns the texts that it asks for, if it does."""
        try:
            found = await self._client.inspect(command)
        except EngineError as error:
            self._error, self._why = error, clean_line(error.message)
            self._tell()
            return ()
        if command.count and not found.places:
            self._why = "This model tells no probabilities."
        for place, each in enumerate(found.places, command.begin):
            self._places[place] = each
        return found.texts

    @work(exclusive=True, group="places")
    async def _look(self, request: Generate, place: int) -> None:
        """Ask for the probabilities around `place` once the cursor rests there."""
        await asyncio.sleep(_PATIENCE)
        begin = place - place % WINDOW
        count = min(WINDOW, self._total - begin)
        await self._ask(Inspect(self._draw_id(), request, begin, count))
        self._tell()

    # Text beside the tokens

    @on(TokenView.Moved)
    def _moved(self) -> None:
        self._tell()
        stands = self._stands()
        if stands is None or stands.place is None or stands.place in self._places:
            return
        if self._request and not (self._why or self._replay):
            self._look(self._request, stands.place)

    def _stands(self) -> Token | None:
        """Return the cursor's token; for a rejected one, the token that replaced it."""
        tokens = self._tokens.tokens
        ahead = range(self._tokens.cursor, len(tokens)) if self._texts else ()
        return next((tokens[number] for number in ahead if tokens[number].place is not None), None)

    def _tell(self) -> None:
        """Show everything known about the token under the cursor."""
        current = self._tokens.current
        if current is None:
            self._token.update(Content.styled("It is not known how this answer came.", "$quiet"))
            return
        self._token.update(answer_figures.token(current, self._total))
        stands = self._stands()
        place = self._places.get(stands.place) if stands and stands.place is not None else None
        self._candidates.update(
            answer_figures.candidates(current, place, stands, by_head=drafted_by_head(self._rounds))
            if place and stands
            else Content.styled(self._why or "asking the models …", "$quiet")
        )
        rejected = [
            each.text
            for each in self._tokens.tokens
            if each.round == current.round and each.origin == Origin.REJECTED
        ]
        happened = self._rounds[current.round]
        self._round.update(answer_figures.round_of(happened, current.round, len(self._rounds), rejected))
        self._show_state(current.round)

    def _show_state(self, round_number: int) -> None:
        seconds = [each.seconds for each in self._rounds]
        speed = f"{number(SPEEDS[self._speed], '×', 2)}"
        mark = "▶ " if self._replay else ""
        done = sum(seconds[: round_number + 1])
        self._tokens.border_subtitle = f"{mark}{done:.2f} of {sum(seconds):.2f} s, replay at {speed}"

    # Keys

    def action_token(self, by: int) -> None:
        self._stop()
        self._tokens.move(by)

    def action_line(self, by: int) -> None:
        self._stop()
        self._tokens.move_line(by)

    def action_round(self, by: int) -> None:
        self._stop()
        self._tokens.move_round(by)

    def action_rejected(self, by: int) -> None:
        self._stop()
        self._tokens.move_rejected(by)

    def action_end(self, to: int) -> None:
        self._stop()
        self._tokens.move(to * len(self._tokens.tokens))

    def action_show_rejected(self) -> None:
        self._tokens.show_rejected = not self._tokens.show_rejected

    def action_figures(self) -> None:
        self.toggle_class("-figures")

    def action_speed(self, by: int) -> None:
        self._speed = max(0, min(len(SPEEDS) - 1, self._speed + by))
        if current := self._tokens.current:
            self._show_state(current.round)

    def action_play(self) -> None:
        """Replay the rounds from the cursor on, in their original time; at the end, from the start."""
        if self._replay:
            self._stop()
            return
        current = self._tokens.current
        if current is None:
            return
        first = current.round if current.round + 1 < len(self._rounds) else 0
        self._tokens.go_to_round(first)
        self._at = sum(each.seconds for each in self._rounds[: first + 1])
        self._last = self._clock()
        self._tokens.later_is_faint = True
        self._replay = self.set_interval(_FRAME, self._tick)
        self._tell()

    def _tick(self) -> None:
        now = self._clock()
        self._at += (now - self._last) * SPEEDS[self._speed]
        self._last = now
        passed, number_of = 0.0, -1
        for each in self._rounds:
            passed += each.seconds
            if passed > self._at:
                break
            number_of += 1
        if (current := self._tokens.current) and number_of > current.round:
            self._tokens.go_to_round(number_of)
        if number_of + 1 >= len(self._rounds):
            self._stop()

    def _stop(self) -> None:
        if self._replay:
            self._replay.stop()
            self._replay = None
            self._tokens.later_is_faint = False
            self._moved()

    def action_export(self) -> None:
        """Write everything known about the answer, with the probabilities that were asked for."""
        text = as_json_lines(self._turn, self._rounds, self._texts, self._places)
        try:
            path = new_file(self._folder(), "outrider-trace", ".jsonl", text)
        except OSError as error:
            self.notify(f"It is not written: {error.strerror}", severity="error", markup=False)
            return
        self.notify(clean_line(f"Written: {path.name}"), markup=False)

    def action_back(self) -> None:
        self.workers.cancel_node(self)
        self.dismiss(self._error)
