"""What pacing knows of a pair: what a round costs here, and how often a proposal is right.

- `Costs`: seconds for verifying 1, 2, ... rows (a table, for v(m) has steps and flat stretches), for drafting
  a token, for letting the draft read one, and for all the rest.
- `Acceptance`: the chance that the next drafted token is accepted, place by place.
- `Calibration`: what a proposer's own confidence in a token is worth.

Each is kept true by every round, forgets slowly, and survives noise: a busy machine or a jump of the clock
moves it little. This module decides nothing, reads no clock and knows no model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import exp, isfinite, log
from operator import mul
from statistics import median

from .loop import Round
from .ratios import Ratios

LONGEST = 16
"""Most tokens in a proposal."""


class Costs:
    """What a round costs on this machine, in seconds: measured once, then kept true by every round.

    The live estimates are running means of log(seen / expected). A surprise counts at most `_CLIP`, so a
    busy moment or a jump of the clock moves them little, and a duration that is no positive number not
    at all. But `_PATIENCE` greater ones in a row, to one side and of several numbers of rows, are no moment
    and no error in one of them: the machine is another now, and the table follows at once. A longer context
    makes all of v dearer: one factor for all rows, with a slower correction for each.
    """

    def __init__(self, verify: Mapping[int, float], draft: float, read: float, host: float = 0.0) -> None:
        """`verify` maps rows to seconds, 1 row included; `draft` is one drafted token, `read` one token more
        in a batch that the draft reads, `host` the rest of a round. `ValueError` if one makes no sense.
        """
        positive = [*verify.values(), draft, read]
        if not all(isfinite(s) and s > 0 for s in positive) or not (isfinite(host) and host >= 0):
            raise ValueError("a cost is not a positive number of seconds")
        if 1 not in verify or not all(isinstance(rows, int) and rows > 0 for rows in verify):
            raise ValueError(
                "the cost of verifying is not known for one row, or known for rows that cannot be"
            )
        self.verify = _filled(verify)
        """Seconds for 1, 2, ... `LONGEST` + 1 rows."""
        self._ratios = Ratios(self.verify)
        self.draft, self.read, self.host = draft, read, host
        self._rounds = 0
        self._used = [0.0] * (LONGEST + 1)
        self._great: deque[tuple[int, float]] = deque(maxlen=_PATIENCE)
        """Surprises beyond `_CLIP`, in a row and to one side, each with its place in `verify`."""

    @property
    def plain(self) -> float:
        """Seconds of a round that proposes nothing."""
        return self.verify[0] + self.host

    def plain_seconds(self, happened: Round) -> float:
        """What plain decoding would have taken for the tokens of this round at this moment.

        The round's own verification, divided by the ratio of so many rows to one: whatever makes the machine
        slow now makes both slow. A step of plain decoding takes at most as long as the round.
        """
        step = happened.verify_seconds / self._ratios.of(min(len(happened.drafted), LONGEST)) + self.host
        return len(happened.tokens) * min(step, happened.seconds)

    def pause(self) -> None:
        """Time passes between two answers."""
        self._ratios.pause()

    def learn(self, happened: Round, calls: int, extra: int) -> None:
        """The draft model ran `calls` times, over `extra` tokens beyond one a call."""
        self._rounds += 1
        row = len(happened.drafted)
        self._ratios.learn(row, happened.verify_seconds)
        gain = max(_GAIN, 1 / (self._rounds + 3))
        surprise = _surprise(happened.verify_seconds, self.verify[row])
        if self._lasts(row, surprise):
            leap = exp(_clipped(median(each for _, each in list(self._great)[-3:]), _LEAP))
            self.verify = [seconds * leap for seconds in self.verify]
            self._great.clear()
        elif surprise:
            self._correct(row, gain, _clipped(surprise))
        reading = self.read * extra
        if extra >= 16:
            surprise = _surprise(happened.draft_seconds - self.draft * calls, reading)
            self.read *= exp(2 * gain * _clipped(surprise))
        elif calls:
            surprise = _surprise(happened.draft_seconds - reading, self.draft * calls)
            self.draft *= exp(gain * _clipped(surprise))
        drafting = happened.draft_seconds if calls or extra else 0.0
        host = happened.seconds - happened.verify_seconds - drafting
        if isfinite(host) and host >= 0:
            self.host += gain * min(host - self.host, 0.1 * self.verify[0])

    def _lasts(self, row: int, surprise: float) -> bool:
        """Whether great surprises to this side have come so often in a row that the machine is another."""
        great = abs(surprise) > _CLIP
        if not great or any(other * surprise < 0 for _, other in self._great):
            self._great.clear()
        if great:
            self._great.append((row, surprise))
        return len(self._great) == _PATIENCE and len({row for row, _ in self._great}) > 1

    def _correct(self, row: int, gain: float, surprise: float) -> None:
        """All rows by a factor; `row` beyond it, the more the rarer it is used.

        The corrections of single rows balance out over the rounds, so that a change common to all is the
        factor's alone; they begin when the factor has settled.
        """
        self._used = [share * (1 - gain) for share in self._used]
        self._used[row] += gain
        own = _ROW_GAIN * (1.2 - self._used[row]) if self._rounds > _SETTLED else 0.0
        factor = exp((gain - own * self._used[row]) * surprise)
        self.verify = [seconds * factor for seconds in self.verify]
        self.verify[row] *= exp(own * surprise)

    def as_dict(self) -> dict[str, object]:
        verify = {str(rows): seconds for rows, seconds in enumerate(self.verify, 1)}
        return {"verify": verify, "draft": self.draft, "read": self.read, "host": self.host}

    @classmethod
    def from_dict(cls, stored: object) -> Costs:
        """What `as_dict` gave. `ValueError` if it makes no sense."""
        match stored:
            case {
                "verify": dict() as verify,
                "draft": float(draft),
                "read": float(read),
                "host": float(host),
            }:
                if all(isinstance(seconds, float) for seconds in verify.values()):
                    rows = {int(rows): seconds for rows, seconds in verify.items()}
                    return cls(rows, draft, read, host)
        raise ValueError("these are no costs")


_CLIP, _PATIENCE, _LEAP = 0.3, 8, 4.0
_GAIN, _ROW_GAIN, _SETTLED = 0.05, 0.06, 30


def _surprise(seen: float, expected: float) -> float:
    """log(seen / expected); 0 if `seen` is no duration."""
    ratio = seen / expected
    return log(ratio) if isfinite(ratio) and ratio > 0 else 0.0


def _clipped(surprise: float, most: float = _CLIP) -> float:
    return max(-most, min(most, surprise))


def _filled(measured: Mapping[int, float]) -> list[float]:
    """Seconds for every number of rows, from some. A line between neighbours, but a step stays a step.

    A stretch that rises far more steeply than the table as a whole hides a change of kernel. Where is not
    known, so all rows inside are taken to be as dear as its end.
    """
    known = sorted(measured)
    last = known[-1]
    usual = (measured[last] - measured[1]) / max(last - 1, 1)
    if last <= LONGEST:
        measured = {**measured, LONGEST + 1: measured[last] + max(usual, 0.0) * (LONGEST + 1 - last)}
        known.append(LONGEST + 1)
    table = [measured[1]]
    for low, high in pairwise(known):
        slope = (measured[high] - measured[low]) / (high - low)
        step = slope > 2 * usual and measured[high] > 1.2 * measured[low]
        table += [
            measured[high] if step else measured[high] - slope * (high - m) for m in range(low + 1, high + 1)
        ]
    return table[: LONGEST + 1]


class Acceptance:
    """The chance that a drafted token is accepted now: a belief over `_RATES`, updated by Bayes' rule.

    Before each round the rate may have jumped to any other (a hidden Markov model), so the belief is sharp
    while the text goes on as it did and turns within a few tokens when it changes. A slow correction for each
    position follows. A round that stopped at i says nothing of i + 1.
    """

    def __init__(self, belief: Sequence[float] | None = None) -> None:
        """`belief` is a weight for each of `_RATES`, from `as_list`. `ValueError` if it cannot be."""
        old = _PRIOR if belief is None else belief
        if len(old) != len(_RATES) or not all(0 <= w <= 1 for w in old) or abs(sum(old) - 1) > 0.01:
            raise ValueError("this is no belief about acceptance")
        self._weights = [(w + p) / 2 for w, p in zip(old, _PRIOR, strict=True)]
        self._right = [_POSITION_TRIALS] * LONGEST
        self._expected = [_POSITION_TRIALS] * LONGEST
        self._corrections = [1.0] * LONGEST
        self._forecast()

    def learn(self, accepted: int, refused: bool) -> None:
        """The first `accepted` tokens of a draft were right, and the next one wrong if `refused`."""
        right, expected = self._right, self._expected
        for i in range(accepted + refused):
            right[i] += _POSITION_GAIN * (_POSITION_TRIALS - right[i]) + (i < accepted)
            expected[i] += _POSITION_GAIN * (_POSITION_TRIALS - expected[i]) + self._uncorrected[i]
            self._corrections[i] = right[i] / expected[i]
        weights = list(map(mul, self._weights, _POWERS[accepted]))
        if refused:
            weights = list(map(mul, weights, _REFUSED))
        scale = (1 - _JUMP) / sum(weights)
        self._weights = [w * scale + jump for w, jump in zip(weights, _JUMPS, strict=True)]
        self._forecast()

    def _forecast(self) -> None:
        # Exact at 1, 2, 4, 8 and 16 tokens; between them the hazard is taken to be even.
        weights, before = self._weights, 1.0
        hazards: list[float] = []
        for places, powers in _STAGES:
            survival = sum(map(mul, weights, powers))
            hazards += [(survival / before) ** (1 / places)] * places
            before = survival
        self._uncorrected = hazards
        self.hazards = list(map(min, map(mul, hazards, self._corrections), _CERTAIN))
        """P(token i is accepted, given that all before it were)."""

    def as_list(self) -> list[float]:
        return list(self._weights)


_RATES = [1 / (1 + exp(-x / 2)) for x in range(-6, 10)]
_REFUSED = [1 - rate for rate in _RATES]
_POWERS = [[rate**i for rate in _RATES] for i in range(LONGEST + 1)]
_STAGES = [(1, _POWERS[1]), (1, _POWERS[2]), (2, _POWERS[4]), (4, _POWERS[8]), (8, _POWERS[16])]
_CERTAIN = [0.999] * LONGEST
_PRIOR = [x / 72 for x in (1, 2, 3, 4, 5, 6, 7, 8, 8, 7, 6, 5, 4, 3, 2, 1)]
_JUMP = 0.003
_JUMPS = [_JUMP * weight for weight in _PRIOR]
_POSITION_TRIALS, _POSITION_GAIN = 30.0, 0.005


class Calibration:
    """What a proposer's confidence is worth: ten bins of confidence -> chance of acceptance.

    The bins are slowly forgetting counts, made monotone by pooling adjacent violators. A shift of their log
    odds, common to all bins and believed like `Acceptance`, follows the text from one passage to the next;
    where the confidence says nothing, it does all the work.
    """

    def __init__(self, counts: Sequence[Sequence[float]] | None = None) -> None:
        """`counts` are ten pairs of accepted and tried tokens. `ValueError` if they cannot be."""
        self._counts = [list(pair) for pair in ([(0.0, 0.0)] * _BINS if counts is None else counts)]
        possible = all(len(pair) == 2 and 0 <= pair[0] <= pair[1] <= _MOST for pair in self._counts)
        if len(self._counts) != _BINS or not possible:
            raise ValueError("these are no counts of accepted and tried tokens")
        self._shifts = list(_SHIFT_PRIOR)
        self._shift = 1.0
        self._rounds = 0
        self._refit()

    def chance(self, confidence: float) -> float:
        """The chance that the main model agrees."""
        odds = self._odds[_bin(confidence)] * self._shift
        return odds / (1 + odds)

    def learn(self, judged: Sequence[tuple[float, bool]]) -> None:
        """The tokens of one round, each as its confidence and whether the main model agreed."""
        if not judged:
            return
        shifts = self._shifts
        for confidence, agreed in judged:
            b = _bin(confidence)
            shifts = list(map(mul, shifts, self._likelihoods[b][agreed]))
            accepted, tried = self._counts[b]
            self._counts[b] = [accepted * _KEEP + agreed, tried * _KEEP + 1]
        scale = (1 - _JUMP) / sum(shifts)
        self._shifts = [w * scale + _JUMP * p for w, p in zip(shifts, _SHIFT_PRIOR, strict=True)]
        self._shift = exp(sum(map(mul, self._shifts, _SHIFT_LOGS)))
        self._rounds += 1
        if self._rounds < 32 or self._rounds % 4 == 0:  # later the bins move slowly
            self._refit()

    def _refit(self) -> None:
        pools: list[tuple[float, float, int]] = []
        for (accepted, tried), prior in zip(self._counts, _BIN_PRIOR, strict=True):
            pool = (accepted + prior, tried + _BIN_TRIALS, 1)
            while pools and pools[-1][0] * pool[1] > pool[0] * pools[-1][1]:
                last = pools.pop()
                pool = (pool[0] + last[0], pool[1] + last[1], pool[2] + last[2])
            pools.append(pool)
        self._odds = [accepted / (tried - accepted) for accepted, tried, size in pools for _ in range(size)]
        self._likelihoods = [
            ([1 / (1 + odds * e) for e in _SHIFTS], [odds * e / (1 + odds * e) for e in _SHIFTS])
            for odds in self._odds
        ]
        """By bin: P(disagrees) and P(agrees) under each shift."""

    def as_list(self) -> list[list[float]]:
        return [list(pair) for pair in self._counts]


_BINS, _BIN_TRIALS, _KEEP = 10, 2.0, 0.99
_MOST = 1 / (1 - _KEEP) + 1
_BIN_PRIOR = [_BIN_TRIALS * (b + 0.5) / _BINS for b in range(_BINS)]
_SHIFT_LOGS = [-4.0, -2.5, -1.2, 0.0, 1.2, 2.5, 4.0]
_SHIFTS = [exp(x) for x in _SHIFT_LOGS]
_SHIFT_PRIOR = [0.02, 0.04, 0.14, 0.6, 0.14, 0.04, 0.02]


def _bin(confidence: float) -> int:
    """Of a confidence; one that is no number is none."""
    if 0 < confidence < 1:
        return int(confidence * _BINS)
    return _BINS - 1 if confidence >= 1 else 0
