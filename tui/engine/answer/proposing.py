"""The draft of one answer: its length as a person may set it, and a draft model that may fail.

Both stand between the loop of speculative decoding and a pair. They choose no token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ... import protocol
from ...choices import DraftLength
from ..backends import ModelError
from ..eligibility import failed_draft
from ..speculation.loop import DraftLengthPolicy, Proposal, Proposer, Round
from ..speculation.proposers import DraftModel, NullProposer
from ..speculation.sampling import InvalidLogits


class OverridableLength:
    """The pair's own policy, which learns from every round, with a draft length that a person may set."""

    def __init__(self, draft_length: Callable[[], DraftLength], own: DraftLengthPolicy, longest: int) -> None:
        """`longest` is the most tokens that any round may draft."""
        self._draft_length = draft_length
        self._own = own
        self._longest = longest

    def start(self, most: int) -> None:
        self._own.start(most)

    def plan(self, room: int, length: int | None = None) -> Proposal:
        wished = self._draft_length() if length is None else length
        fixed = wished if isinstance(wished, int) else None
        return self._own.plan(min(room, self._longest), fixed)

    def observe(self, happened: Round) -> None:
        self._own.observe(happened)


class FallibleDraft:
    """A proposer that may fail at any time. After that it proposes nothing."""

    def __init__(
        self, draft: DraftModel, vocabulary: int, failed: Callable[[protocol.Obstacle], None]
    ) -> None:
        """`failed` receives the reason, once. The main model has no tokens from `vocabulary` on."""
        self._draft: Proposer = draft
        self._vocabulary = vocabulary
        self._failed = failed

    def propose(self, context: Sequence[int], proposal: Proposal) -> None:
        try:
            self._draft.propose(context, proposal)
        except (ModelError, InvalidLogits) as error:
            self._draft = NullProposer()
            self._failed(failed_draft(error))
        for place, token in enumerate(proposal.tokens):
            if not 0 <= token < self._vocabulary:
                del proposal.tokens[place:]
                return

    def settle(self, context: Sequence[int]) -> None:
        self._draft.settle(context)
