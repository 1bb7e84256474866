"""Divides a context into calls that read it into a cache, and tells which part a cache holds already.

In fast mode only speed matters: the calls are chunks. In exact mode every bit matters, because kernels that
read a prompt in chunks round differently from kernels that write an answer. There the calls follow from the
context alone. Text outside answers is read in chunks, counted from its start. A model's own text is read as
it was written, a few rows at a time. So an answer that is continued, branched or reopened tomorrow has the
same bits as one without a pause.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..backends import GivenUp, LoadedModel, asking, common_prefix
from ..speculation.loop import prefill

_FRACTION = 1e-3
"""Tokens by which a sum of fractions may be wrong."""


@dataclass(frozen=True)
class Calls:
    """The rule that cuts a context into calls."""

    chunk: int
    """Most tokens in a call that reads."""
    rows: int = 0
    """Most tokens in a call over an answer; 0 is fast mode, which ignores answers."""
    answers: tuple[range, ...] = ()
    """Ranges of the answers, in order: the tokens that rounds have run, or would have. A round begins with
    the last token of the prompt."""

    def end(self, start: int) -> int:
        """Return the end of the call that begins at the token `start`."""
        for answer in self.answers:
            if start < answer.start:
                return min(start + self.chunk, answer.start)
            if start < answer.stop:
                return min(start + self.rows, answer.stop)
        return start + self.chunk

    def written_until(self, token: int) -> int:
        """Return the end of the answer that contains `token`; 0 if none does."""
        return next((each.stop for each in self.answers if token in each), 0)


def sound(common: int, before: Calls, now: Calls) -> int:
    """Return how many of the first `common` tokens, read by the rule `before`, suit the rule `now`."""
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


def usable(common: int, before: Calls, now: Calls, reach: Callable[[int], int]) -> int:
    """Return how many of the first `common` tokens of a cache a context can use, whose rule is `now`.

    The cache was read by the rule `before`. `reach` returns how many tokens a cut to a length would leave.
    """
    if not now.rows:
        return reach(common)
    common = sound(common, before, now)
    while (reached := reach(common)) < common:
        common = sound(reached, before, now)
    return common


class ContextReader:
    """Reads contexts into the cache of a main model."""

    def __init__(self, model: LoadedModel, rows: int = 0, *, checkpoints: bool = True) -> None:
        """`rows` is the largest call over an answer in exact mode, in tokens; 0 is fast mode.

        Without `checkpoints`, none is made in the cache.
        """
        self._model = model
        self.rows = rows
        self._checkpoints = checkpoints
        self.calls = Calls(model.chunk)
        """The rule by which the present cache was read."""

    def rule(self, answers: Sequence[range], first: int) -> Calls:
        """Return the rule for a context with these earlier answers, whose answer begins at `first`."""
        if not self.rows:
            return Calls(self._model.chunk)
        return Calls(self._model.chunk, self.rows, (*answers, range(first - 1, sys.maxsize)))

    def usable(self, context: Sequence[int], rule: Calls) -> int:
        """Return how many tokens of `context`, without its last one, the present cache saves from reading."""
        return usable(shared(self._model, context), self.calls, rule, self._model.reach)

    def begin(self, context: Sequence[int], answers: Sequence[range], first: int, stays: int = 0) -> int:
        """Rewind the cache to the part that `context`, without its last token, can use. Return its tokens.

        `answers` are the earlier answers; the present one begins at the token `first`. The next prompt will
        share the first `stays` tokens, so a checkpoint is made after these; 0 if unknown.
        """
        if self._checkpoints:
            end = first - 1  # in exact mode, the rule ends a call only here
            self._model.checkpoint(end if self.rows else min(stays or end, end))
        rule = self.rule(answers, first)
        common = self.usable(context, rule)
        self.calls = rule
        return cut(self._model, common)

    def read(
        self, context: Sequence[int], cancelled: Callable[[], bool], progress: Callable[[int, int], None]
    ) -> bool:
        """Bring all but the last token of `context` into the cache; see `prefill`.

        A call that takes long tells its progress too, and hears a cancel.
        """
        total = len(context) - 1 - self._model.length
        done, told = 0.0, 0

        def tell(now: int, total: int) -> None:
            nonlocal told
            if now > told:
                told = now
                progress(now, total)

        def wanted(tokens: float) -> bool:
            nonlocal done
            done += tokens
            tell(min(total, int(done + _FRACTION)), total)
            return not cancelled()

        try:
            with asking([self._model], wanted):
                return prefill(self._model, context, end=self.calls.end, cancelled=cancelled, progress=tell)
        except GivenUp:
            return False


def shared(model: LoadedModel, context: Sequence[int]) -> int:
    """Return how many tokens `context`, without its last one, shares with the start of the cache."""
    return common_prefix(model.tokens, context[:-1])


def cut(model: LoadedModel, length: int) -> int:
    """Rewind the cache to `length` tokens, or fewer if it cannot keep so many. Return the tokens left.

    The caller then reads the missing tokens, with progress. The model itself would read them in one call,
    which could not be canceled.
    """
    length = model.reach(length)
    model.rewind(length)
    return length


def loses(model: LoadedModel) -> bool:
    """Return whether a rewind may lose the end of the cache, so that checkpoints are useful."""
    return model.rewinds != "anywhere" or model.drops_from > 0
