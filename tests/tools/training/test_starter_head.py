"""The built-in head drafts for the main model of the demo, changes no text, and is accepted as measured."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.answering import ask
from tests.support.paths import ROOT
from tests.support.rows import Watching
from tests.support.starter import tokens_of
from tests.support.talk import Talk
from tui.engine.answer.templates import TemplateRenderer
from tui.engine.backends.llama_cpp.eagle import EagleHead
from tui.engine.library.describe import describe
from tui.engine.library.find import candidate
from tui.engine.pair.pair import Pair, load_pair
from tui.engine.speculation.sampling import Chain
from tui.engine.starter import DRAFT, HEAD, MAIN
from tui.protocol import Load, Message, Sampling

QUESTIONS = [
    str(entry["ask"])
    for entry in tomllib.loads((ROOT / "tools" / "training" / "questions.toml").read_text())["question"][::10]
]
ACCEPTED = 0.9
"""Of the drafted tokens of a round of four. On an Intel Xeon 98 % were accepted, at both temperatures."""
CLOSE = 0.5
"""How far scores may lie apart: llama.cpp also rounds the vectors to 8 bits. Scores of two tokens differ by
several whole numbers."""


def loaded(draft: str) -> Pair:
    return load_pair(Load(str(MAIN), draft, 1024, threads=1), lambda *_: True)


@pytest.fixture(scope="module")
def renderer() -> Iterator[TemplateRenderer]:
    renderer = TemplateRenderer()
    yield renderer
    renderer.close()


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    pair = loaded(str(HEAD))
    yield pair
    pair.close()


def test_it_is_a_small_head_of_a_file_of_its_own(pair: Pair) -> None:
    assert isinstance(pair.draft, EagleHead), pair.obstacle
    found = describe(candidate(HEAD))
    assert (found.head, found.only_head) == ("eagle3", True)
    assert HEAD.stat().st_size <= 1_000_000


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_it_is_accepted_and_changes_no_text(
    pair: Pair, renderer: TemplateRenderer, temperature: float
) -> None:
    assert len(QUESTIONS) >= 10
    drafted = accepted = 0
    for seed, question in enumerate(QUESTIONS):
        sampling, talk = Sampling(temperature=temperature), (Message("user", question),)
        given: dict[str, Any] = {
            "seed": seed, "sampling": sampling, "ignore_eos": False, "max_tokens": 200,
        }  # fmt: skip
        found = ask(pair, renderer, talk, draft_length=4, **given)
        assert found.text == ask(pair, renderer, talk, draft_length=0, **given).text, question
        drafted, accepted = drafted + found.statistics.drafted, accepted + found.statistics.accepted
    assert drafted > 300
    assert accepted / drafted > ACCEPTED


def test_llama_cpp_computes_the_scores_that_pytorch_computes(pair: Pair) -> None:
    """Runs where PyTorch is installed, as for a training."""
    torch = pytest.importorskip("torch")
    from tools.training.eagle_export import read_eagle
    from tools.training.export import read_gguf

    model, _ = read_gguf(MAIN)
    head = read_eagle(HEAD, model)
    assert pair.draft
    for question in QUESTIONS[:4]:
        text = tokens_of(pair.main, question)
        text += Talk(pair.main).answer(text, 24, length=0, chain=Chain(temperature=0)).tokens
        with torch.no_grad():
            inputs, vectors = model.read(torch.tensor([text]), head.shape.layers)
            rows = [head.scores(step)[0] for step in head.steps(inputs, torch.tensor([text]), 4)]
            expected = model.scores(vectors)[0]
        read = len(text) - 8
        main, drafted = rows_of(pair, text, read)
        for length, row in main.items():
            np.testing.assert_allclose(row, expected[length - 1], atol=CLOSE)
        for step, row in enumerate(rows):  # the row at index i is that of the token i + 1
            found = drafted[read + step]
            np.testing.assert_allclose(found[head.listed], row[read + step - 2], atol=CLOSE)
            assert np.isneginf(np.delete(found, head.listed)).all()


def rows_of(pair: Pair, text: list[int], read: int) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """The scores of both models, by the number of tokens before. The head drafts behind `read` tokens.

    As in a round, the main model has not read the last of them.
    """
    assert pair.draft
    main, draft = Watching(), Watching()
    for model, watching in ((pair.main, main), (pair.draft, draft)):
        model.rewind(0)
        model.start(watching)
    pair.main.extend(text[: read - 1], picks=1)
    pair.draft.extend(text[pair.draft.length : read], picks=1)  # it may have read along
    for token in text[read : read + 3]:
        pair.draft.extend([token], picks=1)
    return main.rows, draft.rows


def test_it_lies_beside_the_pair() -> None:
    assert {each.parent for each in (MAIN, DRAFT, HEAD)} == {Path(MAIN).parent}
