"""In which calls a context is read into a cache, and what of it a cache holds already.

In fast mode that is a matter of speed: chunks. In exact mode it is a matter of bits, because the kernels that
read a prompt in chunks round otherwise than those that write an answer. There the calls follow from the
context alone: what stands outside of answers is read in chunks, counted from where it begins; what a model
wrote is read as it was written, a few rows at a time. So an answer that is continued, branched or opened
again tomorrow stands on the same bits as one that never paused.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..backends import LoadedModel
from ..speculation.loop import prefill


@dataclass(frozen=True)
class Calls:
    """The rule by which a context is cut into calls."""

    chunk: int
    """Most tokens in a call that reads."""
    rows: int = 0
    """Most tokens in a call over an answer; 0 is fast mode, which knows no answers."""
    answers: tuple[range, ...] = ()
    """Where they stand, in order: the tokens that rounds have run, or would have. A round begins with the
    last token of the prompt."""

    def end(self, start: int) -> int:
        """Where the call ends that begins at the token `start`."""
        for answer in self.answers:
            if start < answer.start:
                return min(start + self.chunk, answer.start)
            if start < answer.stop:
                return min(start + self.rows, answer.stop)
        return start + self.chunk

    def written_until(self, token: int) -> int:
        """The end of the answer in which `token` stands; 0 if it stands in none."""
        return next((each.stop for each in self.answers if token in each), 0)


def sound(common: int, before: Calls, now: Calls) -> int:
    """How many of the first `common` tokens, which were read by one rule, are as another would have read
    them."""
    at = 0
    while at < common:
        written = min(before.written_until(at), now.written_until(at))
        if written:
            at = min(written, common)
        elif (end := now.end(at)) > common or before.end(at) != end or now.written_until(at):
            return at
        else:
            at = end
    return at


class Reader:
    """Reads contexts into the cache of a main model."""

    def __init__(self, model: LoadedModel, rows: int = 0, *, checkpoints: bool = True) -> None:
        """`rows` is the most tokens that a call over an answer may have in exact mode; 0 is fast mode.

        Without `checkpoints` none is made in the cache.
        """
        self._model = model
        self.rows = rows
        self._checkpoints = checkpoints
        self._calls = Calls(model.chunk)

    def begin(self, context: Sequence[int], answers: Sequence[range], first: int, stays: int = 0) -> int:
        """Cut the cache back to what `context` can stand on, its last token excepted; how many tokens that
        are.

        `answers` are the earlier ones; from the token `first` on stands the present one. The next prompt will
        share the first `stays` tokens, so a checkpoint is made behind these; 0 if that is not known.
        """
        if self._checkpoints:
            end = first - 1  # in exact mode the only place where a call ends by the rule
            self._model.checkpoint(end if self.rows else min(stays or end, end))
        common = shared(self._model, context)
        if not self.rows:
            return cut(self._model, common)
        before = self._calls
        self._calls = Calls(self._model.chunk, self.rows, (*answers, range(first - 1, sys.maxsize)))
        common = sound(common, before, self._calls)
        while (reached := self._model.reach(common)) < common:
            common = sound(reached, before, self._calls)
        return cut(self._model, common)

    def read(
        self, context: Sequence[int], cancelled: Callable[[], bool], progress: Callable[[int, int], None]
    ) -> bool:
        """Bring all but the last token of `context` into the cache; see `prefill`."""
        return prefill(self._model, context, end=self._calls.end, cancelled=cancelled, progress=progress)


def shared(model: LoadedModel, context: Sequence[int]) -> int:
    """How many tokens at its beginning `context`, the last one excepted, has in common with the cache."""
    pairs = enumerate(zip(model.tokens, context[:-1], strict=False))
    return next(
        (at for at, (cached, wanted) in pairs if cached != wanted), min(model.length, len(context) - 1)
    )


def cut(model: LoadedModel, length: int) -> int:
    """Cut the cache back to `length` tokens, or further if it cannot keep so many: how many it holds now.

    The caller then reads what is missing, with progress. The model itself would read it in one go, and could
    not be cancelled.
    """
    length = model.reach(length)
    model.rewind(length)
    return length


def loses(model: LoadedModel) -> bool:
    """Whether a cut may lose the place to go on from, so that checkpoints are useful."""
    return model.rewinds != "anywhere" or model.drops_from > 0
