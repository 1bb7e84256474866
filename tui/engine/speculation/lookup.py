"""The n-gram lookup: the tokens that followed the same tokens earlier in the context may follow them again.

A file with one change, an answer that quotes, a table row by row: such answers copy. `Lookup` finds the
newest tokens of the context at an earlier place and proposes the tokens behind them there. It asks no model,
so drafting costs microseconds, and only verification takes time. If the answer leaves a copy, for a changed
name for example, the copy is resumed a few tokens further on.

It proposes only tokens of the context, and no control token: a role mark or the end of a message is a barrier
that no match and no copy crosses. It does not decide whether a token is worth verifying; the proposal does,
by the confidence of the token.

Sources: Saxena, "Prompt Lookup Decoding", 2023, for the proposals; RFC 1951, section 4, for the chains of
equal n-grams.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from .loop import Proposal

_DEPTH = 32
"""Most occurrences of an n-gram that are compared."""
_VOTES = 4
"""Most matches of equal length that count for the confidence."""
_REACH = 8
"""Most tokens that an edit may insert or leave out if the copy is to be resumed behind it."""
_BLIND = 2
"""Most tokens that an edit may have written if the copy is resumed before any of them agrees."""
_FAITH = 8
"""This many tokens copied before an edit count as one token behind it."""


class Copy(NamedTuple):
    """A guess: from index `place` on, the context repeats itself from index `source` on."""

    source: int
    place: int
    evidence: float
    """Number of tokens that support it, such as those before `place` that equal those before `source`."""
    rivals: tuple[int, ...] = ()
    """Older sources with as many equal tokens before them; they may continue differently."""


class Lookup:
    """Copies from the context. It lives as long as a loaded pair and knows one context at a time."""

    def __init__(
        self, barriers: Collection[int], *, shortest: int = 3, longest: int = 24, capacity: int = 200_000
    ) -> None:
        """`barriers` are the control tokens. A match is `shortest` to `longest` tokens long.

        The n-grams of the newest `capacity` places of the context are indexed.
        """
        self._barriers = frozenset(barriers)
        self._shortest = shortest
        self._longest = longest
        self._occurrences = Occurrences(shortest, capacity)
        self._tried: Copy | None = None
        self._current: Copy | None = None

    def propose(self, context: Sequence[int], proposal: Proposal) -> None:
        self._follow(context)
        text = [*context, *proposal.tokens] if proposal.tokens else context
        copy = self._resumed(text)
        if copy is None or copy.evidence <= self._longest:
            match = self._match(text)
            copy = match if copy is None or (match and match.evidence >= copy.evidence) else copy
        if copy is not None:
            self._copy(text, copy, proposal)
            self._tried = copy if text is context else None

    def settle(self, context: Sequence[int]) -> None:
        """Do nothing: the next context shows the fate of the proposal."""

    def _copy(self, text: Sequence[int], copy: Copy, proposal: Proposal) -> None:
        """Propose the tokens behind `copy.source`. At the end of `text`, start again at the source.

        The proposal says when it has enough; a copy as long as `text` is always enough.
        With n tokens of evidence and k of t sources that agree, the confidence is n k / (n t + 3).
        """
        size, source, rivals, equal = len(text), copy.source, copy.rivals, copy.evidence
        for step in range(size):
            token = text[source + step % (size - source)]
            votes = agreeing = 1 + len(rivals)
            if rivals:
                rivals = tuple(rival for rival in rivals if text[rival + step % (size - rival)] == token)
                agreeing = 1 + len(rivals)
            confidence = equal * agreeing / (equal * votes + 3)
            if token in self._barriers or not proposal.add(token, confidence, looked_up=True):
                return
            equal += 1

    def _match(self, text: Sequence[int]) -> Copy | None:
        """Return the longest match of the end of `text`; if there are several, the most recent."""
        size, best = len(text), self._shortest
        limit = self._unbarred(text)
        sources: list[int] = []
        for end in self._occurrences.of(text[size - best :]):
            if end < best or text[end - best] != text[size - best]:
                continue
            equal = _equal(text, end, min(end, limit))
            if equal > best:
                best, sources = equal, [end]
            elif equal == best:
                sources.append(end)
            if best == limit and len(sources) == _VOTES:
                break
        return Copy(sources[0], size, best, tuple(sources[1:_VOTES])) if sources else None

    def _unbarred(self, text: Sequence[int]) -> int:
        """Count the tokens behind the last barrier, at most the last `longest` tokens of `text`."""
        tail = text[-self._longest :]
        if self._barriers.isdisjoint(tail):
            return len(tail)
        return next(i for i, token in enumerate(reversed(tail)) if token in self._barriers)

    def _follow(self, context: Sequence[int]) -> None:
        """Bring the index up to date, and find the end of the last copies."""
        tried, current = self._tried, self._current
        self._tried = self._current = None
        if not self._occurrences.read(context):
            return
        current = current and self._held(context, current)
        if tried and (held := self._held(context, tried)):
            current = _trusted(current, tried, held)
        self._current = current

    def _held(self, context: Sequence[int], copy: Copy) -> Copy | None:
        """Return `copy`, moved to the first token at which `context` left it, or to the end.

        None if that token is too far back, or before a barrier.
        """
        step, written = 0, len(context) - copy.place
        while step < written and context[copy.source + step] == context[copy.place + step]:
            step += 1
        if written - step > _REACH or not self._barriers.isdisjoint(context[copy.place :]):
            return None
        return Copy(copy.source + step, copy.place + step, copy.evidence + step)

    def _resumed(self, text: Sequence[int]) -> Copy | None:
        """Return the current copy. If `text` left it for a few tokens, return its most likely continuation.

        That is the place where most tokens behind the edit agree. Of several such places, it is the one with
        the fewest tokens inserted or left out. If none agrees yet, the edit is taken to have replaced token
        by token.
        """
        left = self._current
        if left is None or left.place == len(text):
            return left
        size, written = len(text), len(text) - left.place
        replaced = left.source + written
        equal, source = 0, replaced
        for end in range(left.source + 1, min(replaced + _REACH + 1, size)):
            if text[end - 1] == text[-1]:
                agreeing = _equal(text, end, min(written, end - left.source))
                if (agreeing, -abs(end - replaced)) > (equal, -abs(source - replaced)):
                    equal, source = agreeing, end
        if equal == 0 and written > _BLIND:
            return None
        if not self._barriers.isdisjoint(text[left.source : source]):
            return None
        return Copy(source, size, equal + min(left.evidence, self._longest) / _FAITH)


def _trusted(current: Copy | None, tried: Copy, held: Copy) -> Copy:
    """Choose the copy to go on with: the `current` one, or `held`, the present state of `tried`.

    A copy whose first token was rejected does not replace one with more evidence, which may still be resumed.
    """
    if current is None:
        return held
    return held if held.place > tried.place or tried.evidence >= current.evidence else current


def _equal(text: Sequence[int], end: int, limit: int) -> int:
    """Count the tokens before `end`, at most `limit`, that equal the last ones of `text`."""
    size = len(text)
    pairs = zip(reversed(text[end - limit : end]), reversed(text[size - limit :]), strict=True)
    return next((i for i, (one, other) in enumerate(pairs) if one != other), limit)


class Occurrences:
    """The index of the n-grams of one context: chains of their ends, from the most recent to the oldest.

    An n-gram is indexed once a token follows it, so the end of the context does not find itself.
    """

    def __init__(self, n: int, capacity: int) -> None:
        self._n = n
        self._capacity = capacity
        self._context: Sequence[int] = ()
        self._known: list[int] = []
        self._latest: dict[tuple[int, ...], int] = {}
        self._earlier: dict[int, int] = {}

    def __len__(self) -> int:
        """Return the number of entries; it is below twice the capacity."""
        return len(self._latest) + len(self._earlier)

    def of(self, gram: Sequence[int]) -> Iterator[int]:
        """Give the indices behind `gram`, the most recent first, at most `_DEPTH` of them."""
        end = self._latest.get(tuple(gram))
        for _ in range(_DEPTH):
            if end is None:
                return
            yield end
            end = self._earlier.get(end)

    def read(self, context: Sequence[int]) -> bool:
        """Index the new tokens of `context`. Return False, and index it all, if it is not a continuation."""
        continues = self._continues(context)
        if not continues:
            for table in (self._known, self._latest, self._earlier):
                table.clear()
        self._context = context
        known, latest, n = self._known, self._latest, self._n
        first = max(n, len(known))
        known += context[len(known) :]
        if len(known) > n:
            starts = range(first - n, first)
            grams = zip(*(known[start : start + len(known) - first] for start in starts), strict=True)
            for end, gram in enumerate(grams, first):
                earlier = latest.get(gram)
                if earlier is not None:
                    self._earlier[end] = earlier
                latest[gram] = end
        for end in range(max(n, first - self._capacity), len(known) - self._capacity):
            self._drop(end)
        return continues

    def _continues(self, context: Sequence[int]) -> bool:
        """Whether `context` begins with the known tokens. The list seen last is compared only at its end."""
        size = len(self._known)
        first = max(0, size - 16) if context is self._context else 0
        return len(context) >= size and list(context[first:size]) == self._known[first:]

    def _drop(self, end: int) -> None:
        self._earlier.pop(end, None)
        gram = tuple(self._known[end - self._n : end])
        if self._latest.get(gram) == end:
            del self._latest[gram]
