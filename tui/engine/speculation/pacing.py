"""How far to ride ahead: the pace measures what drafting costs and brings, and decides every round anew.

A round that verifies m rows (m - 1 proposed tokens and the last token of the context) takes
v(m) + c * drafted + h seconds and yields 1 + sum over i of P(the first i are accepted) tokens. `Auto` seeks
the most tokens per second. Proposing nothing is a legal choice: it is plain decoding.

- Between rounds: the length whose expected rate is best, from the acceptance by position.
- Inside a round a token is worth w seconds, the time a token takes at the best rate known. One more row is
  verified while w * P(it is accepted) pays for it, looking ahead over flat stretches and steps of v. A
  threshold of this form is optimal (SpecDec++, arXiv 2405.19715); ours follows from measured costs.
- A token that was proposed but not worth verifying is compared with the main model's own choice all the
  same. A proposer that is switched off is thus judged without a dear row.

This module reads no clock, knows no model and no text: durations come from the rounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import exp, isfinite, log
from operator import mul

from .loop import Round

LONGEST = 16
"""Most tokens in a proposal."""


SLICE = 512
"""Most tokens that a draft model reads in one round: between rounds an answer can be stopped."""


class Draft:
    """A proposal of at most so many tokens, whatever they cost."""

    def __init__(self, length: int) -> None:
        self._length = length
        self.tokens: list[int] = []
        self.looked_up = 0

    def may_read(self, unread: int) -> int:
        return min(unread, SLICE) if self.wants_more() else 0

    def wants_more(self) -> bool:
        return len(self.tokens) < self._length

    def add(self, token: int, confidence: float, *, looked_up: bool = False) -> bool:
        if not self.wants_more():
            return False
        self.tokens.append(token)
        self.looked_up += looked_up
        return True


class Always:
    """The same draft length in every round."""

    def __init__(self, length: int) -> None:
        self.length = length

    def start(self) -> None:
        pass

    def plan(self, room: int) -> Draft:
        return Draft(min(self.length, room))

    def observe(self, happened: Round) -> None:
        pass


class Costs:
    """What a round costs on this machine, in seconds: measured once, then kept true by every round.

    The live estimates are running means of log(seen / expected). A surprise counts at most `_CLIP`, so a
    busy moment or a jump of the clock moves them little, and a duration that is no positive number not
    at all. A longer context makes all of v dearer: one factor for all rows, with a slower correction
    for each.
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
        self.draft, self.read, self.host = draft, read, host
        self._rounds = 0
        self._used = [0.0] * (LONGEST + 1)

    @property
    def plain(self) -> float:
        """Seconds of a round that proposes nothing."""
        return self.verify[0] + self.host

    def learn(self, happened: Round, calls: int, extra: int) -> None:
        """The draft model ran `calls` times, over `extra` tokens beyond one a call."""
        self._rounds += 1
        row = len(happened.drafted)
        gain = max(_GAIN, 1 / (self._rounds + 3))
        surprise = _surprise(happened.verify_seconds, self.verify[row])
        if surprise:
            self._correct(row, gain, surprise)
        reading = self.read * extra
        if extra >= 16:
            self.read *= exp(2 * gain * _surprise(happened.draft_seconds - self.draft * calls, reading))
        elif calls:
            self.draft *= exp(gain * _surprise(happened.draft_seconds - reading, self.draft * calls))
        drafting = happened.draft_seconds if calls or extra else 0.0
        host = happened.seconds - happened.verify_seconds - drafting
        if isfinite(host) and host >= 0:
            self.host += gain * min(host - self.host, 0.1 * self.verify[0])

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


_CLIP, _GAIN, _ROW_GAIN, _SETTLED = 0.3, 0.05, 0.06, 30


def _surprise(seen: float, expected: float) -> float:
    """log(seen / expected), clipped; 0 if `seen` is no duration."""
    ratio = seen / expected
    if not (isfinite(ratio) and ratio > 0):
        return 0.0
    return max(-_CLIP, min(_CLIP, log(ratio)))


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


