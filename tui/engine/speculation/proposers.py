"""Who may ride ahead of the main model: anything that guesses how a context goes on.

A proposer may guess as badly as it likes: it costs time, never the text.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .loop import Model


class Nobody:
    """Proposes nothing: plain decoding."""

    def propose(self, context: Sequence[int], length: int) -> list[int]:
        return []

    def settle(self, context: Sequence[int]) -> None:
        pass


class DraftModel:
    """A smaller model that shares the main model's vocabulary, sampling chain and noise.

    Its cache lags behind the context by whatever it has not been shown: by one token after a refusal, by
    two after a round in which all was accepted, by many after rounds without drafting. Feeding
    `context[model.length:]` first makes these one case.
    """

    def __init__(self, model: Model, end_tokens: Collection[int]) -> None:
        self.model = model
        self._end_tokens = end_tokens

    def propose(self, context: Sequence[int], length: int) -> list[int]:
        room = self.model.capacity - len(context) + 1
        drafted: list[int] = []
        unread = list(context[self.model.length :])
        while len(drafted) < min(length, room):
            token = self.model.extend(unread, picks=1)[0].token
            drafted.append(token)
            if token in self._end_tokens:
                break
            unread = [token]
        return drafted

    def settle(self, context: Sequence[int]) -> None:
        self.model.rewind(min(self.model.length, len(context) - 1))
