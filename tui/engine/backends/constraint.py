"""A grammar as a constraint: the tokens that may follow an answer, by llguidance.

The matcher gets only tokens that the grammar allows. So it stays usable, and it takes tokens back when a
draft was rejected. llguidance limits the work for each token; beyond a limit, no token may follow. This
module reads no grammar and chooses no token.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask
from numpy.typing import NDArray

from . import ModelError, Vocabulary
from .grammar_worker import MOST_WAYS

_FEW = 8
"""Tokens that are tried one by one; the mask of all tokens answers for more."""


_LONGEST = 1000
"""Bytes of the longest token that a grammar can have; llguidance holds no tree that is much deeper."""


class Constraints:
    """Makes constraints for the tokens of one model, which it copies once."""

    def __init__(self, vocabulary: Vocabulary, size: int) -> None:
        """`size` is the number of tokens that the model scores. Raises `ModelError`."""
        self._tokens = _Tokens(vocabulary, size)
        ends = sorted(self._tokens.ends) or [size]
        try:
            self._tokenizer = LLTokenizer(TokenizerWrapper(self._tokens), eos_token=ends, slices=[])
        except BaseException as error:  # a panic of the library is no `Exception`
            if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
                raise
            raise ModelError(
                "no grammar can be followed with these tokens", "Choose another model."
            ) from None

    def constraint(self, grammar: str) -> GrammarConstraint:
        """Return a grammar of `grammars` as a constraint for one answer. Raises `ModelError`."""
        limits = LLParserLimits(verbose_errors=False, max_items_in_row=MOST_WAYS)
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=limits)
        if matcher.is_error():
            raise ModelError("the grammar is too large for this model", "Make the grammar simpler.")
        return GrammarConstraint(matcher, self._tokens)


class _Tokens:
    """The tokens of a model as llguidance reads them. A token without text is never allowed."""

    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary, size: int) -> None:
        self.ends = frozenset(token for token in vocabulary.end_tokens if token < size)
        controls = {token for token in vocabulary.control_tokens if token < size}
        self.special_token_ids = [*sorted(controls | self.ends), size]
        self.eos_token_id = size
        pieces = map(vocabulary.piece, range(size))
        # The last one stands for an end where a vocabulary has none.
        self.tokens = [*(b"" if 0 in piece or len(piece) > _LONGEST else piece for piece in pieces), b"<end>"]
        self.written = np.array(list(map(bool, self.tokens)))
        self.written[self.special_token_ids] = False
        self.written = self.written[:size]
        self.encode = vocabulary.encode

    def __call__(self, text: str | bytes) -> list[int]:
        return self.encode(text if isinstance(text, str) else text.decode("utf-8", "replace"))

    def writes(self, token: int) -> bool:
        """Return whether a token is text."""
        return 0 <= token < self.written.size and bool(self.written[token])


class GrammarConstraint:
    """Implements `sampling.Constraint`."""

    def __init__(self, matcher: LLMatcher, tokens: _Tokens) -> None:
        """Takes over `matcher`, which was given no token yet."""
        self.met_limit = False
        """Whether the grammar was too much work somewhere."""
        self._start = matcher
        self._matcher = matcher.deep_copy()
        self._tokens = tokens
        self._given: list[int] = []
        """The tokens that the matcher has taken."""
        self._mask: NDArray[np.bool_] | None = None
        """For each token whether it may follow those; None if that is not known yet."""

    def allowed(self, answer: Sequence[int], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of the tokens `ids` may follow the tokens of `answer`."""
        if not self._follow(list(answer)):
            return np.full(ids.size, not self._failed())
        if ids.size > _FEW or self._mask is not None:
            return self._all()[ids]
        return np.fromiter(map(self._allows, ids.tolist()), np.bool_, ids.size)

    def _follow(self, answer: list[int]) -> bool:
        """Bring the matcher to the end of `answer`. Return False if the grammar does not allow all of it."""
        if self._matcher.is_error():
            self._matcher = self._start.deep_copy()
            self._given = []
        elif answer == self._given:
            return True
        self._mask = None
        shared = _shared(answer, self._given)
        self._matcher.rollback(len(self._given) - shared)
        text = list(takewhile(self._tokens.writes, answer[shared:]))
        taken = self._matcher.try_consume_tokens(text)
        self._given = answer[: shared + taken]
        return shared + taken == len(answer)

    def _allows(self, token: int) -> bool:
        if token in self._tokens.ends:
            return self._matcher.is_accepting()
        return self._tokens.writes(token) and self._matcher.validate_tokens([token]) == 1

    def _all(self) -> NDArray[np.bool_]:
        if self._mask is None:
            size = self._tokens.written.size
            bits = allocate_token_bitmask(1, size + 1)
            fill_next_token_bitmask(self._matcher, bits)
            mask = np.unpackbits(bits.view(np.uint8), bitorder="little")[:size].view(np.bool_)
            mask &= self._tokens.written
            mask[list(self._tokens.ends)] = self._matcher.is_accepting()
            self._mask = np.zeros_like(mask) if self._failed() else mask
        return self._mask

    def _failed(self) -> bool:
        """Return whether a limit was met. The matcher is unusable then."""
        failed = self._matcher.is_error()
        self.met_limit |= failed
        return failed


def _shared(answer: list[int], given: list[int]) -> int:
    """Return how many tokens the two share at their beginning."""
    if answer[: len(given)] == given:
        return len(given)
    pairs = enumerate(zip(answer, given, strict=False))
    return next((place for place, (ours, theirs) in pairs if ours != theirs), len(answer))
