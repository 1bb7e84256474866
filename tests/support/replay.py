"""Real answers again without their models: recorded tokens and drafts, measured times, a clock of its own.

`recorded/answers.json` holds answers of a real pair: the tokens of the main model, at each place what the
draft said there with the same noise, and how sure it was (`python -m tools.bench.record` makes it). A replay
runs the real loop, the real proposers and the real policy over them; only the models are missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from tests.support.paths import SUPPORT
from tui.engine.speculation.lookup import Lookup
from tui.engine.speculation.loop import DraftLengthPolicy, Pick, Proposer, Round, generate
from tui.engine.speculation.proposers import DraftModel, NullProposer, ProposersInTurn

RECORDED = SUPPORT / "recorded"
LONG = 17


@dataclass(frozen=True)
class Answer:
    """What a main model wrote, and what a draft would have."""

    name: str
    context: list[int]
    tokens: list[int]
    wrong: Mapping[int, int]
    """The draft's token where it is not the main model's."""
    confidence: list[float]


def answers() -> list[Answer]:
    stored = json.loads((RECORDED / "answers.json").read_text())
    return [
        Answer(
            f"{each['prompt']} at {each['temperature']}",
            each["context"],
            each["tokens"],
            {int(place): token for place, token in each["wrong"].items()},
            [percent / 100 for percent in each["confidence"]],
        )
        for each in stored["answers"]
    ]


def barriers() -> frozenset[int]:
    return frozenset(json.loads((RECORDED / "answers.json").read_text())["barriers"])


class Trace:
    """How long calls take from one moment to the next, in seconds.

    A tick holds one call of each kind, made one after the other. The moment of a call tells its tick.
    """

    def __init__(self, verify: Sequence[Mapping[int, float]], draft: Sequence[float], read: float) -> None:
        """`verify` has for each tick seconds by rows; `read` is a token more of the draft, by `draft`."""
        self.verify = [_line(tick) for tick in verify]
        self.draft, self.read = list(draft), read
        self._length = sum(sum(tick.values()) for tick in verify) / len(verify)

    @classmethod
    def recorded(cls, name: str) -> Trace:
        stored = json.loads((RECORDED / f"{name}.json").read_text())
        rows = stored["rows"]
        ticks = [[ms / 1000 for ms in tick] for tick in stored["ticks"]]
        verify = [dict(zip(rows, tick, strict=False)) for tick in ticks]
        drafts = [(one + again) / 2 for one, _, again in (tick[len(rows) :] for tick in ticks)]
        read = median(tick[len(rows) + 1] / one for tick, one in zip(ticks, drafts, strict=True)) - 1
        return cls(verify, drafts, max(0.05, read))

    @classmethod
    def steady(cls, verify: Mapping[int, float], draft: float, read: float = 0.1) -> Trace:
        return cls([verify], [draft], read)

    def slowed(self, factors: Sequence[float]) -> Trace:
        """Each tick so many times as slow; as many ticks as factors."""
        verify = [dict(enumerate((f * s for s in self.verify[0]), 1)) for f in factors]
        return Trace(verify, [f * self.draft[0] for f in factors], self.read)

    def seconds(self, now: float, rows: int) -> float:
        return self.verify[int(now / self._length) % len(self.verify)][rows - 1]

    def draft_seconds(self, now: float, tokens: int) -> float:
        return self.draft[int(now / self._length) % len(self.draft)] * (1 + self.read * (tokens - 1))

    def medians(self, rows: Sequence[int]) -> tuple[dict[int, float], float, float]:
        """What an undisturbed measurement would find: by rows, of a draft, of a token that it reads."""
        draft = median(self.draft)
        return {m: median(tick[m - 1] for tick in self.verify) for m in rows}, draft, draft * self.read


def _line(tick: Mapping[int, float]) -> list[float]:
    """For 1 to `LONG` rows; what was not recorded lies on a line between its neighbours."""
    known = sorted(tick)
    found = []
    for m in range(1, LONG + 1):
        low = max((k for k in known if k <= m), default=known[0])
        high = min((k for k in known if k >= m), default=known[-1])
        share = (m - low) / (high - low) if high > low else 0.0
        found.append(tick[low] + share * (tick[high] - tick[low]))
    return found


@dataclass
class Said:
    """A main model that says an answer, whatever was proposed."""

    answer: Answer
    trace: Trace
    clock: list[float]
    length: int = 0
    capacity: int = 10**6

    def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]:
        self.clock[0] += self.trace.seconds(self.clock[0], len(tokens))
        self.length += len(tokens)
        first = self.length - picks + 1 - len(self.answer.context)
        return [Pick(self._token(place), 1.0) for place in range(first, first + picks)]

    def _token(self, place: int) -> int:
        return self.answer.tokens[place] if place < len(self.answer.tokens) else -7

    def rewind(self, length: int) -> None:
        self.length = length


@dataclass
class Drafts(Said):
    """The draft of an answer. Behind a wrong token it says what is wrong too."""

    held: list[int] = field(default_factory=list)

    def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]:
        self.clock[0] += self.trace.draft_seconds(self.clock[0], len(tokens))
        self.held[self.length :] = tokens
        self.length += len(tokens)
        if not picks:
            return []
        answer, begin = self.answer, len(self.answer.context)
        place = self.length - begin
        right = self.held[begin:] == answer.tokens[:place] and place < len(answer.tokens)
        token = answer.wrong.get(place, self._token(place)) if right else -8
        return [Pick(token, answer.confidence[min(place, len(answer.tokens) - 1)])]


@dataclass(frozen=True)
class Replay:
    rounds: list[Round]
    seconds: float


def replay(
    answer: Answer,
    trace: Trace,
    policy: DraftLengthPolicy,
    *,
    draft: bool = True,
    lookup: Lookup | None = None,
    at: float = 0.0,
) -> Replay:
    """One answer from an empty draft cache; `at` is the moment of the trace at which it begins."""
    clock = [at]
    main = Said(answer, trace, clock, len(answer.context) - 1)
    proposers: list[Proposer] = [lookup] if lookup else []
    proposers.append(DraftModel(Drafts(answer, trace, clock), ()) if draft else NullProposer())
    context = answer.context.copy()
    rounds = list(
        generate(
            main,
            ProposersInTurn(*proposers),
            context,
            policy=policy,
            end_tokens=(),
            max_tokens=len(answer.tokens),
            clock=lambda: clock[0],
        )
    )
    assert context == answer.context + answer.tokens
    return Replay(rounds, clock[0] - at)
