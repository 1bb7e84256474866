"""The draft length policy: it measures the cost and the gain of drafting, and decides every round anew.

A round that verifies m rows (m - 1 proposed tokens and the last token of the context) takes
v(m) + c * drafted + h seconds and yields 1 + sum over i of P(the first i are accepted) tokens (see `loop`).
`AdaptiveLength` seeks the largest ratio of the two, the tokens per second. A round may propose nothing: that
is plain decoding.

- Between rounds, the policy takes the length with the best expected rate, from the acceptance by position.
  The cost of a call is uncertain until it was seen beside other calls, so each call counts with the least
  cost that it may have. A length that might be best is tried, and then its cost is known (optimism in the
  face of uncertainty; Lai, Robbins, "Asymptotically efficient adaptive allocation rules", 1985). While little
  is known about drafting beside plain decoding, some rounds compare the two early: rounds without drafts if
  drafting seems to pay, and rounds with some drafts if it does not.
- Inside a round, a token is worth w seconds, the time of a token at the best known rate: a ratio is largest
  where the difference, w * tokens - seconds, is largest (Dinkelbach, "On nonlinear fractional programming",
  1967). So one more row is verified while w * P(it is accepted) pays for it, looking ahead over flat
  stretches and steps of v. A threshold of this form is optimal (SpecDec++, arXiv 2405.19715); ours follows
  from measured costs.
- Before the draft's first round in an answer it must read the prompt. The time of that is compared with the
  saving that is possible in the rest of the answer: see `Acceptance.expected_saving`.
- A proposed token that is not worth verifying is still compared with the main model's own choice. So a
  proposer that is switched off is judged without the cost of a row.

This module reads no clock, knows no model and no text: durations come from the rounds.
"""

from __future__ import annotations

from math import inf
from typing import Literal

from .chances import LONGEST, Guess, Skill
from .estimates import Costs
from .loop import Round
from .proposals import FixedProposal

WhyNot = Literal["first token", "does not pay", "too far behind", "reading", "trying", ""]
"""The reason why the draft model is idle, or has only begun; empty if it drafts."""


class FixedLength:
    """The same draft length in every round, unless a round asks for another."""

    def __init__(self, length: int) -> None:
        self.length = length
        self._skill = Skill()
        self._plan = FixedProposal(0)

    def start(self, most: float = inf) -> None:
        pass

    def plan(self, room: int, length: int | None = None) -> FixedProposal:
        self._plan = FixedProposal(min(self.length if length is None else length, room), self._skill)
        return self._plan

    def observe(self, happened: Round) -> None:
        self._skill.learn(happened.tokens, self._plan.found, self._plan.drafted, sure=False)


class CostAwareProposal(FixedProposal):
    """A proposal that weighs each token against its cost."""

    def __init__(self, policy: AdaptiveLength, limit: int) -> None:
        super().__init__(limit, policy.skill)
        self._policy = policy
        self._survival = self._expected = 1.0
        self._verify, self._draft = policy.least
        self._chances = policy.skill.acceptance.chances
        self._trial = 0

    def may_read(self, unread: int) -> int:
        allowed = self._policy.may_read(unread) if self._limit else 0
        if self._policy.probing:
            self._trial = min(self._limit, self._policy.trial)
        return self._reads(unread, allowed)

    def wants_more(self) -> int:
        if not self._policy.probing:
            self._copy(self._skill.expected_of_draft - self._policy.forgone)
        place = len(self.tokens) - self.looked_up
        if len(self.tokens) >= self._limit:
            return 0
        if self._policy.probing and len(self.drafted) < max(1, self._trial):
            return 1
        return self._pays(self._survival * self._chances[place], place + 1, self._draft, self._draft)

    def _taken(self, guess: Guess) -> bool:
        chance = self._skill.draft.chance(guess.confidence)
        if guess.place < len(self.found) and self.found[guess.place].token == guess.token:
            chance = max(chance, self._skill.lookup.chance(self.found[guess.place].confidence))
        survival = self._survival * chance
        place = guess.place + 1 - self.looked_up
        if guess.place >= self._trial and not (
            guess.place < self._limit and self._pays(survival, place, 0.0, self._draft)
        ):
            return False
        self._count(survival)
        return super()._taken(guess)

    def _count(self, survival: float) -> None:
        """Count one more proposed token, which is accepted with this chance."""
        self._survival = survival
        self._expected += survival

    def _copies(self, chance: float) -> bool:
        """Whether a token of the lookup with this chance is worth its row, if those behind it are as likely.

        A copy goes on for many rounds, so a further row must not lower the rate of the copy itself.
        """
        if chance < _HOPELESS:
            return False
        n, verify, survival = len(self.tokens), self._policy.costs.verify, self._survival * chance
        worth = min(self._policy.worth, (verify[n] + self._policy.costs.host) / self._expected)
        value, term = 0.0, survival
        for row in range(n + 1, self._limit + 1):
            value += term * worth
            if value > verify[row] - verify[n]:
                self._count(survival)
                return True
            term *= chance
        return False

    def _pays(self, survival: float, place: int, spent: float, each: float) -> bool:
        """Whether any longer draft is worth more than its cost.

        Its first further token is accepted with the chance `survival` and costs `spent` seconds to draft. The
        others are the draft's tokens from `place` on, and cost `each` seconds.
        """
        verify, worth, n = self._verify, self._policy.worth, len(self.tokens)
        spent -= verify[n]
        value = survival * worth
        if value > spent + verify[n + 1]:
            return True
        for row in range(n + 2, self._limit + 1):
            survival *= self._chances[place]
            place += 1
            value += survival * worth
            spent += each
            if value > spent + verify[row]:
                return True
        return False


