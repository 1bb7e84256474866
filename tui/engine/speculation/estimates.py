"""The costs of a round, learned from the rounds before: ratios to one row of the main model, and a speed.

A call takes `speed * ratio` seconds. The ratios (of 1 to 17 rows of the main model, of a drafted token, of a
token that the draft reads) belong to the pair and hardly change. The speed is common to all calls and changes
at any time: another program starts, the context grows. A slow moment must not be mistaken for an expensive
call, nor an expensive call for a slow moment. Only other calls show the difference.

`Costs` is therefore a Kalman filter. Its state is the logarithm of the speed and of the ratios, with their
covariance. Each duration of a round is one observation of a sum. Costs that are seen together are compared: a
round that drafts shows the cost of the draft and of its rows at the same moment, and the speed cancels out.
Costs that were never compared stay uncertain, and the uncertainty is known: a decision can use the least that
a call may cost.

Durations have outliers, and a Kalman filter believes them. So a surprise counts only up to `_CLIP` standard
deviations (Huber). Its excess makes its possible causes uncertain, so that a second surprise of the same kind
is believed. One bad moment then changes little, and a few rounds correct a wrong figure.

Sources: Kalman, "A new approach to linear filtering and prediction problems", 1960; Huber, "Robust estimation
of a location parameter", 1964. This module decides nothing, reads no clock and knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import exp, inf, isfinite, log, sqrt
from statistics import median

import numpy as np
from numpy.typing import NDArray

from .chances import LONGEST
from .loop import Round
from .ratios import Ratios

_ROWS = LONGEST + 1
_SPEED, DRAFT, READ = 0, _ROWS + 1, _ROWS + 2
"""The indices in the state of the speed, of a drafted token, and of a token that the draft reads. The rows
are between them."""

_Vector = NDArray[np.float64]


class Costs:
    """The costs of a round in seconds: measured once, then corrected by every round."""

    def __init__(
        self,
        verify: Mapping[int, float],
        draft: float,
        read: float,
        host: float = 0.0,
        doubt: Mapping[int, float] | None = None,
    ) -> None:
        """`verify` maps rows to seconds, 1 row included. `draft` is the time of a drafted token, `read` that
        of one more token in a batch that the draft reads, `host` the rest of a round. `doubt` is the
        uncertainty of the ratios to one row, as standard deviations of logarithms: by number of rows, `DRAFT`
        and `READ`.

        Raises `ValueError` if a figure makes no sense.
        """
        positive = [*verify.values(), draft, read]
        if not all(isfinite(s) and s > 0 for s in positive) or not (isfinite(host) and host >= 0):
            raise ValueError("a cost is not a positive number of seconds")
        if 1 not in verify or not all(isinstance(rows, int) and rows > 0 for rows in verify):
            raise ValueError(
                "the cost of verifying is not known for one row, or known for rows that cannot be"
            )
        doubt = doubt or {}
        if not all(0 <= each < inf for each in doubt.values()):
            raise ValueError("a doubt is not a standard deviation")
        self.host = host
        verify = _plausible(verify, doubt)
        ratios = [seconds / verify[1] for seconds in [*_filled(verify), draft, read]]
        self._mean = np.log([verify[1], *ratios])
        doubts = _doubts(verify, doubt)
        self._own = _covariance(doubts)
        self._variances = self._own.reshape(-1)[:: len(ratios) + 2]
        self._noise = _NOISE**2
        self._surprised = [0.0] * len(self._mean)
        self._rounds = 0
        self._tell()
        self._ratios = Ratios(
            self.verify, [doubts[row - 1] if row in verify else _NO_IDEA for row in range(1, _ROWS + 1)]
        )

    def _tell(self) -> None:
        """Put the state into seconds."""
        seconds = np.exp(self._mean[1:] + self._mean[0]).tolist()
        self.verify: list[float] = seconds[:_ROWS]
        """Seconds for 1, 2, ... `LONGEST` + 1 rows."""
        self.draft, self.read = seconds[_ROWS:]

    def least(self, rows: int) -> tuple[list[float], float]:
        """Return `verify` and `draft` with the least cost that each may have beside so many rows.

        That is `_OPTIMISM` standard deviations of their ratio below the expected cost.
        """
        own = self._own[rows]
        of_rows = self._variances + (own[rows] - 2 * own)
        seconds = np.exp(
            self._mean + (self._mean[0] - _OPTIMISM * np.sqrt(np.maximum(of_rows, 0.0)))
        ).tolist()
        one = min(seconds[1], self.verify[0])  # several rows are never cheaper than one
        return [max(one, each) for each in seconds[1 : _ROWS + 1]], seconds[DRAFT]

    def apart(self, rows: int) -> bool:
        """Whether so many rows should be tried beside one row, because their cost is too little known."""
        own = self._own
        return float(own[1, 1] + own[rows, rows] - 2 * own[1, rows]) > _UNSURE**2 + self._noise

    @property
    def plain(self) -> float:
        """Seconds of a round that proposes nothing."""
        return self.verify[0] + self.host

    def plain_seconds(self, happened: Round) -> float:
        """Estimate the seconds of plain decoding for the tokens of this round, at its moment."""
        one = happened.verify_seconds / self._ratios.of(len(happened.drafted))
        return len(happened.tokens) * min(one + self.host, happened.seconds)

    def rescale(self, plain: float) -> None:
        """Scale all costs to another speed of the machine: one row takes `plain` seconds now."""
        self._mean[_SPEED] = log(plain) - self._mean[1]
        self._tell()

    def pause(self) -> None:
        """Note that time has passed: the speed of the machine is unknown now."""
        self._variances[_SPEED] += _PAUSE**2
        self._ratios.pause()

    def practise(self) -> None:
        """Note that rounds follow in which single rows follow each other, as in plain decoding."""
        self.pause()
        self._ratios.practised = True

    def settle(self) -> None:
        """Note that many lengths were compared: the costs between them are known better now."""
        self._ratios.fill(self.verify)

    def learn(self, happened: Round, calls: int, extra: int) -> None:
        """Learn from a round. The draft model ran `calls` times, over `extra` tokens beyond one per call."""
        self._rounds += 1
        self._ratios.learn(len(happened.drafted), happened.verify_seconds, drafted=bool(calls or extra))
        self._variances += _DRIFTS
        if calls or extra:
            self._see(happened.draft_seconds, ((DRAFT, calls), (READ, extra)))
        self._see(happened.verify_seconds, ((len(happened.drafted) + 1, 1),))
        drafting = happened.draft_seconds if calls or extra else 0.0
        host = happened.seconds - happened.verify_seconds - drafting
        if isfinite(host) and host >= 0:
            gain = max(_HOST_GAIN, 1 / (self._rounds + 3))
            self.host += gain * min(host - self.host, 0.1 * self.verify[0])
        self._tell()

    def _see(self, seconds: float, parts: Sequence[tuple[int, int]]) -> None:
        """Learn from a call that took `seconds`. `parts` are (index in the state, count) pairs.

        An invalid duration is ignored.

        The logarithm of a sum is linearized: each part counts with its share (extended Kalman filter).
        """
        if not (isfinite(seconds) and seconds > 0):
            return
        own = self._own
        costs = [(place, count * exp(self._mean[place])) for place, count in parts if count]
        whole = sum(cost for _, cost in costs)
        towards = own[_SPEED].copy()
        for place, cost in costs:
            towards += own[place] * (cost / whole)
        expected = float(towards[_SPEED] + sum(towards[place] * cost for place, cost in costs) / whole)
        expected += self._noise
        surprise = log(seconds / whole) - float(self._mean[_SPEED])
        if abs(surprise) > _NONSENSE:
            return
        limit = _CLIP * sqrt(expected)
        counts = max(-limit, min(limit, surprise))
        self._mean += towards * (counts / expected)
        own -= np.multiply(towards[:, None], towards * ((counts / surprise if surprise else 1.0) / expected))
        self._stir(surprise - counts, [(_SPEED, 1.0), *((place, cost / whole) for place, cost in costs)])
        self._noise += _NOISE_GAIN * (self._noise / expected) ** 2 * (counts**2 - expected)
        self._noise = max(_LEAST_NOISE**2, min(_MOST_NOISE**2, self._noise))

    def _stir(self, excess: float, parts: Sequence[tuple[int, float]]) -> None:
        """Handle the excess of a surprise. The second one of a kind makes its possible causes uncertain."""
        again = any(self._surprised[place] * excess > 0 for place, _ in parts[1:])
        for place, share in parts:
            if again:
                self._variances[place] += (_STIR * share * min(abs(excess), _GREAT)) ** 2
            self._surprised[place] = excess

    def doubt(self) -> dict[int, float]:
        """Return the uncertainty of each ratio to one row, as in the constructor."""
        own = self._own
        of_one = self._variances + own[1, 1] - 2 * own[1]
        return {place: sqrt(max(0.0, float(of_one[place]))) for place in range(1, READ + 1)}

    def as_dict(self) -> dict[str, object]:
        verify = {str(rows): seconds for rows, seconds in enumerate(self.verify, 1)}
        doubt = {str(place): each for place, each in self.doubt().items()}
        return {
            "verify": verify,
            "draft": self.draft,
            "read": self.read,
            "host": self.host,
            "doubt": doubt,
        }

    @classmethod
    def from_dict(cls, stored: object) -> Costs:
        """Build the costs from the output of `as_dict`. Raises `ValueError` if it is invalid."""
        match stored:
            case {
                "verify": dict() as verify,
                "draft": float(draft),
                "read": float(read),
                "host": float(host),
                "doubt": dict() as doubt,
            }:
                if all(isinstance(each, float) for each in (*verify.values(), *doubt.values())):
                    rows = {int(rows): seconds for rows, seconds in verify.items()}
                    return cls(rows, draft, read, host, {int(place): each for place, each in doubt.items()})
        raise ValueError("these are no costs")


_CLIP, _STIR, _GREAT = 2.0, 0.25, 2.0
"""Standard deviations that a surprise may count. Share of its excess that makes doubt. Largest excess."""
_NONSENSE = 7.0
"""A surprise by a factor of a thousand, as a logarithm, is no duration of a call: the machine slept."""
_NOISE, _LEAST_NOISE, _MOST_NOISE, _NOISE_GAIN = 0.1, 0.03, 0.3, 0.02
"""Noise of a single duration, as a factor's logarithm: at first, at least, at most. Speed of its learning."""
_PAUSE, _SPEED_DRIFT, _RATIO_DRIFT = 0.3, 0.05, 0.002
"""Drift of the speed in a pause and in a round, and of a ratio in a round, as logarithms."""
_OPTIMISM = 0.35
"""Standard deviations that a cost may be below its estimate in `least`."""
_UNSURE = 0.1
"""A ratio with less doubt than this, in addition to the noise of durations, is known."""
_FAR = 1.3
"""Kernels differ: three rows may cost more than four, but not by this factor."""
_NO_IDEA = 1.0
"""The doubt of a ratio between measured ones, where neighbors can tell it better."""
_SURE = 0.1
"""A ratio with less doubt than this was seen many times."""
_HOST_GAIN = 0.05
"""The weight of a round in `host`, at least."""
_DRIFTS = np.array([_SPEED_DRIFT**2] + [_RATIO_DRIFT**2] * READ)
_MEASURED, _BETWEEN, _APART = 0.2, 0.2, 0.02
"""Doubt of a measured ratio, of an unmeasured one, and for each row of distance to a measured one."""
_KINSHIP, _REACH = 0.9, 4.0
"""Correlation of the errors of neighboring numbers of rows, and the rows over which it falls to a third."""


