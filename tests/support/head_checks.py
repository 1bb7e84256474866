"""The promises that every head keeps, whatever its kind and its library.

A perfect head proposes what the main model will choose. In a noisy pair, the main model has parts that the
head lacks, or the other way round, so that some tokens are rejected.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tests.support.rows import GREEDY, Watching, some_tokens
from tests.support.talk import Talk
from tui.engine.backends import LoadedModel, Portable
from tui.engine.backends.grammars import of_gbnf
from tui.engine.speculation.sampling import Chain, Logits, Sampler

LENGTHS = (1, 2, 4, 8)


def check_same_text(
    alone: Talk, talk: Talk, count: int, temperatures: Iterable[float] = (0.0, 0.8, 1.0),
    lengths: Sequence[int] = LENGTHS,
) -> None:  # fmt: skip
    """A noisy pair writes the text of the main model alone, at every temperature and draft length."""
    prompt = some_tokens(30)
    drafted = accepted = 0
    for temperature in temperatures:
        expected = alone.answer(prompt, count, length=0, chain=Chain(temperature)).tokens
        for length in lengths:
            found = talk.answer(prompt, count, length=length, chain=Chain(temperature))
            assert found.tokens == expected, (temperature, length)
            drafted, accepted = drafted + found.drafted, accepted + found.accepted
    assert 0.1 < accepted / drafted < 0.95, "tokens must be accepted and rejected, or this shows little"


def check_wherever_a_chat_goes(talk: Talk, sure: float, prompt: int = 700, count: int = 60) -> None:
    """A perfect head reads the right rows after more text, an edit, a repeat, a cut far back, a new chat."""
    first = some_tokens(prompt)
    answer = talk.answer(first, 40)
    second = [*first, *answer.tokens, *some_tokens(30, seed=2)]
    edited = [*first[: prompt - 50], *some_tokens(50, seed=3)]
    far_back = [*first[: prompt // 3], *some_tokens(40, seed=4)]
    for text in (second, edited, second, first, first, far_back, some_tokens(10, seed=5), second):
        assert talk.answer(text, count).acceptance > sure, len(text)


def check_an_end_between_rounds(alone: Talk, talk: Talk, count: int = 50) -> None:
    """A noisy pair: canceled, continued, asked again, branched in the middle, changed at the end."""
    prompt = some_tokens(40)
    begun = talk.answer(prompt, 2 * count, length=8, rounds=5).tokens
    for context in ([*prompt, *begun], prompt, [*prompt, *begun[:3], 7], [*prompt[:20], 9, 9], [7]):
        expected = alone.answer(context, count, length=0).tokens
        assert talk.answer(context, count, length=4).tokens == expected
        cut_short = talk.answer(context, count, length=4, rounds=2).tokens
        assert cut_short == expected[: len(cut_short)]


def check_penalties_and_grammars(alone: Talk, talk: Talk, count: int = 60) -> None:
    """A noisy pair obeys them as the main model alone does."""
    penalties = Chain(0.8, repeat_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.2)
    grammar = of_gbnf('root ::= ([a-z] | " ")*')
    ways: tuple[dict[str, Any], ...] = (
        {"chain": penalties}, {"grammar": grammar}, {"chain": GREEDY, "grammar": grammar},
    )  # fmt: skip
    for given in ways:
        found = talk.answer(some_tokens(30), count, **given)
        assert found.tokens == alone.answer(some_tokens(30), count, length=0, **given).tokens
        assert found.accepted, given


def check_rewinds(main: LoadedModel, head: LoadedModel, rounds: int = 16, close: float = 1e-4) -> None:
    """After rounds with rejected tokens, a head gives the rows of one that drafted nothing."""
    with_rounds = _rows_at_each_round(main, head, rounds, draft=True)
    without = _rows_at_each_round(main, head, rounds, draft=False)
    assert len(with_rounds) == rounds and with_rounds.keys() == without.keys()
    for place, row in with_rounds.items():
        np.testing.assert_allclose(row, without[place], atol=close)


def check_wakes(
    before: tuple[LoadedModel, LoadedModel], after: tuple[LoadedModel, LoadedModel], close: float = 1e-3
) -> None:
    """The rows behind a saved state, and behind the checkpoint in it, are those of an unbroken chat."""
    text, checkpoint, end = some_tokens(300), 40, 200

    def behind(pair: tuple[LoadedModel, LoadedModel], tokens: list[int]) -> list[Logits]:
        """The head's rows behind `tokens`, and behind one more."""
        main, head = pair
        main.start(Sampler(GREEDY, 0, 0))
        head.start(watching := Watching())
        for length in (len(tokens), len(tokens) + 1):
            main.extend(tokens[main.length : length - 1], picks=1)
            head.extend([*tokens, 9][head.length : length], picks=1)
        return [watching.rows[len(tokens)], watching.rows[len(tokens) + 1]]

    main, head = before
    main.rewind(0)
    main.checkpoint(checkpoint)
    for stop in (checkpoint, end):
        main.extend(text[main.length : stop], picks=0)
    states = [model.take_state(1 << 30) for model in before if isinstance(model, Portable)]
    expected = behind(before, text[: end + 2])
    main.rewind(checkpoint)
    other = [*text[:checkpoint], *some_tokens(20, seed=8)]
    head.rewind(min(head.length, checkpoint))
    from_checkpoint = behind(before, other)
    for model, state in zip(after, states, strict=True):
        assert isinstance(model, Portable) and state is not None and model.put_state(state)
    np.testing.assert_allclose(behind(after, text[: end + 2]), expected, atol=close)
    for model, state in zip(after, states, strict=True):
        assert isinstance(model, Portable) and state is not None and model.put_state(state)
    after[0].rewind(checkpoint)
    after[1].rewind(checkpoint)
    np.testing.assert_allclose(behind(after, other), from_checkpoint, atol=close)


