"""Benchmark models: growing keeps the function, and noise lowers the agreement by a known amount."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tools.bench.grow import (
    Answer,
    Checkpoint,
    Shape,
    add_noise,
    agreement,
    ask,
    certainty,
    find_draft,
    flatten,
    grow,
    load,
    read,
)
from tui.engine.backends.llama_cpp.requantize import requantize
from tui.engine.starter import MAIN

QUESTIONS = ("How do I quit?", "Write quicksort in Python")


@pytest.fixture(scope="module")
def answers() -> list[Answer]:
    return ask(MAIN, QUESTIONS, 40)


@pytest.fixture(scope="module")
def source() -> Checkpoint:
    return read(MAIN)


@pytest.fixture(scope="module")
def small(source: Checkpoint) -> Shape:
    return source.shape


@pytest.fixture(scope="module")
def large(small: Shape) -> Shape:
    """Three more heads, one more layer."""
    width = (small.heads + 3) * small.width // small.heads
    return Shape(width, small.layers + 1, small.heads + 3, small.inner + 192, small.vocabulary)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory, source: Checkpoint, large: Shape) -> Path:
    path = tmp_path_factory.mktemp("grown") / "grown.gguf"
    grow(source, large, path)
    return path


@pytest.fixture(scope="module")
def reread(grown: Path) -> Checkpoint:
    return read(grown)


def test_a_grown_model_has_the_shape_asked_for(reread: Checkpoint, large: Shape) -> None:
    assert reread.shape == large
    assert sum(weight.size for weight in reread.weights.values()) == large.parameters


def test_what_was_added_is_not_zero(reread: Checkpoint, small: Shape) -> None:
    """A row of zeros could be cheaper to some kernel than a row of numbers."""
    added_heads = reread.weights["blk.0.attn_v.weight"][small.width :]
    added_layer = reread.weights[f"blk.{small.layers}.ffn_gate.weight"]
    assert (added_heads != 0).mean() > 0.99
    assert (added_layer != 0).mean() > 0.99


@pytest.mark.parametrize("kind", ["F16", "Q8_0"])
def test_growing_keeps_the_function(grown: Path, answers: list[Answer], kind: str, tmp_path: Path) -> None:
    path = grown
    if kind != "F16":
        path = tmp_path / "quantized.gguf"
        requantize(grown, path, kind)
    assert ask(path, QUESTIONS, 40) == answers
    assert agreement(path, answers) == 1.0


def test_growing_keeps_the_scores(
    source: Checkpoint, small: Shape, grown: Path, answers: list[Answer], tmp_path: Path
) -> None:
    """Greedy tokens survive much; scores do not. In one format both sizes round the same weights.

    A wrong epsilon alone changes them by 0.0005 of their spread, the square root of the mean square.
    """
    grow(source, small, tmp_path / "same.gguf")
    tokens = [*answers[1].prompt, *answers[1].tokens]
    same = scores(tmp_path / "same.gguf", tokens)
    difference = scores(grown, tokens) - same
    assert np.sqrt(np.square(difference).mean()) < 0.0003 * same.std()


def scores(path: Path, tokens: list[int]) -> NDArray[np.float32]:
    with closing(load(path)) as model:
        model.eval(tokens)
        return model.scores[: model.n_tokens].copy()


def test_a_grown_model_keeps_tokenizer_and_template(source: Checkpoint, reread: Checkpoint) -> None:
    before, after = source.metadata, reread.metadata
    assert before.keys() == after.keys()
    for name in before:
        if name.startswith("tokenizer."):
            assert after[name] == before[name]
    assert "Benchmark" in after["general.name"][0]


@pytest.mark.parametrize("parameters", [0.2e9, 0.7e9, 1.5e9])
def test_a_shape_has_about_the_parameters_asked_for(small: Shape, parameters: float) -> None:
    shape = small.grown(parameters)
    assert shape.parameters == pytest.approx(parameters, rel=0.05)
    assert shape.width % 256 == shape.inner % 256 == 0
    assert shape.width // shape.heads == small.width // small.heads
    assert 12 <= shape.layers <= 32


def test_an_unknown_format_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no format Q4_Z"):
        requantize(MAIN, tmp_path / "never.gguf", "Q4_Z")


def test_a_copy_without_noise_agrees_everywhere(
    source: Checkpoint, answers: list[Answer], tmp_path: Path
) -> None:
    add_noise(source, 0.0, tmp_path / "copy.gguf")
    assert agreement(tmp_path / "copy.gguf", answers) == 1.0


def test_agreement_counts_equal_tokens(answers: list[Answer]) -> None:
    """The last token of an answer is exchanged, so that the context of no other changes."""
    first, second = answers
    assert second.tokens[-1] != 0
    wrong = Answer(second.prompt, (*second.tokens[:-1], 0))
    total = len(first.tokens) + len(second.tokens)
    assert agreement(MAIN, [first, wrong]) == pytest.approx(1 - 1 / total)


def test_noise_lowers_agreement_to_what_is_wanted(
    source: Checkpoint, answers: list[Answer], tmp_path: Path
) -> None:
    path = tmp_path / "draft.gguf"
    draft = find_draft(source, 0.7, answers, path, tolerance=0.05)
    assert draft.sigma > 0
    assert draft.agreement == agreement(path, answers) == pytest.approx(0.7, abs=0.05)


def test_flattening_makes_a_model_less_sure_and_changes_no_greedy_token(
    source: Checkpoint, answers: list[Answer], tmp_path: Path
) -> None:
    add_noise(flatten(source, 3.0), 0.0, tmp_path / "flat.gguf")
    assert agreement(tmp_path / "flat.gguf", answers) == 1.0
    assert certainty(tmp_path / "flat.gguf", answers) < certainty(MAIN, answers) < 1


def test_much_noise_leaves_nothing(source: Checkpoint, answers: list[Answer], tmp_path: Path) -> None:
    add_noise(source, 2.0, tmp_path / "random.gguf")
    assert agreement(tmp_path / "random.gguf", answers) < 0.1