class ProbeSchedule:
    """The schedule of probes: when a draft model that does not pay may try again. The unit is a plain round.

    The wait doubles from one failure to the next, up to `_LONGEST_WAIT` tokens (exponential backoff). A probe
    pays for the tokens that the draft must read, from a budget. Drafting adds a part of the time that it
    saved to the budget, and a plain round adds a little. While the budget is large, the waits stay short. A
    probe that costs almost nothing need not wait.
    """

    def __init__(self) -> None:
        self._budget = _FIRST_BUDGET
        self._since = 0
        self._wait = _SHORTEST_WAIT
        self._left = 0

    @property
    def running(self) -> bool:
        return self._left > 0

    def start(self) -> None:
        """Begin an answer: a draft that failed in the last one may suit this one."""
        self._left = 0
        self._wait = min(self._wait, _NEXT_WAIT)

    def begin(self, cost: float, *, unsure: bool = False) -> bool:
        """Whether a probe of this cost may begin now. If so, it is paid.

        An unsure probe waits only a little and may cost more than the budget: its cost is unsure too.
        """
        most = self._budget
        if unsure:
            wait, most = _UNSURE_WAIT, _UNSURE * most
        elif cost <= _CHEAP * most:
            wait = min(self._wait, _USUAL_WAIT)
        else:
            wait = max(self._wait, _USUAL_WAIT)
        if cost > _SHARE * self._since and not (self._since >= wait and cost <= most):
            return False
        self._budget -= cost
        self._left = _PROBE
        return True

    def passed(self, tokens: int, saved: float) -> None:
        """A round added `tokens` tokens. `saved` is the saving of drafting; 0.0 stands for a plain round."""
        self._since += tokens
        self._budget = min(_LARGEST_BUDGET, self._budget + (_EARNED * saved if saved else _INCOME))

    def judged(self, *, pays: bool, right: bool) -> None:
        """The draft's tokens of a round were judged: `pays` by now, and `right` if all of them were right."""
        self._left = self._left - 1 if right and not pays else 0
        if pays:
            self._since, self._wait = 0, _SHORTEST_WAIT
        elif not self._left:
            self._since, self._wait = 0, min(_LONGEST_WAIT, 2 * self._wait)


_FIRST_BUDGET, _LARGEST_BUDGET = 5.0, 40.0
"""The budget of a new pair, and the largest one, in plain rounds."""
_EARNED, _INCOME = 0.25, 0.01
"""Share of the saved time that a drafted round adds to the budget. Plain rounds that a plain one adds."""
_CHEAP, _UNSURE = 1 / 8, 3.0
"""Shares of the budget: up to the first, a probe is cheap; up to the second, an unsure probe may cost."""
_SHARE = 0.015
"""A probe whose cost is below this share of the tokens since the last one need not wait."""
_SHORTEST_WAIT, _LONGEST_WAIT = 8, 1024
_NEXT_WAIT, _USUAL_WAIT, _UNSURE_WAIT = 16, 32, 4
"""Tokens before a probe: at most at the beginning of an answer; at most before a cheap probe, and at least
before any other; before an unsure one."""
_PROBE = 3
"""Rounds of a probe."""


