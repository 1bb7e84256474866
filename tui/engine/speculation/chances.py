"""The chance that a proposal is right, learned from the rounds before.

- `Acceptance`: the chance that the next token of a draft model is accepted, position by position.
- `Calibration`: turns a proposer's own confidence in a token into a chance.
- `Skill`: both, for the two proposers of a pair.

They forget slowly and follow the text from one passage to the next. This module decides nothing and knows no
time.

Sources: Rabiner, "A tutorial on hidden Markov models", 1989, for the belief (the forward algorithm); Ayer and
others, "An empirical distribution function for sampling with incomplete information", 1955, for pooling
adjacent violators; Zadrozny, Elkan, "Transforming classifier scores into accurate multiclass probability
estimates", 2002, for its use in calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from operator import mul, truediv
from typing import NamedTuple

LONGEST = 16
"""Most tokens in a proposal."""


class Acceptance:
    """The chance that a drafted token is accepted now: a belief over `_RATES`, updated by Bayes' rule.

    Before each round the rate may have jumped to any other (a hidden Markov model). So the belief is sharp
    while the text stays alike, and turns within a few tokens when the text changes. A slow correction for
    each position follows. A round that stopped at i says nothing about i + 1.
    """

    def __init__(self, belief: Sequence[float] | None = None) -> None:
        """`belief` is a weight for each of `_RATES`, from `as_list`. Raises `ValueError` if it is invalid."""
        old = _PRIOR if belief is None else belief
        if len(old) != len(_RATES) or not all(0 <= w <= 1 for w in old) or abs(sum(old) - 1) > 0.01:
            raise ValueError("this is no belief about acceptance")
        self._weights = [(w + p) / 2 for w, p in zip(old, _PRIOR, strict=True)]
        self._right = [_POSITION_TRIALS] * LONGEST
        self._expected = [_POSITION_TRIALS] * LONGEST
        self._corrections = [1.0] * LONGEST
        self._forecast()

    def blend(self, share: float) -> None:
        """Mix in the prior. `share` is the chance that the rate changed while nothing was seen."""
        self._weights = [(1 - share) * w + share * p for w, p in zip(self._weights, _PRIOR, strict=True)]
        self._forecast()

    def learn(self, accepted: int, rejected: bool) -> None:
        """Learn that the first `accepted` tokens of a draft were right; if `rejected`, the next was wrong."""
        right, expected = self._right, self._expected
        for i in range(accepted + rejected):
            right[i] += _POSITION_GAIN * (_POSITION_TRIALS - right[i]) + (i < accepted)
            expected[i] += _POSITION_GAIN * (_POSITION_TRIALS - expected[i]) + self._uncorrected[i]
            self._corrections[i] = right[i] / expected[i]
        weights = list(map(mul, self._weights, _POWERS[accepted]))
        if rejected:
            weights = list(map(mul, weights, _REJECTED))
        scale = (1 - _JUMP) / sum(weights)
        self._weights = [w * scale + jump for w, jump in zip(weights, _JUMPS, strict=True)]
        self._forecast()

    def expected_saving(self, rounds: Sequence[float]) -> float:
        """Return the seconds that drafting would save for each token if the rate were known.

        `rounds` are the seconds of rounds with 0, 1, ... `LONGEST` drafted tokens. Each rate has its own best
        length, and counts as much as it is believed: the expected value of perfect information (Howard,
        "Information value theory", 1966).
        """
        best = (min(map(truediv, rounds, tokens)) for tokens in _TOKENS)
        seconds: float = sum(map(mul, self._weights, best))
        return rounds[0] - seconds

    def _forecast(self) -> None:
        # Exact at 1, 2, 4, 8 and 16 tokens; between them the chance is taken to be even.
        weights, before = self._weights, 1.0
        chances: list[float] = []
        for places, powers in _STAGES:
            survival = sum(map(mul, weights, powers))
            chances += [(survival / before) ** (1 / places)] * places
            before = survival
        self._uncorrected = chances
        self.chances: list[float] = list(map(min, map(mul, chances, self._corrections), _CERTAIN))
        """P(token i is accepted, given that all before it were)."""

    def as_list(self) -> list[float]:
        return list(self._weights)


_RATES = [1 / (1 + exp(-x / 2)) for x in range(-6, 10)]
"""The rates of acceptance that are told apart: 5 to 99 per cent, at equal steps of the log odds."""
_REJECTED = [1 - rate for rate in _RATES]
_POWERS = [[rate**i for rate in _RATES] for i in range(LONGEST + 1)]
_TOKENS = [[sum(rate**i for i in range(rows)) for rows in range(1, LONGEST + 2)] for rate in _RATES]
"""For each rate, the mean number of tokens of a round with 0, 1, ... drafted tokens."""
_STAGES = [(1, _POWERS[1]), (1, _POWERS[2]), (2, _POWERS[4]), (4, _POWERS[8]), (8, _POWERS[16])]
"""Number of tokens of each stage, and the chance of each rate to accept all tokens up to its end."""
_CERTAIN = [0.999] * LONGEST
"""Largest chance: no token is certain."""
_PRIOR = [x / 72 for x in (1, 2, 3, 4, 5, 6, 7, 8, 8, 7, 6, 5, 4, 3, 2, 1)]
_JUMP, _NEW_TEXT = 0.003, 0.5
"""The chance that the rate changes from one round to the next, and from one answer to the next."""
_JUMPS = [_JUMP * weight for weight in _PRIOR]
_POSITION_TRIALS, _POSITION_GAIN = 30.0, 0.005
"""Tokens that the correction of a position is worth at first. The share of its past that a token replaces."""


class Calibration:
    """Turns a proposer's confidence into a chance of acceptance, in ten bins.

    The bins are counts that forget slowly, made monotone by pooling adjacent violators. One shift of the log
    odds, common to all bins and updated like `Acceptance`, follows the text from one passage to the next. If
    the confidence says nothing, the shift does all the work.
    """

    def __init__(self, counts: Sequence[Sequence[float]] | None = None) -> None:
        """`counts` are ten pairs of accepted and tried tokens. Raises `ValueError` if they are invalid."""
        self._counts = [list(pair) for pair in ([(0.0, 0.0)] * _BINS if counts is None else counts)]
        possible = all(len(pair) == 2 and 0 <= pair[0] <= pair[1] <= _MOST for pair in self._counts)
        if len(self._counts) != _BINS or not possible:
            raise ValueError("these are no counts of accepted and tried tokens")
        self._shifts = list(_SHIFT_PRIOR)
        self._shift = 1.0
        self._rounds = 0
        self._refit()

    def chance(self, confidence: float) -> float:
        """Return the chance that the main model agrees."""
        odds = self._odds[_bin(confidence)] * self._shift
        return odds / (1 + odds)

    def learn(self, judged: Sequence[tuple[float, bool]]) -> None:
        """Learn from one round. Each token is a pair: its confidence, and whether the main model agreed."""
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
        """For each bin, P(disagrees) and P(agrees) under each shift."""

    def as_list(self) -> list[list[float]]:
        return [list(pair) for pair in self._counts]


_BINS, _BIN_TRIALS, _KEEP = 10, 2.0, 0.99
"""Number of bins, tokens that the prior of each is worth, and the share of a count that a token keeps."""
_MOST = 1 / (1 - _KEEP) + 1
"""Counts never reach this: the sum of the kept shares is below it."""
_BIN_PRIOR = [_BIN_TRIALS * (b + 0.5) / _BINS for b in range(_BINS)]
_SHIFT_LOGS = [-4.0, -2.5, -1.2, 0.0, 1.2, 2.5, 4.0]
_SHIFTS = [exp(x) for x in _SHIFT_LOGS]
_SHIFT_PRIOR = [0.02, 0.04, 0.14, 0.6, 0.14, 0.04, 0.02]
"""The chance of each shift of the log odds in `_SHIFT_LOGS` before a text is known."""


def _bin(confidence: float) -> int:
    """Return the bin of a confidence. NaN belongs to the lowest bin."""
    if 0 < confidence < 1:
        return int(confidence * _BINS)
    return _BINS - 1 if confidence >= 1 else 0


class Guess(NamedTuple):
    """A token that a proposer found, taken or not."""

    place: int
    """Number of proposed tokens before it."""
    token: int
    confidence: float


class Skill:
    """The skill of both proposers, learned from all their guesses.

    A guess is compared with the main model's own choice at its place, whether it was verified or not. So the
    lookup is judged where the draft proposed, and a draft that is switched off is judged without the cost of
    a row.
    """

    def __init__(
        self,
        acceptance: Acceptance | None = None,
        draft: Calibration | None = None,
        lookup: Calibration | None = None,
    ) -> None:
        self.acceptance = acceptance or Acceptance()
        self.draft = draft or Calibration()
        self.lookup = lookup or Calibration()

    def start(self) -> None:
        """Begin an answer: its text may be of another kind."""
        self.acceptance.blend(_NEW_TEXT)

    @property
    def expected_of_draft(self) -> float:
        """The chance of the draft's next token, before the draft is asked."""
        return self.acceptance.chances[0]

    def learn(
        self, tokens: Sequence[int], found: Sequence[Guess], drafted: Sequence[Guess], *, sure: bool
    ) -> list[bool]:
        """Learn from a round with the text `tokens`. Return which draft tokens were right, if known.

        `found` are the tokens of one copy of the lookup. Without `sure` the draft's confidences say nothing.
        """
        judged = _judged(tokens, drafted)
        right = [agreed for _, agreed in judged]
        if judged:
            self.acceptance.learn(sum(right), not all(right))
            if sure:
                self.draft.learn(judged)
        copied = _judged(tokens, found)
        wrong = next((place for place, (_, agreed) in enumerate(copied) if not agreed), len(copied))
        self.lookup.learn(copied[: wrong + 1])
        return right

    def as_dict(self) -> dict[str, object]:
        return {
            "acceptance": self.acceptance.as_list(),
            "draft": self.draft.as_list(),
            "lookup": self.lookup.as_list(),
        }

    @classmethod
    def from_dict(cls, stored: object) -> Skill:
        """Build a skill from the output of `as_dict`. Raises `ValueError` if it is invalid."""
        match stored:
            case {"acceptance": list(belief), "draft": list(draft), "lookup": list(lookup)}:
                try:
                    return cls(Acceptance(belief), Calibration(draft), Calibration(lookup))
                except TypeError as error:
                    raise ValueError("this is no knowledge of proposers") from error
        raise ValueError("this is no knowledge of proposers")


def _judged(tokens: Sequence[int], guesses: Sequence[Guess]) -> list[tuple[float, bool]]:
    """Return the guesses at known places, each as its confidence and whether it was right."""
    return [(sure, tokens[place] == token) for place, token, sure in guesses if place < len(tokens)]
