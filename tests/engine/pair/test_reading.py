"""A context is read in the same calls, whatever came before: what is continued has the same bits."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, cast

import pytest

from tui.engine.backends import LoadedModel
from tui.engine.pair.reading import Calls, ContextReader, cut, shared, sound

CHUNK, ROWS = 8, 3


class Shapes:
    """A model that remembers, for each token of its cache, in what kind of call it was run."""

    chunk = CHUNK

    def __init__(self, *, recurrent: bool = False) -> None:
        """A recurrent one goes back to its checkpoints and to nothing else."""
        self.tokens: list[int] = []
        self.bits: list[object] = []
        self._recurrent = recurrent
        self._wanted = 0
        self._checkpoints: set[int] = set()

    @property
    def length(self) -> int:
        return len(self.tokens)

    def extend(self, tokens: Sequence[int], picks: int) -> None:
        few = len(tokens) <= ROWS
        first, size = len(self.tokens), len(tokens)
        self.bits += ["few" if few else (place, first, size) for place in range(first, first + size)]
        self.tokens += tokens
        if self.length == self._wanted:
            self._checkpoints.add(self.length)

    def checkpoint(self, length: int) -> None:
        self._wanted = length

    def reach(self, length: int) -> int:
        if not self._recurrent or length >= self.length:
            return min(length, self.length)
        return max((each for each in self._checkpoints if each <= length), default=0)

    def rewind(self, length: int) -> None:
        del self.tokens[length:], self.bits[length:]
        self._checkpoints = {each for each in self._checkpoints if each <= length}


def read(reader: ContextReader, context: list[int], answers: Sequence[range], first: int) -> int:
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
    reader = ContextReader(cast(LoadedModel, model))
    read(reader, [*range(30)], (), 30)
    assert read(reader, [*range(20), 99, 98], (), 22) == 20


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_any_history_ends_in_the_bits_of_a_fresh_reading(seed: int, recurrent: bool) -> None:
    """Chats of several turns, answers broken off, prompts edited: the cache is always as if read anew."""
    chance = random.Random(seed)
    model = Shapes(recurrent=recurrent)
    reader = ContextReader(cast(LoadedModel, model), ROWS)
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
            model.rewind(len(context) - 1)  # the tokens of a round can always be taken back
        if len(context) > first:
            answers.append(range(first - 1, len(context) - 1))
        fresh = Shapes()
        again = ContextReader(cast(LoadedModel, fresh), ROWS)
        again.begin(context, answers, len(context) + 1)
        again.read(context, lambda: False, lambda *_: None)
        assert model.tokens == fresh.tokens[: model.length]
        assert model.bits == fresh.bits[: model.length]


def test_a_cache_that_cannot_be_cut_goes_back_to_a_checkpoint_or_to_its_beginning() -> None:
    model: Any = Shapes(recurrent=True)
    for checkpoint, reached in ((0, 0), (2, 2)):
        model.rewind(0)
        model.checkpoint(checkpoint)
        for token in (1, 2, 3, 4):
            model.extend([token], picks=0)
        assert shared(model, [1, 2, 3, 9]) == 3
        assert cut(model, 3) == reached
        assert model.length == reached


@pytest.mark.parametrize("rows", [0, ROWS])
def test_another_answer_reads_no_more_than_the_end_of_the_prompt(rows: int) -> None:
    """In exact mode not even that: there the checkpoint stands where the answer begins."""
    model = Shapes(recurrent=True)
    reader = ContextReader(cast(LoadedModel, model), rows)
    prompt = [*range(6 * CHUNK)]
    stays = 5 * CHUNK
    reader.begin(prompt, (), len(prompt), stays)
    reader.read(prompt, lambda: False, lambda *_: None)
    model.extend([prompt[-1], 7, 7], picks=3)
    assert reader.begin(prompt, (), len(prompt), stays) == (len(prompt) - 1 if rows else stays)


def test_without_trust_no_checkpoint_is_made() -> None:
    model = Shapes(recurrent=True)
    reader = ContextReader(cast(LoadedModel, model), checkpoints=False)
    read(reader, [*range(30)], (), 30)
    model.extend([5], picks=1)
    assert read(reader, [*range(29), 5], (), 30) == 0
