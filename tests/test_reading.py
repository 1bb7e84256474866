"""A context is read in the same calls, whatever came before: what is continued has the same bits."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, cast

import pytest

from tui.engine.backends import LoadedModel
from tui.engine.reading import Calls, Reader, cut, shared, sound

CHUNK, ROWS = 8, 3


class Shapes:
    """A model that remembers, for each token of its cache, in what kind of call it was run."""

    chunk = CHUNK
    rewinds = "anywhere"

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.bits: list[object] = []

    @property
    def length(self) -> int:
        return len(self.tokens)

    def extend(self, tokens: Sequence[int], picks: int) -> None:
        few = len(tokens) <= ROWS
        first, size = len(self.tokens), len(tokens)
        self.bits += ["few" if few else (place, first, size) for place in range(first, first + size)]
        self.tokens += tokens

    def rewind(self, length: int) -> None:
        del self.tokens[length:], self.bits[length:]


def read(reader: Reader, context: list[int], answers: Sequence[range], first: int) -> int:
    kept = reader.begin(context, answers, first)
    assert reader.read(context, lambda: False, lambda *_: None)
    return kept


def test_calls_end_where_answers_begin_and_end() -> None:
    calls = Calls(8, 3, (range(10, 15), range(30, 99)))
    ends, at = [], 0
    while at < 40:
        at = calls.end(at)
        ends.append(at)
    assert ends == [8, 10, 13, 15, 23, 30, 33, 36, 39, 42]
    assert [Calls(8).end(at) for at in (0, 5)] == [8, 13]


def test_what_was_read_in_other_calls_is_read_again() -> None:
    before = Calls(8, 3, (range(10, 99),))
    assert sound(60, before, Calls(8, 3, (range(10, 40), range(50, 99)))) == 40
    assert sound(30, before, Calls(8, 3, (range(10, 40), range(50, 99)))) == 30
    assert sound(60, before, Calls(8, 3, (range(12, 40),))) == 8
    assert sound(60, before, Calls(8, 3)) == 8
    assert sound(5, before, before) == 0  # a chunk that ran whole is not kept in part
    assert sound(13, before, before) == 13


def test_fast_mode_keeps_all_that_is_the_same() -> None:
    model = Shapes()
    reader = Reader(cast(LoadedModel, model))
    read(reader, [*range(30)], (), 30)
    assert read(reader, [*range(20), 99, 98], (), 22) == 20


@pytest.mark.parametrize("seed", range(40))
def test_any_history_ends_in_the_bits_of_a_fresh_reading(seed: int) -> None:
    """Chats of several turns, answers broken off, prompts edited: the cache is always as if read anew."""
    chance = random.Random(seed)
    model = Shapes()
    reader = Reader(cast(LoadedModel, model), ROWS)
    context: list[int] = []
    answers: list[range] = []
    for _ in range(12):
        if context and chance.random() < 0.4:  # back to an earlier place, and on from there
            keep = chance.randrange(len(context))
            answers = [each for each in answers if each.stop <= keep]
            context = context[: max(keep, *(each.stop for each in answers), 0)] if answers else context[:keep]
        context += [chance.randrange(3) for _ in range(chance.randrange(1, 30))]
        first = len(context)
        read(reader, context, answers, first)
        for _ in range(chance.randrange(12)):  # rounds, of which a part is rejected
            drafted = chance.randrange(ROWS)
            model.extend([context[-1], *[9] * drafted], picks=1 + drafted)
            taken = [chance.randrange(3) for _ in range(chance.randrange(1, drafted + 2))]
            model.tokens[len(context) :] = taken[:-1]
            context += taken
            model.rewind(len(context) - 1)
        if len(context) > first:
            answers.append(range(first - 1, len(context) - 1))
        fresh = Shapes()
        again = Reader(cast(LoadedModel, fresh), ROWS)
        again.begin(context, answers, len(context) + 1)
        again.read(context, lambda: False, lambda *_: None)
        assert model.tokens == fresh.tokens[: model.length]
        assert model.bits == fresh.bits[: model.length]


def test_a_cache_that_cannot_be_cut_anywhere_is_emptied() -> None:
    model: Any = Shapes()
    model.extend([1, 2, 3, 4], picks=0)
    assert shared(model, [1, 2, 3, 9]) == 3
    model.rewinds = "round"
    assert cut(model, 3) == 0
    assert model.length == 0
