"""Several heads draft in a row: each at its place, with the keys and values that it would have alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.head_models import Headed, write_headed
from tests.support.rows import GREEDY, Watching, some_tokens
from tests.support.talk import Talk
from tui.engine.backends import GivenUp, ModelError, Options
from tui.engine.backends.kept_rows import WAITING
from tui.engine.backends.llama_cpp import LlamaBackend
from tui.engine.backends.llama_cpp.chain import HeadChain
from tui.engine.backends.llama_cpp.head import LlamaHead
from tui.engine.backends.llama_cpp.model import LlamaModel
from tui.engine.library.header import read_header
from tui.engine.pair.memory_plan import plan
from tui.engine.speculation.sampling import Logits, Sampler
from tui.protocol import Load

THREE = Headed("hy_v3", heads=3)
KINDS = {"all rows": THREE, "own rows of outputs only": Headed("step35", heads=3)}
NOISY = {name: replace(each, noise=0.1, own_noise=0.3) for name, each in KINDS.items()}
STEPS = 5
"""Tokens of a draft: more than heads."""
ROUND = 5
CLOSE = 1e-2
"""Difference of two scores by rounding: calls of other sizes round otherwise, and the cache has 16 bits."""

Open = Callable[[Headed], tuple[LlamaModel, HeadChain]]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens a model with its heads."""
    pairs: list[tuple[LlamaModel, HeadChain]] = []
    backend = LlamaBackend()

    def open_pair(headed: Headed) -> tuple[LlamaModel, HeadChain]:
        options = Options("main", 2048, threads=1, head=True)
        path = write_headed(tmp_path / "main.gguf", headed)
        main = backend.load(str(path), options, lambda _: True)
        head = backend.load_head(main, replace(options, role="draft"))
        assert isinstance(head, HeadChain)
        pairs.append((main, head))
        return main, head

    yield open_pair
    for main, head in pairs:
        head.close()
        main.close()


def drafted(main: LlamaModel, head: LlamaHead, text: Sequence[int], place: int, steps: int) -> list[Logits]:
    """The rows of a draft of the tokens of `text` behind `place`, which the main model then takes back."""
    head.start(watching := Watching())
    if place > main.length:
        main.extend(text[main.length : place], picks=1)  # without a choice, the heads would read along
    for end in range(place + 1, place + 1 + steps):
        head.extend(text[head.length : end], picks=1)
    main.extend(text[place : place + steps], picks=steps)
    main.rewind(place + 1)
    head.rewind(place + 1)
    return [watching.rows[end] for end in range(place + 1, place + 1 + steps)]


@pytest.mark.parametrize("kind", NOISY)
def test_each_head_goes_on_from_the_cells_of_a_fresh_one(opened: Open, kind: str) -> None:
    """Behind drafts of all lengths with rejected tokens, and behind many drafts of one token."""
    main, head = opened(NOISY[kind])
    text = some_tokens(700)
    main.start(Sampler(GREEDY, 0, 0))
    lengths = [1, 2, 3, 4, 5, 5, 1, *[1] * 60, 5, 3]
    places = range(20, 20 + ROUND * len(lengths), ROUND)
    main.extend(text[:19], picks=0)
    seen = [drafted(main, head, text, place, steps) for place, steps in zip(places, lengths, strict=True)]
    assert head.length > 3 * WAITING
    for place, rows in zip(places, seen, strict=True):
        if place in (*places[:8], *places[-3:]):
            head.rewind(0)
            main.rewind(0)
            main.extend(text[: place - 1], picks=0)
            np.testing.assert_allclose(rows, drafted(main, head, text, place, len(rows)), atol=CLOSE)


def test_rows_wait_for_the_later_heads_only_as_long_as_they_are_kept(opened: Open) -> None:
    main, head = opened(THREE)
    talk, prompt = Talk(main, head), some_tokens(1300)
    short = talk.answer(prompt, 500, length=1)
    assert short.acceptance > 0.9
    assert 0 < main.length - min(head._others) <= WAITING + 2
    deep = talk.answer([*prompt, *short.tokens], 60, length=STEPS)
    assert deep.acceptance > 0.9


