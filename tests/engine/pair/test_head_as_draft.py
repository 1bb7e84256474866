"""A pair whose draft is the head of the main model: loaded, measured, asked and closed as any other pair."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support import models
from tests.support.answering import ask
from tests.support.head_models import Headed, write_headed
from tui.choices import HEAD, LOOKUP, NONE
from tui.engine import eligibility
from tui.engine.answer.inspection import inspect
from tui.engine.answer.templates import TemplateRenderer
from tui.engine.backends import GivenUp, ModelError, Options
from tui.engine.backends.llama_cpp import LlamaBackend, chain, native
from tui.engine.backends.llama_cpp.head import LlamaHead
from tui.engine.backends.llama_cpp.rollback import HEAD_COPIES
from tui.engine.pair.costs import RememberedCosts
from tui.engine.pair.memory_plan import plan
from tui.engine.pair.pair import Pair, load_pair
from tui.engine.pair.practice import Practice
from tui.engine.speculation.policy import AdaptiveLength
from tui.paths import find_costs
from tui.protocol import Event, Generate, Inspect, Inspected, Load, Message, Origin, Sampling

TALK = (
    Message("user", "Which way does the river run?"),
    Message("assistant", "To the sea."),
    Message("user", "And where does it begin?"),
)

Loader = Callable[..., Pair]
HYBRID = Headed()


@pytest.fixture
def renderer() -> Iterator[TemplateRenderer]:
    renderer = TemplateRenderer()
    yield renderer
    renderer.close()


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Loader]:
    pairs: list[Pair] = []

    def load(headed: Headed = HYBRID, draft: str = HEAD, *, exact: bool = False) -> Pair:
        path = tmp_path / f"{headed.architecture}-{headed.noise}.gguf"
        main = path if path.exists() else write_headed(path, headed)
        pairs.append(
            load_pair(Load(str(main), draft, 1024, threads=1, exact=exact), lambda stage, share: True)
        )
        return pairs[-1]

    yield load
    for pair in pairs:
        pair.close()


def test_it_drafts_in_every_answer_of_a_chat(load: Loader, renderer: TemplateRenderer) -> None:
    pair = load()
    assert isinstance(pair.draft, LlamaHead) and pair.obstacle is None
    assert (pair.draft.facts.name, pair.draft.facts.path) == ("MTP head", HEAD)
    assert 0 < pair.draft.facts.size < pair.main.facts.size
    for messages in (TALK[:1], TALK, TALK[:1]):
        for length in (3, "auto"):
            heard = ask(pair, renderer, messages, draft_length=length, max_tokens=120)
            assert heard.statistics.tokens == 120
            if length == 3:
                assert heard.statistics.accepted > 0.85 * heard.statistics.drafted


def test_its_tokens_have_an_origin_of_their_own(load: Loader, renderer: TemplateRenderer) -> None:
    pair = load(Headed("glm4moe"))
    heard = ask(pair, renderer, TALK, draft_length=3, max_tokens=60)
    assert pair.draft and pair.draft.facts.is_head and not pair.main.facts.is_head
    origins = {origin for each in heard.rounds for text, origin in each.pieces if text}
    assert Origin.HEAD in origins
    assert Origin.DRAFT not in origins


def test_its_costs_are_measured_and_kept_apart_from_those_without_it(load: Loader) -> None:
    pair = load()
    assert isinstance(pair.policy, AdaptiveLength) and pair.practice
    costs = pair.policy.costs
    assert costs.read > 0 and costs.draft > 0 and costs.verify[0] > 0
    rounds: list[int] = []
    with suppress(GivenUp):  # a slow call is ended
        pair.practise(lambda: rounds.append(1) or len(rounds) < 40)
    assert pair.main.length == pair.draft.length == 0  # type: ignore[union-attr]
    pair.remember()
    with_head, without = (RememberedCosts(find_costs(), each, ["x"]) for each in (pair.models, [pair.main]))
    with_head.keep(pair.policy)
    assert with_head.recall(None) is not None and without.recall(None) is None


def test_practice_leaves_a_chat_as_it_was(load: Loader, renderer: TemplateRenderer) -> None:
    pair = load(Headed("glm4moe"))
    first = ask(pair, renderer, TALK[:1], draft_length=4, max_tokens=60)
    held = pair.main.length
    assert pair.draft
    Practice(pair.main, pair.draft, pair.policy.costs).run(iter([True] * 30 + [False] * 30).__next__)  # type: ignore[attr-defined]
    assert pair.main.length == held
    again = ask(pair, renderer, TALK[:1], draft_length=4, max_tokens=60)
    assert again.tokens == first.tokens
    assert again.statistics.accepted > 0.8 * again.statistics.drafted


@pytest.mark.parametrize("length", [16, "auto"])
def test_a_hybrid_never_drafts_more_than_it_can_take_back(
    load: Loader, renderer: TemplateRenderer, length: int | str
) -> None:
    pair = load()
    assert pair.longest_draft == HEAD_COPIES
    heard = ask(pair, renderer, draft_length=length, max_tokens=150)
    assert max(each.drafted for each in heard.rounds) <= HEAD_COPIES


def test_the_text_is_that_without_it(load: Loader, renderer: TemplateRenderer) -> None:
    headed = Headed(noise=0.15)
    drafted, plain = load(headed), load(headed, NONE)
    for messages in (TALK[:1], TALK):
        for temperature in (0.0, 0.9):
            given: dict[str, Any] = {"max_tokens": 80, "sampling": Sampling(temperature=temperature)}
            expected = ask(plain, renderer, messages, **given)
            found = ask(drafted, renderer, messages, draft_length=4, lookup=True, **given)
            assert found.text == expected.text
            assert found.statistics.accepted


def test_exact_mode_drafts_with_it(load: Loader, renderer: TemplateRenderer) -> None:
    pair = load(Headed("glm4moe"), exact=True)
    expected = ask(pair, renderer, draft_length=0, max_tokens=60)
    if pair.draft:  # on this machine several rows have the bits of single ones
        found = ask(pair, renderer, draft_length=2, max_tokens=60)
        assert found.tokens == expected.tokens
        assert found.statistics.accepted > 0.8 * found.statistics.drafted


def test_the_inspector_shows_its_candidates(load: Loader, renderer: TemplateRenderer) -> None:
    pair = load()
    heard = ask(pair, renderer, TALK[:1], draft_length=4, max_tokens=60)
    request = Generate(2, TALK[:1], 11, ignore_eos=True, resume=tuple(heard.tokens))
    events: list[Event] = []
    ask(pair, renderer, TALK, max_tokens=20)
    inspect(pair, Inspect(2, request, 10, 40), events.append, lambda: False, renderer)
    (shown,) = [event for event in events if isinstance(event, Inspected)]
    agreed = [place for place in shown.places if place.draft[0].token == place.main[0].token]
    assert len(shown.places) == 40 and len(agreed) > 36


def test_without_a_head_the_reason_is_given_and_the_lookup_stays(
    tmp_path: Path, load: Loader, renderer: TemplateRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = models.write_model(tmp_path / "toy.gguf")
    pair = load_pair(Load(str(path), HEAD, 256, threads=1), lambda *_: True)
    assert (pair.draft, pair.obstacle) == (None, eligibility.NO_HEAD)
    assert pair.lookup and len(ask(pair, renderer).tokens) == 30
    pair.close()
    scripted = load_pair(Load("scripted:sample", HEAD), lambda *_: True)
    assert scripted.obstacle == eligibility.NO_HEAD
    monkeypatch.setattr(native, "extensions", lambda: None)
    lacking = load()
    assert (lacking.draft, lacking.obstacle) == (None, eligibility.NO_HEADS_HERE)
    assert len(ask(lacking, renderer).tokens) == 30


def test_a_head_that_does_not_fit_leaves_its_main_model_loaded(
    load: Loader, renderer: TemplateRenderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "new_context", lambda *_: 0)
    without = load()
    assert without.draft is None and without.obstacle and "memory for the head" in without.obstacle.text
    assert len(ask(without, renderer).tokens) == 30
    opened = LlamaBackend._open

    def open_small(self: LlamaBackend, path: str, options: Options, *rest: Any, **more: Any) -> int:
        if options.head:
            raise ModelError("the weights of the head do not fit")
        return opened(self, path, options, *rest, **more)

    monkeypatch.setattr(LlamaBackend, "_open", open_small)
    smaller = load()
    assert smaller.draft is None and smaller.obstacle and "do not fit" in smaller.obstacle.text
    assert len(ask(smaller, renderer).tokens) == 30


def test_its_cache_is_planned(tmp_path: Path) -> None:
    headed = Headed("glm4moe")  # no hybrid: fewer copies of its state would hide the cache of the head
    path = str(write_headed(tmp_path / "headed.gguf", headed))
    with_head, without = (plan(Load(path, draft, 1024)).uses[-1] for draft in (HEAD, NONE))
    cells = 2 * 2 * 2 * 16 * 1024  # keys and values of 16 bits: two heads of 16 numbers
    assert with_head.cache - without.cache == pytest.approx(cells, rel=0.05)  # the library rounds its figure
    assert with_head.buffers > without.buffers


def test_a_head_is_closed_before_its_main_model(load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    pair, closed = load(), []
    for model in pair.models:
        close = model.close
        monkeypatch.setattr(model, "close", lambda model=model, close=close: (closed.append(model), close()))
    pair.close()
    assert closed == [pair.draft, pair.main]


def test_other_drafts_of_such_a_file_do_without_its_head(load: Loader) -> None:
    for draft in (LOOKUP, NONE):
        pair = load(draft=draft)
        assert pair.draft is None and pair.obstacle is None
        assert not pair.main.head  # type: ignore[attr-defined]
