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

from .estimates import LONGEST, Acceptance, Calibration, Costs
from .loop import Round

SLICE = 512
"""Most tokens that a draft model reads in one round: between rounds an answer can be stopped."""


class Draft:
    """A proposal of at most so many tokens, whatever they cost."""

    def __init__(self, length: int) -> None:
        self._length = length
        self.tokens: list[int] = []
        self.looked_up = 0
        self.runs = self.extra = 0
        """As of `Weighed`."""

    def may_read(self, unread: int) -> int:
        allowed = min(unread, SLICE) if self.wants_more() else 0
        self.extra = max(0, allowed - 1)
        return allowed

    def wants_more(self) -> int:
        return self._length - len(self.tokens)

    def add(self, token: int, confidence: float, *, looked_up: bool = False) -> bool:
        if not self.wants_more():
            return False
        self.tokens.append(token)
        self.looked_up += looked_up
        self.runs += not looked_up
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
        self.costs.pause()
        self.why_not = "first token"
        self._appraise()

    def plan(self, room: int) -> Weighed:
        self._proposal = Weighed(self, room)
        return self._proposal

    def watch(self, happened: Round, planned: Draft) -> None:
        """A round that another pace planned. It teaches what rounds cost, and nothing else."""
        self.costs.learn(happened, planned.runs, planned.extra)
        self._choose()

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
