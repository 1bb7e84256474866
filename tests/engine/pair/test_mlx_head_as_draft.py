"""A pair of MLX whose draft is the head of the main model: loaded, measured, asked and closed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlx_lm")


from tests.support.answering import ask
from tests.support.head_models import Headed
from tests.support.mlx_head_models import write_head_folder, write_headed_folder
from tui.choices import HEAD, NONE
from tui.engine import eligibility
from tui.engine.answer.inspection import inspect
from tui.engine.answer.templates import TemplateRenderer
from tui.engine.backends.mlx.head import MlxHead
from tui.engine.pair.pair import Pair, load_pair
from tui.engine.speculation.policy import AdaptiveLength
from tui.engine.states.saved_chats import marks_of
from tui.protocol import Event, Generate, Inspect, Inspected, Load, Message, Sampling

TALK = (
    Message("user", "Which way does the river run?"),
    Message("assistant", "To the sea."),
    Message("user", "And where does it begin?"),
)
HYBRID = Headed("qwen35", layers=2, noise=0.1, own_noise=0.1)
ATTENTION = Headed("glm4moe", layers=2, noise=0.25, own_noise=0.25)

Loader = Callable[..., Pair]


@pytest.fixture
def renderer() -> Iterator[TemplateRenderer]:
    renderer = TemplateRenderer()
    yield renderer
    renderer.close()


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Loader]:
    pairs: list[Pair] = []

    def load(headed: Headed, draft: str = HEAD, *, form: str = "inside", exact: bool = False) -> Pair:
        main = tmp_path / f"{headed.architecture}-{form}"
        if not main.exists():
            write_headed_folder(main, headed, form=form)
        command = Load(str(main), draft, 512, threads=1, exact=exact, backend="mlx")
        pairs.append(load_pair(command, lambda stage, share: True))
        return pairs[-1]

    yield load
    for pair in pairs:
        pair.close()


@pytest.mark.parametrize("headed", [HYBRID, ATTENTION], ids=["hybrid", "attention"])
def test_the_text_is_that_without_it(load: Loader, renderer: TemplateRenderer, headed: Headed) -> None:
    """At each length, also at that of the draft length policy, over the turns of a chat."""
    drafted, plain = load(headed), load(headed, NONE)
    assert isinstance(drafted.draft, MlxHead) and drafted.obstacle is None
    assert isinstance(drafted.policy, AdaptiveLength)
    accepted = 0
    for messages, temperature in ((TALK[:1], 0.0), (TALK, 0.8), (TALK[:1], 0.8)):
        given: dict[str, Any] = {"max_tokens": 30, "sampling": Sampling(temperature=temperature)}
        expected = ask(plain, renderer, messages, **given)
        for length in (3, "auto"):
            found = ask(drafted, renderer, messages, draft_length=length, lookup=length == 3, **given)
            assert found.tokens == expected.tokens, (temperature, length)
            accepted += found.statistics.accepted
    assert accepted


def test_a_canceled_answer_goes_on_with_the_same_tokens(load: Loader, renderer: TemplateRenderer) -> None:
    pair = load(HYBRID)
    whole = ask(pair, renderer, TALK, draft_length=4, max_tokens=40)
    begun = ask(pair, renderer, TALK, cancelled=lambda events: len(events) > 6, draft_length=4, max_tokens=40)
    count = len(begun.tokens)
    assert 0 < count < 40
    ask(pair, renderer, TALK[:1], draft_length=4, max_tokens=10)
    rest = ask(pair, renderer, TALK, draft_length=4, max_tokens=40 - count, resume=tuple(begun.tokens))
    assert [*begun.tokens, *rest.tokens] == whole.tokens


def test_the_inspector_shows_its_candidates(load: Loader, renderer: TemplateRenderer) -> None:
    pair = load(replace(ATTENTION, noise=0, own_noise=0))
    heard = ask(pair, renderer, TALK[:1], draft_length=4, max_tokens=30)
    request = Generate(2, TALK[:1], 11, ignore_eos=True, resume=tuple(heard.tokens))
    events: list[Event] = []
    inspect(pair, Inspect(2, request, 5, 20), events.append, lambda: False, renderer)
    (shown,) = [event for event in events if isinstance(event, Inspected)]
    agreed = [place for place in shown.places if place.draft[0].token == place.main[0].token]
    assert len(shown.places) == 20 and len(agreed) > 17


def test_a_head_in_a_folder_of_its_own_drafts(
    load: Loader, renderer: TemplateRenderer, tmp_path: Path
) -> None:
    own = write_head_folder(tmp_path / "own", HYBRID)
    pair = load(HYBRID, str(own), form="none")
    assert isinstance(pair.draft, MlxHead) and pair.draft.facts.path == str(own)
    heard = ask(pair, renderer, TALK, draft_length=2, max_tokens=30)
    assert heard.statistics.accepted
    kept, its = marks_of(pair, Load(str(tmp_path / "qwen35-none"), str(own), 512, backend="mlx"))
    assert kept.group != its.group


def test_without_a_head_the_reason_is_given(load: Loader, renderer: TemplateRenderer, tmp_path: Path) -> None:
    without = load(HYBRID, form="none")
    assert (without.draft, without.obstacle) == (None, eligibility.NO_HEAD)
    assert len(ask(without, renderer, max_tokens=10).tokens) == 10
    other = load(ATTENTION, str(write_head_folder(tmp_path / "own", HYBRID)))
    assert other.draft is None and other.obstacle and "another model" in other.obstacle.text
    assert len(ask(other, renderer, max_tokens=10).tokens) == 10
