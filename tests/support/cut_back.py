"""Rejected tokens leave no trace: what a model of every backend must hold, whatever kind of cache it has.

A test module takes it over with its own fixture `loaded` and its own way to count:

    class TestCutBack(CutBack):
        run_lengths = staticmethod(run_lengths)
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import pytest

from tests.support.rows import Watching, assert_close, rows_of, some_tokens
from tui.engine.backends import LoadedModel
from tui.engine.pair.cache_check import trial, trial_of_checkpoints
from tui.engine.speculation.sampling import Chain, Logits, Sampler

GREEDY = Chain(temperature=0)


class Loaded(Protocol):
    @property
    def main(self) -> LoadedModel: ...
    @property
    def draft(self) -> LoadedModel: ...


class CutBack:
    run_lengths: Callable[[pytest.MonkeyPatch, Any], list[int]]
    """How many tokens each call of a model runs from now on."""

    @contextmanager
    def counted(self, model: LoadedModel) -> Iterator[list[int]]:
        with pytest.MonkeyPatch.context() as patch:
            yield self.run_lengths(patch, model)

    @pytest.mark.parametrize("start", [40, 90])  # before and behind the border of a window
    def test_a_verified_batch_can_be_cut_anywhere(self, loaded: Loaded, start: int) -> None:
        main, text = loaded.main, some_tokens(110)
        for kept in range(1, 10):
            begin(main, text[:start])
            with self.counted(main) as calls:
                main.extend([*text[start : start + kept], *some_tokens(9 - kept, seed=2)], picks=9)
                main.rewind(start + kept)
                assert main.tokens == text[: start + kept]
                main.start(watching := Watching())
                main.extend(text[start + kept : start + 15], picks=15 - kept)
            assert sum(calls) <= 9 + 15
            assert_close(watching.rows, rows_of(main, text[: start + 15], start + kept))

    def test_refusals_in_a_row_are_cut_one_by_one(self, loaded: Loaded) -> None:
        main, text, rounds = loaded.main, some_tokens(150), 32
        begin(main, text[:40])
        main.start(watching := Watching())
        with self.counted(main) as calls:
            for length in range(40, 40 + 3 * rounds, 3):
                main.start(watching)
                main.extend([*text[length : length + 3], 1, 2, 3, 4], picks=7)
                main.rewind(length + 3)
        assert len(calls) <= rounds + math.ceil(rounds / 3)
        assert max(calls) <= 8 + 7
        expected = rows_of(main, text[: 40 + 3 * rounds], 40)
        # Rows behind rejected tokens were overwritten by those of the round that followed.
        assert_close({place: watching.rows[place] for place in expected}, expected)

    def test_a_draft_is_cut_back_over_several_calls(self, loaded: Loaded) -> None:
        draft, text = loaded.draft, some_tokens(100)
        for kept in range(6):
            begin(draft, text[:70])
            draft.rewind(70)
            with self.counted(draft) as calls:
                draft.extend(text[70:72], picks=1)
                for token in [*text[72 : 72 + kept], *some_tokens(6 - kept, seed=2)]:
                    draft.extend([token], picks=1)
                draft.rewind(72 + kept)
                draft.extend(text[72 + kept : 80], picks=1)
            assert sum(calls) <= 2 + 6 + 10
            draft.start(watching := Watching())
            draft.extend(text[80:81], picks=1)
            assert_close(watching.rows, rows_of(draft, text[:81], 80))

    def test_a_draft_that_lags_reads_the_text_once(self, loaded: Loaded) -> None:
        draft, text = loaded.draft, some_tokens(300)
        begin(draft, [])
        with self.counted(draft) as calls:
            draft.extend(text[:250], picks=1)
            draft.extend([1], picks=1)
            draft.rewind(250)
            draft.extend(text[250:252], picks=1)
        assert sum(calls) <= 250 + 1 + 2 + 17
        draft.start(watching := Watching())
        draft.extend(text[252:253], picks=1)
        assert_close(watching.rows, rows_of(draft, text[:253], 252))

    def test_any_other_rewind_is_right_too(self, loaded: Loaded) -> None:
        """Into and before earlier calls, several in a row, and to nothing, for another text."""
        text, other = some_tokens(90, seed=3), some_tokens(90, seed=4)
        for model, picks in ((loaded.main, 9), (loaded.draft, 1)):
            expected, expected_other = rows_of(model, text, 5), rows_of(model, other, 5)
            begin(model, text[:60])
            model.extend(text[60:69], picks)
            for token in text[69:74]:
                model.extend([token], picks=1)
            for length in (71, 63, 61, 60, 66, 12):
                assert_goes_on(model, text, length, expected, batched=picks > 1)
            model.rewind(0)
            model.extend(other[:50], picks=0)
            assert_goes_on(model, other, 45, expected_other, batched=picks > 1)
            model.rewind(46)
            model.rewind(44)
            model.rewind(43)
            assert_goes_on(model, other, 43, expected_other, batched=picks > 1)

    def test_what_a_window_has_dropped_is_read_again(self, loaded: Loaded) -> None:
        """Also where the cache still holds the token before the cut, but not all that the next one sees."""
        main, text = loaded.main, some_tokens(500, seed=5)
        expected = rows_of(main, text, 200)
        for length in range(210, 490, 20):
            begin(main, text[:490])
            with self.counted(main) as calls:
                assert_goes_on(main, text, length, expected, batched=True)
        if main.rewinds == "anywhere":
            assert sum(calls) <= 8, "20 tokens back, everything is still there"

    def test_a_checkpoint_brings_back_what_a_cut_has_lost(self, loaded: Loaded) -> None:
        """As often as it is used, with the same bits; a place behind it is a few tokens away."""
        text, other = some_tokens(500, seed=7), some_tokens(40, seed=8)
        for model, picks in ((loaded.main, 4), (loaded.draft, 1)):
            expected = rows_of(model, text[:80], 60)
            model.rewind(0)
            model.checkpoint(60)
            model.extend(text[:60], picks=0)
            model.start(first := Watching())
            model.extend(text[60 : 60 + picks], picks)
            model.extend(text[60 + picks : 490], picks=0)
            model.extend([1], picks=1)
            for _ in range(3):
                assert model.reach(60) == 60
                model.rewind(60)
                model.start(again := Watching())
                with self.counted(model) as calls:
                    model.extend(text[60 : 60 + picks], picks)
                assert calls == [picks]
                for place in range(61, 61 + picks):
                    np.testing.assert_array_equal(again.rows[place], first.rows[place])
                model.extend(other, picks=0)
                model.extend(other[:9], picks)
            model.rewind(60)
            model.extend(text[60:490], picks=0)
            model.extend([1], picks=1)
            with self.counted(model) as calls:
                assert_goes_on(model, text, 64, expected, batched=picks > 1)
            assert sum(calls) <= 30

    def test_a_checkpoint_is_made_on_the_way_wherever_calls_end(self, loaded: Loaded) -> None:
        text = some_tokens(200, seed=7)
        for model, picks in ((loaded.main, 5), (loaded.draft, 1)):
            expected = rows_of(model, text[:90], 70)
            for checkpoint in (7, 64, 69):
                begin(model, text[:5])
                model.checkpoint(checkpoint)
                model.extend(text[5:74], picks)
                model.extend(text[74:190], picks=0)
                model.extend(text[190:200], picks)
                assert model.reach(72) >= checkpoint
                assert_goes_on(model, text, 72, expected, batched=picks > 1)

    @pytest.mark.parametrize("seed", range(4))
    def test_any_series_of_checkpoints_and_rewinds_is_right(self, loaded: Loaded, seed: int) -> None:
        chance = random.Random(seed)
        for model, most in ((loaded.main, 9), (loaded.draft, 1)):
            begin(model, [])
            text: list[int] = []
            for _ in range(30):
                if text and chance.random() < 0.4:
                    length = model.reach(chance.randrange(len(text) + 1))
                    model.rewind(length)
                    del text[length:]
                if chance.random() < 0.4:
                    model.checkpoint(len(text) + chance.randrange(30))
                added = some_tokens(chance.choice([1, 2, 12, 60]), seed=chance.randrange(99))
                added = added[: 490 - len(text)]
                picks = min(len(added), chance.choice([0, 1, most]))
                model.extend(added, picks)
                text += added
            assert list(model.tokens) == text
            model.start(watching := Watching())
            model.extend([3], picks=1)
            assert_close(watching.rows, rows_of(model, [*text, 3], len(text)))

    def test_checkpoints_of_a_sound_model_pass_their_trial(self, loaded: Loaded) -> None:
        begin(loaded.main, [1, 2, 3])
        assert trial_of_checkpoints(loaded.main)
        assert loaded.main.length == 0

    def test_a_sound_model_passes_the_trial_and_is_left_empty(self, loaded: Loaded) -> None:
        begin(loaded.main, [1, 2, 3])
        assert trial(loaded.main) is None
        assert loaded.main.length == 0


def begin(model: LoadedModel, text: Sequence[int]) -> None:
    """That it holds `text` and nothing of what was there before."""
    model.rewind(0)
    model.start(Sampler(GREEDY, 0, 0))
    model.extend(text, picks=0)


def assert_goes_on(
    model: LoadedModel, text: list[int], length: int, expected: dict[int, Logits], *, batched: bool
) -> None:
    """That it can be cut to `length` and then gives the rows of a fresh one, in a batch and one by one."""
    model.rewind(length)
    model.start(watching := Watching())
    if batched:
        model.extend(text[length : length + 4], picks=4)
        model.rewind(length + 2)
    for token in text[model.length : length + 6]:
        model.extend([token], picks=1)
    assert model.tokens == text[: length + 6]
    assert_close(watching.rows, {place: expected[place] for place in range(length + 1, length + 7)})
