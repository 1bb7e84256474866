"""Counts an answer while it comes: rounds in, one `MeterReading` of plain numbers out.

It knows protocol values and a clock, and no widgets. An unknown value is None, never a guess.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tui import protocol

WINDOW = 3.0
"""Seconds that the speed of the moment spans, at least: one round may take one second."""
SHORTEST = 0.1
"""Seconds of an answer before it has a speed."""
HISTORY = 29
"""Samples in the bars, at most."""


@dataclass(frozen=True)
class MeterReading:
    """The known figures of the answer at one moment. Speeds in tokens per second, times in seconds."""

    speed_now: float | None = None
    """Speed over the last `WINDOW` seconds of rounds, or over the answer so far; None while no answer
    comes."""
    speed: float | None = None
    """Speed of the whole answer, from its first round on."""
    first_token: float | None = None
    """Time from the prompt to the first token, as the person waits; the engine's figure where nobody did."""
    restored: bool = False
    """Whether a part of the prompt came from the engine's disk."""
    speed_up: float | None = None
    """`Statistics.speed_up` over the rounds so far."""
    tokens: int = 0
    drafted: int = 0
    accepted: int = 0
    acceptance: float | None = None
    """Accepted divided by drafted tokens, 0 to 1."""
    tokens_per_round: float | None = None
    drafted_per_round: float | None = None
    """Tokens drafted in a round, on average."""
    draft_share: float | None = None
    """The draft's share of the time, 0 to 1. `verify_share` is the main model's; the rest is neither's."""
    verify_share: float | None = None
    context_used: int | None = None
    seed: int | None = None
    not_drafting: str = ""
    """The reason why nothing was drafted, in a few words; empty if something was, or if drafting is off."""


class Meter:
    """One answer's counts. `begin` starts the next one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that never go back."""
        self._clock = clock
        self.history: deque[float] = deque(maxlen=HISTORY)
        """Speeds of the moment, oldest first, one for each call of `sample`."""
        self._context: int | None = None
        self.begin(None)

    def begin(self, seed: int | None) -> None:
        """Begin the counts of an answer: a prompt was sent."""
        self._seed = seed
        self._sent = self._clock()
        self._first: float | None = None
        self._started = 0.0
        self._latest: deque[tuple[float, float, int]] = deque()
        """The rounds behind the speed of the moment: time before the round, time of its arrival, number of
        its tokens."""
        self._so_far = protocol.Statistics()
        """The sums over the rounds."""
        self._final: protocol.Statistics | None = None
        self._obstacle: protocol.Obstacle | None = None
        self._running = seed is not None

    def forget(self) -> None:
        """Begin a new conversation: its context is unknown, and it has no speeds yet."""
        self._context = None
        self.history.clear()
        self.begin(None)

    def add(self, event: protocol.TextRound) -> None:
        now = self._clock()
        if self._first is None:
            self._first = now - self._sent
            self._started = now - event.seconds
        self._latest.append((self._latest[-1][1] if self._latest else self._started, now, len(event.tokens)))
        while len(self._latest) > 1 and now - self._latest[1][0] >= WINDOW:
            self._latest.popleft()
        self._so_far = self._so_far.plus(event)
        self._context = event.context_used

    def hear(self, event: protocol.NotDrafting) -> None:
        """Take the engine's reason not to draft; an empty one means that it drafts."""
        self._obstacle = event.obstacle

    def finish(self, statistics: protocol.Statistics | None = None) -> None:
        """End the answer. The engine's own statistics replace the counts here where there are any."""
        self._running = False
        self._final = statistics
        if statistics is not None:
            self._context = statistics.context_used or self._context

    def sample(self) -> MeterReading:
        """Return a reading. While an answer comes, its speed of the moment goes into `history`."""
        reading = self.read()
        if self._running and reading.speed_now is not None:
            self.history.append(reading.speed_now)
        return reading

    def read(self) -> MeterReading:
        now, so_far = self._clock(), self._so_far
        return MeterReading(
            speed_now=self._speed_now(now),
            speed=self._speed(now),
            first_token=self._first or (self._final.time_to_first_token if self._final else None),
            restored=bool(self._final and self._final.prompt_restored),
            speed_up=(self._final or so_far).speed_up if so_far.drafted else None,
            tokens=so_far.tokens,
            drafted=so_far.drafted,
            accepted=so_far.accepted,
            acceptance=so_far.accepted / so_far.drafted if so_far.drafted else None,
            tokens_per_round=so_far.tokens / so_far.rounds if so_far.rounds else None,
            drafted_per_round=so_far.drafted / so_far.rounds if so_far.rounds else None,
            draft_share=self._share(so_far.draft_seconds),
            verify_share=self._share(so_far.verify_seconds),
            context_used=self._context,
            seed=self._seed,
            not_drafting=self._obstacle.brief if self._obstacle else "",
        )

    def _speed_now(self, now: float) -> float | None:
        """Tokens of the latest rounds divided by their time. It falls while a round takes longer than they
        did."""
        if not self._running or not self._latest:
            return None
        last = self._latest[-1][1]
        span = last - self._latest[0][0]
        late = max(0.0, now - last - span / len(self._latest))
        return sum(count for _, _, count in self._latest) / (span + late) if span >= SHORTEST else None

    def _speed(self, now: float) -> float | None:
        if self._final is not None:
            return self._final.tokens_per_second
        elapsed = now - self._started if self._running else self._so_far.seconds
        return self._so_far.tokens / elapsed if self._first is not None and elapsed >= SHORTEST else None

    def _share(self, part: float) -> float | None:
        whole = self._so_far.seconds
        return min(1.0, part / whole) if whole > 0 else None