def _plausible(measured: Mapping[int, float], doubt: Mapping[int, float]) -> dict[int, float]:
    """Return `measured`, with the median of itself and its neighbors in place of each implausible figure.

    More rows hardly ever cost much less, so a figure that both neighbors contradict by far is an error.
    """
    known, found = sorted(measured), dict(measured)
    for low, rows, high in zip(known, known[1:], known[2:], strict=False):
        usual = median((measured[low], measured[rows], measured[high]))
        if doubt.get(rows, _MEASURED) > _SURE and not 1 / _FAR < measured[rows] / usual < _FAR:
            found[rows] = usual
    if doubt.get(1, _MEASURED) > _SURE:
        found[1] = min(found.values())
    return found


def _doubts(measured: Mapping[int, float], doubt: Mapping[int, float]) -> list[float]:
    """Return the doubt of each ratio."""
    found = []
    for rows in range(1, _ROWS + 1):
        away = min(abs(rows - other) for other in measured)
        found.append(doubt.get(rows, _MEASURED if not away else _BETWEEN + _APART * away))
    return [*found, doubt.get(DRAFT, _MEASURED), doubt.get(READ, _MEASURED)]


def _covariance(doubts: Sequence[float]) -> _Vector:
    """Return the covariance of a state with these doubts of the ratios and an unknown speed."""
    places = np.arange(len(doubts))
    alike = _KINSHIP * np.exp(-np.abs(places[:, None] - places) / _REACH)
    alike[_ROWS:] = alike[:, _ROWS:] = 0.0
    np.fill_diagonal(alike, 1.0)
    found = np.zeros((len(doubts) + 1,) * 2)
    found[1:, 1:] = alike * np.outer(doubts, doubts)
    found[_SPEED, _SPEED] = _PAUSE**2
    return found


def _filled(measured: Mapping[int, float]) -> list[float]:
    """Return seconds for every number of rows, from some: a line between neighbors, but a step stays a step.

    A stretch that rises far more steeply than the whole table hides a change of kernel. Its place is unknown,
    so all rows inside the stretch count as much as its end.
    """
    known = sorted(measured)
    last = known[-1]
    usual = (measured[last] - measured[1]) / max(last - 1, 1)
    if last <= LONGEST:
        measured = {**measured, _ROWS: measured[last] + max(usual, 0.0) * (_ROWS - last)}
        known.append(_ROWS)
    table = [measured[1]]
    for low, high in pairwise(known):
        slope = (measured[high] - measured[low]) / (high - low)
        step = slope > 2 * usual and measured[high] > 1.2 * measured[low]
        table += [
            measured[high] if step else measured[high] - slope * (high - m) for m in range(low + 1, high + 1)
        ]
    return table[:_ROWS]