def _rows_at_each_round(
    main: LoadedModel, head: LoadedModel, rounds: int, *, draft: bool
) -> dict[int, Logits]:
    """The head's row at the first token of each round, by its place."""
    text = some_tokens(40 + 5 * rounds)
    for model in (main, head):
        model.rewind(0)
    main.start(Sampler(GREEDY, 0, 0))
    head.start(watching := Watching())
    main.extend(text[:20], picks=0)
    for place in range(20, 20 + 5 * rounds, 5):
        head.extend(text[head.length : place + 1], picks=1)
        if draft:  # the head drafts on, and the main model accepts two of four tokens
            for token in (*text[place + 1 : place + 3], 3):
                head.extend([token], picks=1)
            main.extend([*text[place : place + 3], 3, 1], picks=5)
            main.rewind(place + 3)
            head.rewind(place + 3)
        main.extend(text[main.length : place + 5], picks=2)  # without a choice, the head would read along
    return {place: row for place, row in watching.rows.items() if place % 5 == 1}


def check_cuts_to_older_places(
    main: LoadedModel, head: LoadedModel, chunk: int, *, anywhere: bool, long: int = 1500, close: float = 1e-3
) -> None:
    """The rows there are gone: a checkpoint has kept its own, or the main model runs a token again."""
    before, checkpoint = some_tokens(long), 40

    def behind(text: list[int]) -> Logits:
        """The head's row behind `text`, whose last token only the head reads."""
        main.start(Sampler(GREEDY, 0, 0))
        main.checkpoint(checkpoint)
        for place in range(main.length, len(text) - 1, chunk):
            main.extend(text[place : min(place + chunk, len(text) - 1)], picks=0)
        assert head.length == main.length, "it reads along"
        head.start(watching := Watching())
        head.extend(text[-1:], picks=1)
        return watching.rows[len(text)]

    at_once = () if anywhere else ((checkpoint, 1),)  # others first run a token again
    for kept, more in (*at_once, (checkpoint, 2), (7, 6), (1, 3), (0, long - 200)):
        text = [*before[:kept], *some_tokens(more, seed=5)]
        for model in (main, head):
            model.rewind(0)
        expected = behind(text)
        main.rewind(0)
        behind(before)
        main.rewind(main.reach(kept))
        np.testing.assert_allclose(behind(text), expected, atol=close)