class Weighed:
    """A proposal that weighs each token against its cost."""

    def __init__(self, pace: Auto, room: int) -> None:
        self.tokens: list[int] = []
        self.looked_up = 0
        self.offers: list[tuple[int, int, bool, float]] = []
        """All tokens that proposers came up with, sent to the main model or not: place, token, looked up,
        confidence."""
        self.runs = 0
        """How often the draft model ran."""
        self.extra = 0
        """The tokens that it read beyond one a run."""
        self._pace = pace
        self._limit = min(room, LONGEST)
        self._survival = self._expected = 1.0
        self._unread = 1
        self._verify, self._draft = pace.costs.verify, pace.costs.draft
        self._hazards = pace.acceptance.hazards

    def may_read(self, unread: int) -> int:
        allowed = self._pace.may_read(unread)
        if allowed < unread:
            self.runs, self.extra = int(allowed > 0), max(0, allowed - 1)
            return allowed
        self._unread = unread
        return unread if self.wants_more() else 0

    def wants_more(self) -> bool:
        place = len(self.tokens) - self.looked_up
        if len(self.tokens) >= self._limit:
            return False
        if self._pace.probing and not self.runs:
            return True
        return self._pays(self._survival * self._hazards[place], place + 1, self._draft, self._draft)

    def add(self, token: int, confidence: float, *, looked_up: bool = False) -> bool:
        n = len(self.tokens)
        self.offers.append((n, token, looked_up, confidence))
        if looked_up:
            pays = self._add_found(self._pace.lookup.chance(confidence))
        else:
            if not self.runs:
                self.extra = self._unread - 1
            self.runs += 1
            survival = self._survival * self._pace.draft.chance(confidence)
            pays = n < self._limit and self._pays(survival, n + 1 - self.looked_up, 0.0, self._draft)
            if pays:
                self._survival = survival
        if pays:
            self.tokens.append(token)
            self.looked_up += looked_up
            self._expected += self._survival
        return pays

    def _add_found(self, chance: float) -> bool:
        """Whether a found token with this chance is worth its row, those behind it being as likely.

        A copy goes on for many rounds: its own rate is the one that a further row must not spoil.
        """
        n, verify, survival = len(self.tokens), self._verify, self._survival * chance
        worth = min(self._pace.worth, (verify[n] + self._pace.costs.host) / self._expected)
        value, term = 0.0, survival
        for row in range(n + 1, self._limit + 1):
            value += term * worth
            if value > verify[row] - verify[n]:
                self._survival = survival
                return True
            term *= chance
        return False

    def _pays(self, survival: float, place: int, spent: float, each: float) -> bool:
        """Whether some longer draft is worth more than it costs from here.

        Its first further token is accepted with the chance `survival` and costs `spent` seconds to draft. The
        others are the draft's from `place` on, and cost `each`.
        """
        verify, worth, n = self._verify, self._pace.worth, len(self.tokens)
        spent -= verify[n]
        value = survival * worth
        if value > spent + verify[n + 1]:
            return True
        for row in range(n + 2, self._limit + 1):
            survival *= self._hazards[place]
            place += 1
            value += survival * worth
            spent += each
            if value > spent + verify[row]:
                return True
        return False


class Probes:
    """When a draft model that does not pay may try again. All amounts count in rounds of plain decoding.

    The wait doubles from one failure to the next, up to 1024 tokens. A probe pays for all that it has the
    draft read, from a purse, which is filled by what drafting saved and by a little of the plain time. While
    it is full, the waits stay short. A probe that costs next to nothing need not wait.
    """

    def __init__(self) -> None:
        self._purse = _CREDIT
        self._since = 0
        self._wait = _SHORTEST_WAIT
        self._left = 0

    @property
    def running(self) -> bool:
        return self._left > 0

    def stop(self) -> None:
        self._left = 0

    def begin(self, price: float) -> bool:
        """Whether a probe at this price may begin now; it is paid then."""
        wait = min(self._wait, 32) if price <= self._purse / 8 else max(self._wait, 32)
        if price > _SHARE * self._since and not (self._since >= wait and price <= self._purse):
            return False
        self._purse -= price
        self._left = 3
        return True

    def passed(self, tokens: int, saved: float) -> None:
        """A round brought `tokens` tokens; with drafting it saved `saved`, and 0.0 stands for plain."""
        self._since += tokens
        self._purse = min(_PURSE, self._purse + (0.25 * saved if saved else 0.01))

    def judged(self, *, pays: bool, right: bool) -> None:
        """The draft's tokens of a round: whether drafting pays by now, whether all of them were right."""
        self._left = self._left - 1 if right and not pays else 0
        if pays:
            self._since, self._wait = 0, _SHORTEST_WAIT
        elif not self._left:
            self._since, self._wait = 0, min(1024, 2 * self._wait)


_CREDIT, _PURSE, _SHARE, _SHORTEST_WAIT = 5.0, 40.0, 0.015, 8


