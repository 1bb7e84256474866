"""The proposers: a draft model, several proposers in turn, and none.

A proposer may guess badly: a wrong guess costs time and never changes the text.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, runtime_checkable

from .loop import NO_PICK, Model, Pick, Proposal, Proposer


@runtime_checkable
class DraftsOnDevice(Protocol):
    """A model that can feed its own choices back on the device, so that the host waits once for several."""

    def draft(self, tokens: Sequence[int], count: int) -> list[Pick]:
        """Run `tokens`, choose the next token, run it, and so on; all but the last choice are then cached.

        Return one to `count` choices. If there are several, their probabilities mean nothing.
        """
        ...


class NullProposer:
    """Proposes nothing: plain decoding."""

    def propose(self, context: Sequence[int], proposal: Proposal) -> None:
        pass

    def settle(self, context: Sequence[int]) -> None:
        pass


class DraftModel:
    """A smaller model that shares the main model's vocabulary, sampling chain and noise.

    Its cache lags behind the context: by one token after a rejection, by two after a round whose tokens were
    all accepted, by many after rounds without drafting or before its first round. Reading
    `context[model.length:]` first makes these one case. A long lag is read in slices, one slice a round, as
    the proposal allows.
    """

    def __init__(self, model: Model, end_tokens: Collection[int]) -> None:
        self.model = model
        self._end_tokens = end_tokens

    def propose(self, context: Sequence[int], proposal: Proposal) -> None:
        held, stands = self.model.length, len(context)
        slice_ = min(proposal.may_read(stands - held), self.model.capacity - held)
        if slice_ < stands - held:
            if slice_ > 0:
                self.model.extend(context[held : held + slice_], picks=0)
            return
        while (count := proposal.wants_more()) and self._may_follow(proposal.tokens):
            unread = [*context[held:], *proposal.tokens[max(0, held - stands) :]]
            if held + len(unread) > self.model.capacity:
                return
            for pick in self._picks(unread, count):
                if pick == NO_PICK or not proposal.add(pick.token, pick.probability):
                    return
                if pick.token in self._end_tokens:
                    return
            held = self.model.length

    def _may_follow(self, tokens: Sequence[int]) -> bool:
        return not tokens or tokens[-1] not in self._end_tokens

    def _picks(self, tokens: Sequence[int], count: int) -> list[Pick]:
        if count > 1 and isinstance(self.model, DraftsOnDevice):
            return self.model.draft(tokens, count)
        return self.model.extend(tokens, picks=1)

    def settle(self, context: Sequence[int]) -> None:
        self.model.rewind(min(self.model.length, len(context) - 1))


class ProposersInTurn:
    """Several proposers in a row: each continues the proposal of the one before."""

    def __init__(self, *proposers: Proposer) -> None:
        self._proposers = proposers

    def propose(self, context: Sequence[int], proposal: Proposal) -> None:
        for proposer in self._proposers:
            proposer.propose(context, proposal)

    def settle(self, context: Sequence[int]) -> None:
        for proposer in self._proposers:
            proposer.settle(context)
