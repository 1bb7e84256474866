"""A pair whose draft is a head in a file of its own: loaded, measured, asked and closed as any other pair."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import models
from tests.support.answering import ask
from tests.support.assistant_models import write_assistant, write_gemma
from tests.support.eagle_models import Eagle, write_eagle
from tests.support.head_models import Headed, write_headed
from tui.choices import NONE
from tui.engine.answer.templates import TemplateRenderer
from tui.engine.backends.llama_cpp import LlamaBackend
from tui.engine.backends.llama_cpp.assistant import AssistantHead
from tui.engine.backends.llama_cpp.eagle import EagleHead
from tui.engine.pair.memory_plan import plan
from tui.engine.pair.pair import Pair, load_pair
from tui.engine.pair.practice import Practice
from tui.engine.speculation.policy import AdaptiveLength
from tui.protocol import Load, Message, Origin, Sampling

TALK = (
    Message("user", "Which way does the river run?"),
    Message("assistant", "To the sea."),
    Message("user", "And where does it begin?"),
)
EAGLE = Eagle(own_noise=0.05)

Loader = Callable[..., Pair]


@pytest.fixture
def renderer() -> Iterator[TemplateRenderer]:
    renderer = TemplateRenderer()
    yield renderer
    renderer.close()


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Loader]:
    pairs: list[Pair] = []

    def load(eagle: Eagle | None = EAGLE, *, architecture: Any = "llama", exact: bool = False) -> Pair:
        main = write_headed(tmp_path / f"{architecture}.gguf", Headed(architecture))
        draft = str(write_eagle(tmp_path / "eagle.gguf", eagle)) if eagle else NONE
        wish = Load(str(main), draft, 1024, threads=1, exact=exact)
        pairs.append(load_pair(wish, lambda stage, share: True))
        return pairs[-1]

    yield load
    for pair in pairs:
        pair.close()


def test_its_tokens_have_the_origin_of_a_head(load: Loader, renderer: TemplateRenderer) -> None:
    heard = ask(load(), renderer, TALK, draft_length=3, max_tokens=60)
    origins = {origin for each in heard.rounds for text, origin in each.pieces if text}
    assert Origin.HEAD in origins
    assert Origin.DRAFT not in origins


@pytest.mark.parametrize("architecture", ["llama", "qwen35"])
def test_the_text_is_that_without_it(load: Loader, renderer: TemplateRenderer, architecture: str) -> None:
    drafted, plain = load(architecture=architecture), load(None, architecture=architecture)
    assert isinstance(drafted.draft, EagleHead) and drafted.obstacle is None
    assert drafted.draft.facts.head == "eagle3"
    for messages in (TALK[:1], TALK):
        for temperature, length in ((0.0, 4), (0.9, 4), (0.9, "auto")):
            given: dict[str, Any] = {"max_tokens": 80, "sampling": Sampling(temperature=temperature)}
            expected = ask(plain, renderer, messages, **given)
            found = ask(drafted, renderer, messages, draft_length=length, lookup=True, **given)
            assert found.text == expected.text
            assert found.statistics.accepted or length == "auto"  # the policy may find that it does not pay


@pytest.mark.parametrize("exact", [False, True])
def test_an_assistant_is_a_draft_like_any_other(
    tmp_path: Path, renderer: TemplateRenderer, exact: bool
) -> None:
    main, head = write_gemma(tmp_path / "main.gguf"), write_assistant(tmp_path / "assistant.gguf")
    plain = load_pair(Load(str(main), NONE, 1024, threads=1, exact=exact), lambda *_: True)
    pair = load_pair(Load(str(main), str(head), 1024, threads=1, exact=exact), lambda *_: True)
    if not (exact and pair.draft is None):  # exact mode may find no two rows with the bits of single ones
        assert isinstance(pair.draft, AssistantHead), pair.obstacle
        for messages in (TALK[:1], TALK, TALK[:1]):
            expected = ask(plain, renderer, messages, max_tokens=60)
            found = ask(pair, renderer, messages, draft_length=3, max_tokens=60)
            assert found.text == expected.text
            assert found.statistics.accepted > 0.8 * found.statistics.drafted
            if isinstance(pair.policy, AdaptiveLength):
                Practice(pair.main, pair.draft, pair.policy.costs).run(
                    iter([True] * 20 + [False] * 9).__next__
                )
    for each in (pair, plain):
        each.close()


def test_its_costs_are_measured_and_practice_leaves_a_chat_as_it_was(
    load: Loader, renderer: TemplateRenderer
) -> None:
    pair = load()
    assert isinstance(pair.policy, AdaptiveLength) and pair.draft
    assert pair.policy.costs.draft > 0
    first = ask(pair, renderer, TALK[:1], draft_length=4, max_tokens=60)
    held = pair.main.length
    Practice(pair.main, pair.draft, pair.policy.costs).run(iter([True] * 30 + [False] * 30).__next__)
    assert pair.main.length == held
    again = ask(pair, renderer, TALK[:1], draft_length=4, max_tokens=60)
    assert again.tokens == first.tokens
    assert again.statistics.accepted > 0.7 * again.statistics.drafted


def test_exact_mode_drafts_with_it(load: Loader, renderer: TemplateRenderer) -> None:
    pair = load(exact=True)
    expected = ask(pair, renderer, draft_length=0, max_tokens=60)
    if pair.draft:  # on this machine several rows have the bits of single ones
        found = ask(pair, renderer, draft_length=2, max_tokens=60)
        assert found.tokens == expected.tokens
        assert found.statistics.accepted > 0.8 * found.statistics.drafted


def test_the_head_of_another_model_gives_the_reason_and_leaves_the_lookup(
    tmp_path: Path, load: Loader, renderer: TemplateRenderer
) -> None:
    pair = load(Eagle(layers=(1, 2, 7)))
    assert pair.draft is None and pair.obstacle and "reads layer 7" in pair.obstacle.text
    assert pair.lookup and len(ask(pair, renderer).tokens) == 30
    main = models.write_model(tmp_path / "toy.gguf", models.Toy("gemma3"))
    head = write_eagle(tmp_path / "eagle.gguf")
    other = load_pair(Load(str(main), str(head), 256, threads=1), lambda *_: True)
    assert other.draft is None and other.obstacle and "'gemma3'" in other.obstacle.text
    other.close()


def test_both_are_closed_once(load: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    pair, freed = load(), []
    library: Any = LlamaBackend()._library
    free = library.llama_model_free
    monkeypatch.setattr(library, "llama_model_free", lambda model: (freed.append(model), free(model)))
    head: Any = pair.draft
    expected = [head._model, pair.main.model]  # type: ignore[attr-defined]
    pair.close()
    pair.close()
    assert freed == expected, "the head first"


def test_its_memory_is_planned(tmp_path: Path) -> None:
    main, head = write_headed(tmp_path / "main.gguf", Headed("llama")), write_eagle(tmp_path / "eagle.gguf")
    with_head = plan(Load(str(main), str(head), 4096)).uses[-1]
    alone = plan(Load(str(main), NONE, 4096)).uses[-1]
    assert with_head.draft > 0 == alone.draft
    cell = 2 * 64 * 2  # bytes of keys and values of the one layer, in 16 bits
    assert with_head.cache - alone.cache == 4096 * cell
    assert with_head.buffers > alone.buffers