class Auto:
    """The pace that measures. It lives as long as the pair: what one answer taught serves the next."""

    def __init__(
        self,
        costs: Costs,
        acceptance: Acceptance | None = None,
        draft: Calibration | None = None,
        lookup: Calibration | None = None,
    ) -> None:
        self.costs = costs
        self.acceptance = acceptance or Acceptance()
        self.draft = draft or Calibration()
        self.lookup = lookup or Calibration()
        self.why_not = "no draft yet"
        """Why the draft model has nothing to do, in a few words; empty if it drafts."""
        self._probes = Probes()
        self._proposal = Weighed(self, 0)
        self._tokens, self._usual_tokens = 0, 256.0
        self._catching_up = False
        self._choose()

    def start(self) -> None:
        """An answer begins: its first token waits for no draft."""
        if self._tokens:
            self._usual_tokens += 0.2 * (self._tokens - self._usual_tokens)
        self._tokens = 0
        self._catching_up = False
        self._probes.stop()
        self.why_not = "first token"
        self._appraise()

    def plan(self, room: int) -> Weighed:
        self._proposal = Weighed(self, room)
        return self._proposal

    def observe(self, happened: Round) -> None:
        costs, proposal, tokens = self.costs, self._proposal, happened.tokens
        costs.learn(happened, proposal.runs, proposal.extra)
        judged: tuple[list[tuple[float, bool]], list[tuple[float, bool]]] = ([], [])
        for place, token, looked_up, confidence in proposal.offers:
            if place < len(tokens):
                judged[looked_up].append((confidence, tokens[place] == token))
        self.draft.learn(judged[False])
        self.lookup.learn(judged[True])
        drafted = len(judged[False])
        right = sum(agreed for _, agreed in judged[False])
        seconds = costs.verify[len(happened.drafted)] + costs.host + costs.draft * proposal.runs
        saved = len(tokens) - (seconds + costs.read * proposal.extra) / costs.plain
        self._tokens += len(tokens)
        self._probes.passed(len(tokens), saved if proposal.runs else 0.0)
        if drafted:
            self.acceptance.learn(right, right < drafted)
        self._choose()
        if drafted:
            self._probes.judged(pays=self.pays, right=right == drafted)

    def _choose(self) -> None:
        """The best length of a draft by what is known now; the rates in tokens per second."""
        costs = self.costs
        survival = tokens = 1.0
        self.plain_rate = self.drafted_rate = 1 / costs.plain
        self.length = 0
        for k, hazard in enumerate(self.acceptance.hazards, 1):
            survival *= hazard
            tokens += survival
            rate = tokens / (costs.verify[k] + costs.host + k * costs.draft)
            if rate > self.drafted_rate:
                self.drafted_rate, self.length = rate, k
        self.pays = self.drafted_rate > _WORTHWHILE * self.plain_rate
        self._appraise()

    @property
    def drafts(self) -> bool:
        """Whether the draft model is at work."""
        return not self.why_not

    @property
    def probing(self) -> bool:
        return self._probes.running and not self.pays

    def may_read(self, unread: int) -> int:
        """How many of `unread` tokens the draft model may read in this round."""
        self.why_not, allowed = self._reading(unread)
        self._appraise()
        return allowed

    def _appraise(self) -> None:
        self.worth = 1 / (self.drafted_rate if self.drafts and self.pays else self.plain_rate)
        """The seconds that a token takes at the best rate to be had now."""

    def _reading(self, unread: int) -> tuple[str, int]:
        costs = self.costs
        if not self._tokens:
            return "first token", 0
        reading = costs.read * (unread - 1)
        if (
            not self.pays
            and not self.probing
            and not self._probes.begin((costs.draft + reading) / costs.plain)
        ):
            return "does not pay", 0
        slice_ = max(16, min(512, int(costs.verify[0] / costs.read)))
        if unread <= slice_:
            self._catching_up = False
            return "" if self.pays else "trying", unread
        saving = (1 / self.plain_rate - 1 / self.drafted_rate) * self._usual_tokens
        if self.pays and not self._catching_up and 2 * reading > saving:
            return "too far behind", 0
        self._catching_up = True
        return "reading", slice_

    def as_dict(self) -> dict[str, object]:
        """All that is known of the pair, for a file."""
        return {
            "costs": self.costs.as_dict(),
            "acceptance": self.acceptance.as_list(),
            "draft": self.draft.as_list(),
            "lookup": self.lookup.as_list(),
        }

    @classmethod
    def from_dict(cls, stored: object) -> Auto:
        """What `as_dict` gave. `ValueError` if it makes no sense."""
        match stored:
            case {"costs": costs, "acceptance": list(belief), "draft": list(draft), "lookup": list(lookup)}:
                try:
                    known = Acceptance(belief), Calibration(draft), Calibration(lookup)
                except TypeError as error:
                    raise ValueError("this is no knowledge of a pair") from error
                return cls(Costs.from_dict(costs), *known)
        raise ValueError("this is no knowledge of a pair")


_WORTHWHILE = 1.01