class AdaptiveLength:
    """The policy that measures. It lives as long as the pair, so one answer teaches the next."""

    def __init__(self, costs: Costs, skill: Skill | None = None) -> None:
        self.costs = costs
        self.skill = skill or Skill()
        self.why_not: WhyNot = "first token"
        self._probes = ProbeSchedule()
        self._plan = FixedProposal(0)
        self._tokens, self._usual_tokens, self._most = 0, 256.0, inf
        self._drafted_rounds = 0
        self._catching_up = False
        self._rates()
        self._choose(LONGEST)

    def start(self, most: float = inf) -> None:
        """Begin an answer of at most so many tokens. Its first token does not wait for the draft."""
        if self._tokens:
            self._usual_tokens += 0.2 * (self._tokens - self._usual_tokens)
        self._tokens, self._most = 0, most
        self._catching_up = False
        self._probes.start()
        self.skill.start()
        self.costs.pause()
        self._rates()
        self.why_not = "first token"

    def plan(self, room: int, length: int | None = None) -> FixedProposal:
        """Return a proposal. With `length` it has a fixed number of tokens, and the policy only learns.

        The first token of an answer waits for no draft model in either case.
        """
        limit = min(room, LONGEST)
        self._choose(limit)
        if length is not None:
            self._plan = FixedProposal(min(length, room), self.skill, first=not self._tokens)
        else:
            self._plan = CostAwareProposal(self, 0 if self._must_compare() else limit)
        return self._plan

    def _must_compare(self) -> bool:
        """Whether the next round must be plain, to show again that drafting pays."""
        return (
            self.pays
            and self.drafts
            and self._drafted_rounds >= _COMPARE
            and self.costs.apart(self.length + 1)
        )

    def observe(self, happened: Round) -> None:
        costs, plan, tokens = self.costs, self._plan, happened.tokens
        costs.learn(happened, plan.calls, plan.extra)
        right = self.skill.learn(tokens, plan.found, plan.drafted, sure=isinstance(plan, CostAwareProposal))
        seconds = costs.verify[len(happened.drafted)] + costs.host + costs.draft * plan.calls
        saved = len(tokens) - (seconds + costs.read * plan.extra) / costs.plain
        self._tokens += len(tokens)
        self._drafted_rounds = self._drafted_rounds + 1 if happened.drafted else 0
        self._probes.passed(len(tokens), saved if plan.calls else 0.0)
        self._rates()
        self._choose(LONGEST)
        if right:
            self._probes.judged(pays=self.pays, right=all(right))

    def _rates(self) -> None:
        """Compute, for each limit, the best draft length and its tokens per second, as far as is known."""
        costs = self.costs
        rates = self._rates_of(costs.verify, costs.draft)
        drafted = max(range(1, LONGEST + 1), key=rates.__getitem__)
        self.plain_rate = rates[0]
        tokens = rates[drafted] * (costs.verify[drafted] + costs.host + drafted * costs.draft)
        self.forgone = _FORGONE * costs.draft * max(rates[0], rates[drafted]) / tokens
        """How much less likely a token without a draft may be: a rejection loses most of a round."""
        self.least = costs.least(drafted + 1 if rates[drafted] > rates[0] else 1)
        self._best = best = [(0.0, 0)]
        for length, rate in enumerate(self._rates_of(*self.least)):
            best.append((rate, length) if rate > best[-1][0] else best[-1])
        del best[0]
        self.trial = min(drafted, _TRIAL) if costs.apart(min(drafted, _TRIAL) + 1) else 0
        """Number of tokens to verify as a trial, because their cost is little known; 0 for no trial."""

    def _rates_of(self, verify: list[float], draft: float) -> list[float]:
        """Return the tokens per second of drafts of 0, 1, ... tokens."""
        seconds = self.costs.host
        survival = tokens = 1.0
        rates = [1 / (verify[0] + seconds)]
        for rows, chance in zip(verify[1:], self.skill.acceptance.chances, strict=True):
            survival *= chance
            tokens += survival
            seconds += draft
            rates.append(tokens / (rows + seconds))
        return rates

    def _choose(self, limit: int) -> None:
        """Choose the best length of at most `limit` tokens."""
        self.drafted_rate, self.length = self._best[limit]
        self.pays = self.drafted_rate > _WORTHWHILE * self._best[0][0]

    @property
    def drafts(self) -> bool:
        """Whether the draft model is at work."""
        return not self.why_not

    @property
    def probing(self) -> bool:
        return self._probes.running and not self.pays

    @property
    def worth(self) -> float:
        """Seconds of a token at the best rate that is possible now."""
        return 1 / (self.drafted_rate if self.drafts and self.pays else self._best[0][0])

    def may_read(self, unread: int) -> int:
        """Return how many of the `unread` tokens the draft model may read in this round."""
        self.why_not, allowed = self._reading(unread)
        return allowed

    def _reading(self, unread: int) -> tuple[WhyNot, int]:
        costs = self.costs
        if not self._tokens:
            return "first token", 0
        reading = costs.read * (unread - 1)
        if not (self.pays or self.probing or self._may_probe(costs.draft + reading)):
            return "does not pay", 0
        if self.pays and not self._catching_up and reading > costs.plain and reading > self._hoped():
            return "too far behind", 0
        rounds = _SLICE if self.pays else 1.0
        slice_ = max(16, min(512, int(rounds * costs.verify[0] / costs.read)))
        if unread <= slice_:
            self._catching_up = False
            return "" if self.pays else "trying", unread
        saving = (1 / self._best[0][0] - 1 / self.drafted_rate) * self._usual_tokens
        if self.pays and not self._catching_up and 2 * reading > saving:
            return "too far behind", 0
        self._catching_up = True
        return "reading", slice_

    def _may_probe(self, seconds: float) -> bool:
        """Whether a probe that takes so many seconds begins now.

        It may take a small part of the answer, or as much as it may save in it. So a short answer leaves an
        expensive probe to a longer one.
        """
        unsure = self.trial > 0
        small = (_UNSURE_STAKE if unsure else _STAKE) * self._left * self.costs.plain
        allowed = seconds <= small or seconds <= self._hoped()
        return allowed and self._probes.begin(seconds / self.costs.plain, unsure=unsure)

    @property
    def _left(self) -> float:
        """Number of tokens that the answer may still have."""
        return min(self._usual_tokens, self._most - self._tokens)

    def _hoped(self) -> float:
        """Return the seconds that the draft may save in the rest of the answer."""
        verify, draft = self.least
        rounds = [rows + length * draft + self.costs.host for length, rows in enumerate(verify)]
        return _REALISTIC * self._left * self.skill.acceptance.expected_saving(rounds)

    def as_dict(self) -> dict[str, object]:
        """Return all knowledge about the pair, for a file."""
        return {"costs": self.costs.as_dict(), **self.skill.as_dict()}

    @classmethod
    def from_dict(cls, stored: object) -> AdaptiveLength:
        """Build a policy from the output of `as_dict`. Raises `ValueError` if it is invalid."""
        match stored:
            case {"costs": costs, **skill}:
                return cls(Costs.from_dict(costs), Skill.from_dict(skill))
        raise ValueError("this is no knowledge of a pair")


_SLICE = 4.0
"""The time that a draft that pays may read before the text goes on, in plain rounds."""
_WORTHWHILE = 1.01
"""Least speed-up by drafting for which the draft model works."""
_REALISTIC = 0.6
"""Share of the saving at a known rate of acceptance that is left to a draft whose rate must first be seen."""
_STAKE, _UNSURE_STAKE = 0.03, 0.2
"""Shares of the rest of an answer that any probe may take: usually, and while the cost is unsure."""
_FORGONE = 0.5
"""Share of the time of a drafted token that counts in favor of a token of the lookup."""
_HOPELESS = 0.05
"""A copied token with a smaller chance is never verified: the chance itself is too uncertain."""
_TRIAL, _COMPARE = 3, 4
"""Most tokens of a trial. Number of drafted rounds before a plain round for comparison."""
