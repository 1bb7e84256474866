"""Turns one row of logits into one token: the sampling chain and the shared noise.

The chain has llama.cpp's order: logit bias, penalties, top-k, top-p, min-p, temperature. The result is a
distribution p, and the choice is `argmax(log p + g)` with g standard Gumbel noise: a draw from exactly p (the
Gumbel-max trick).

The noise is a hash of (seed, index of the token in the answer, token id). It is the same for every model. So
the draft model and the main model share it at each place, and mostly choose the same token even at a high
temperature. The main model chooses the same token whether it sees the place alone or in a batch behind
drafted tokens. At temperature 0 the choice is the plain argmax.

A constraint, such as a grammar, is asked about the choice alone. If it forbids the choice, the row is cut
down to the allowed tokens, and the choice is made again with the same noise. A constraint, too, knows only
the tokens before a place.

Sources: Gumbel, "Statistical theory of extreme values", 1954, for the trick; Daliri, Musco, Suresh, "Coupling
without communication and drafter-invariant speculative decoding", arXiv 2408.07978, for the shared noise.
With it, two models with the distributions p and q choose the same token with a chance of at least
(1 - D) / (1 + D), where D is the total variation distance of p and q.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, inf, isfinite, isnan, log
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .loop import NO_PICK, Pick

Logits = NDArray[np.float32]
"""One row: a score for each token of the vocabulary. -inf forbids a token."""


class InvalidLogits(ArithmeticError):
    """The best score of a row is not a finite number; `index` counts the answer's tokens from 0."""

    def __init__(self, index: int) -> None:
        super().__init__(f"invalid numbers at token {index + 1}")
        self.index = index


@dataclass(frozen=True, slots=True)
class Chain:
    """The settings of the sampling chain. The defaults are llama.cpp's."""

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    penalty_last_n: int = 64
    bias: Mapping[int, float] = field(default_factory=dict)
    """Values added to the logits of these token ids; -inf forbids a token."""

    @property
    def penalises(self) -> bool:
        """Whether penalties are on: they make a choice depend on the tokens before it, beyond the logits."""
        off = self.repeat_penalty == 1.0 and self.presence_penalty == self.frequency_penalty == 0.0
        return not off and self.penalty_last_n > 0