def test_no_call_is_longer_than_the_library_takes(opened: Open) -> None:
    """The second head has read nothing, and the first one reads a whole call before it chooses."""
    main, head = opened(NOISY["all rows"])
    text = some_tokens(main.chunk + STEPS)
    main.extend(text[: main.chunk - 1], picks=0)
    main.start(Sampler(GREEDY, 0, 0))
    expected = drafted(main, head, text, main.chunk - 1, STEPS)
    main.rewind(main.chunk - 1)
    head.rewind(0)
    np.testing.assert_allclose(drafted(main, head, text, main.chunk - 1, STEPS), expected, atol=CLOSE)


def test_a_head_out_of_turn_is_wrong(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the toys would show nothing."""
    main, head = opened(THREE)
    talk = Talk(main, head)
    assert talk.answer(some_tokens(30), 60, length=3, chain=GREEDY).acceptance > 0.9
    select = head._select
    monkeypatch.setattr(head, "_select", lambda context, number: select(context, 0))
    assert talk.answer(some_tokens(30), 60, length=3, chain=GREEDY).acceptance < 0.6


def test_the_keys_and_values_of_all_heads_are_saved(opened: Open) -> None:
    main, head = opened(NOISY["all rows"])
    text = some_tokens(300)
    main.start(Sampler(GREEDY, 0, 0))
    for place in range(20, 60, ROUND):  # the later heads wait
        drafted(main, head, text, place, 1)
    held = main.length
    assert min(head._others) < held
    states = main.take_state(1 << 30), head.take_state(1 << 30)
    assert states[0] and states[1]
    assert len(states[1].tokens) == held
    expected = drafted(main, head, text, held + 2, STEPS)
    for model, state in zip((main, head), states, strict=True):
        model.rewind(0)
        assert model.put_state(state)
    np.testing.assert_allclose(drafted(main, head, text, held + 2, STEPS), expected, atol=CLOSE)


@pytest.mark.parametrize("error", [ModelError("the head is broken"), GivenUp("it is not wanted")])
@pytest.mark.parametrize("failing", [1, 2, 3, 4])
def test_it_goes_on_after_a_call_that_failed(
    opened: Open, monkeypatch: pytest.MonkeyPatch, error: Exception, failing: int
) -> None:
    main, head = opened(THREE)
    talk, prompt = Talk(main, head), some_tokens(200)
    talk.answer(prompt[:90], 20, length=STEPS)
    fill, calls = head._batch.fill, 0

    def broken(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise error
        return fill(*given)

    with monkeypatch.context() as patch:
        patch.setattr(head._batch, "fill", broken)
        head.start(Watching())
        main.rewind(50)
        head.rewind(50)
        main.extend(prompt[50:60], picks=1)
        with pytest.raises(type(error)):
            for end in range(61, 66):
                head.extend(prompt[head.length : end], picks=1)
    assert talk.answer(prompt, 60, length=STEPS).acceptance > 0.9


def test_the_header_counts_the_heads_that_are_whole(tmp_path: Path) -> None:
    def usable(headed: Headed) -> int:
        return read_header(write_headed(tmp_path / "some.gguf", headed)).usable_heads

    assert usable(THREE) == 3
    assert usable(replace(THREE, without=("blk.6.nextn.hnorm",))) == 2
    assert usable(replace(THREE, without=("blk.5.nextn.hnorm",))) == 1
    assert usable(replace(THREE, without=("blk.4.nextn.hnorm",))) == 0
    assert usable(Headed("glm4moe", heads=2)) == 0, "llama.cpp ends the process on the second head"


def test_the_caches_of_all_heads_are_planned(tmp_path: Path) -> None:
    one, three = (
        plan(Load(str(write_headed(tmp_path / f"{heads}.gguf", replace(THREE, heads=heads))), "head", 4096))
        for heads in (1, 3)
    )
    more = three.uses[-1].cache - one.uses[-1].cache
    assert more == 2 * 4096 * 2 * 2 * 16 * 2, "keys and values of two more layers, in 16 bits"


def test_the_name_tells_how_many_heads_draft(opened: Open) -> None:
    _, head = opened(THREE)
    assert head.facts.name == "3 MTP heads"