class Constraint(Protocol):
    """A rule for the next token of an answer."""

    met_limit: bool
    """Whether the rule was too much work somewhere. No token may follow there."""

    def allowed(self, answer: Sequence[int], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of the tokens `ids` may follow the tokens of `answer`.

        `answer` may end in drafted tokens that were never allowed. The result behind one does not count.
        """
        ...


class Sampler:
    """Chooses the tokens of one answer. Draft and main model each get one with the same arguments."""

    def __init__(
        self, chain: Chain, seed: int, start: int, *,
        confident: bool = False, constraint: Constraint | None = None,
    ) -> None:  # fmt: skip
        """`start` is the index, in the context, of the answer's first token.

        With `confident`, the probability of a pick at temperature 0 is the model's own; otherwise it is 1.
        """
        self._chain = chain
        self._seed = seed
        self._start = start
        self._confident = confident
        self._constraint = constraint
        self._bias_ids = np.fromiter(chain.bias.keys(), np.int64, len(chain.bias))
        self._bias = np.fromiter(chain.bias.values(), np.float32, len(chain.bias))

    @property
    def chain(self) -> Chain:
        return self._chain

    @property
    def start(self) -> int:
        """The index, in the context, of the answer's first token."""
        return self._start

    @property
    def seed(self) -> int:
        return self._seed

    @property
    def constraint(self) -> Constraint | None:
        return self._constraint

    @property
    def is_plain(self) -> bool:
        """Whether it chooses by its arguments alone."""
        return type(self).pick is Sampler.pick

    @property
    def met_limit(self) -> bool:
        """Whether the constraint was too much work somewhere."""
        return self._constraint is not None and self._constraint.met_limit

    @property
    def takes_best(self) -> bool:
        """Whether a pick is just the best score of its row. A backend may then find it on the device."""
        return self.chooses_best and not self._confident

    @property
    def chooses_best(self) -> bool:
        """Whether the token of a pick is just the best of its row; its probability may still be computed."""
        changed = self._chain.bias or self._chain.penalises or self._constraint is not None
        return self._chain.temperature == 0 and not changed and self.is_plain

    def pick(self, logits: Logits, tokens: Sequence[int], length: int) -> Pick:
        """Choose the token that follows `tokens[:length]`, or `NO_PICK`. `logits` is read, never written.

        Raises `InvalidLogits` if the row holds NaN, or no finite score.
        """
        index = length - self._start
        scores = self._adjusted(logits, tokens, length)
        pick = self._choice(scores, index)
        if self._constraint is None:
            return pick
        answer = tokens[self._start : length]
        if self._constraint.allowed(answer, np.array([pick.token]))[0]:
            return pick
        scores = self._allowed(scores, answer, self._constraint)
        return self._choice(scores, index) if isfinite(scores.max()) else NO_PICK

    def _allowed(self, scores: Logits, answer: Sequence[int], constraint: Constraint) -> Logits:
        """Return the row with -inf for forbidden tokens, and for tokens with too low a score to be chosen.

        The best scores are asked about first, and the others only if too few are allowed: a vocabulary is
        wide.
        """
        wanted = 1 if self._chain.temperature == 0 else self._chain.top_k
        for count in (_LIKELY, 0):
            ids = _best(scores, count)
            ids = ids[constraint.allowed(answer, ids)]
            if 0 < wanted <= ids.size:
                break
        allowed = np.full_like(scores, -inf)
        allowed[ids] = scores[ids]
        return allowed

    def _choice(self, scores: Logits, index: int) -> Pick:
        if self._chain.temperature == 0:
            best = int(scores.argmax())  # the first NaN, if there is one
            if not isfinite(scores[best]):
                raise InvalidLogits(index)
            return Pick(best, _sureness(scores) if self._confident else 1.0)
        ids, log_p = self.distribution(scores)
        if not log_p.size:
            raise InvalidLogits(index)
        if log_p.size == 1:
            return Pick(int(ids[0]), 1.0)
        winner = int((log_p + gumbel(self._seed, index, ids)).argmax())
        return Pick(int(ids[winner]), exp(log_p[winner]))

    def distribution(self, scores: Logits) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the tokens that the sampling chain keeps, the best first, and their log-probabilities.

        `scores` is a row after logit bias and penalties. Both are empty if no score is finite.
        """
        ids = _best(scores, self._chain.top_k)
        log_p = self._truncated(scores[ids])
        return ids[: log_p.size], log_p

    def _adjusted(self, logits: Logits, tokens: Sequence[int], length: int) -> Logits:
        """Return the row after logit bias and penalties; the row itself if there are none."""
        chain = self._chain
        if not chain.bias and not chain.penalises:
            return logits
        scores = logits.copy()
        scores[self._bias_ids] += self._bias
        if chain.penalises:
            window = np.asarray(tokens[max(0, length - chain.penalty_last_n) : length], np.int64)
            ids, counts = np.unique(window, return_counts=True)
            seen = scores[ids]
            seen = np.where(seen > 0, seen / chain.repeat_penalty, seen * chain.repeat_penalty)
            scores[ids] = seen - counts * chain.frequency_penalty - chain.presence_penalty
        return scores

    def _truncated(self, scores: Logits) -> NDArray[np.float64]:
        """Return the log-probabilities of the scores that top-p and min-p keep, after temperature.

        `scores` begin with the best. The result is empty if there are none or the best is not finite.
        """
        chain = self._chain
        if not scores.size or not isfinite(scores[0]):
            return np.empty(0)
        relative = scores.astype(np.float64)
        relative -= relative[0]
        weights = np.exp(relative)
        kept = weights.size
        if chain.top_p < 1:
            mass = weights.cumsum()
            kept = int(mass.searchsorted(chain.top_p * mass[-1])) + 1
        if chain.min_p > 0:
            kept = min(kept, weights.size - int(weights[::-1].searchsorted(chain.min_p)))
        heated = relative[: max(kept, 1)] / chain.temperature
        heated -= log(np.exp(heated).sum())
        return heated


_FOLD = 64
"""Scores in a column, where the best ones are looked for."""
_LIKELY = 512
"""Number of the best scores that a constraint is asked about before it is asked about all."""
_RIVALS = 40
"""Number of candidates for the probability at temperature 0; others are too improbable to matter."""


def _sureness(scores: Logits) -> float:
    """Return the probability of the best token among the best `_RIVALS`, at temperature 1."""
    best = scores[_best(scores, _RIVALS)]
    return 1.0 / float(np.exp(best - best[0]).sum()) if best.size else 0.0


def _best(scores: Logits, k: int) -> NDArray[np.int64]:
    """Return the ids of the k best scores, best first; all ids if k is 0. Ties go to the lower id.

    The result is empty if the row holds NaN. It is exact, and fast for a wide row: the row is folded into
    columns of 64 scores. At least k scores reach the k-th largest column maximum, so each of the k best does,
    and few others. All of these are in the columns whose maxima reach it.
    """
    width = scores.size // _FOLD
    if not 0 < k < width:
        ids: NDArray[np.int64] = (-scores).argsort(kind="stable")
        return ids[: k or ids.size] if not isnan(scores[ids[-1]]) else ids[:0]
    folded, rest = scores[: width * _FOLD].reshape(_FOLD, width), scores[width * _FOLD :]
    maxima = folded.max(axis=0)
    largest = np.partition(maxima, width - k)[width - k :]  # the k-th first, NaN among them if there is any
    if isnan(largest.max()) or isnan(rest.max(initial=-inf)):
        return np.empty(0, np.int64)
    columns = (maxima >= largest[0]).nonzero()[0]
    rows, places = (folded.take(columns, axis=1) >= largest[0]).nonzero()
    ids = rows * width + columns[places]
    if rest.size:
        ids = np.concatenate((ids, (rest >= largest[0]).nonzero()[0] + width * _FOLD))
    best: NDArray[np.int64] = ids[(-scores[ids]).argsort(kind="stable")[:k]]
    return best


_MASK = (1 << 64) - 1
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_GOLDEN64, _FIRST64, _SECOND64 = np.uint64(_GOLDEN), np.uint64(_FIRST), np.uint64(_SECOND)
_S12, _S27, _S30, _S31 = (np.uint64(shift) for shift in (12, 27, 30, 31))


def gumbel(seed: int, index: int, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return standard Gumbel noise for each token id, at one place of one answer.

    The noise is counter-based: the value for an id depends only on (seed, index, id), through the SplitMix64
    finalizer (Steele, Lea, Flood, OOPSLA 2014).
    """
    key = _mixed(_mixed(seed + _GOLDEN) + (index + 1) * _GOLDEN)
    bits = ids.astype(np.uint64)
    bits *= _GOLDEN64
    bits += np.uint64(key)
    bits ^= bits >> _S30
    bits *= _FIRST64
    bits ^= bits >> _S27
    bits *= _SECOND64
    bits ^= bits >> _S31
    uniform = ((bits >> _S12) + 0.5) * 2.0**-52  # never 0 and never 1
    noise: NDArray[np.float64] = -np.log(-np.log(uniform))
    return noise


def _mixed(value: int) -> int:
    """Apply the SplitMix64 finalizer to the low 64 bits of an integer."""
    value &= _MASK
    value = ((value ^ (value >> 30)) * _FIRST) & _MASK
    value = ((value ^ (value >> 27)) * _SECOND) & _MASK
    return value ^ (value >> 31)
