"""Vocabularies and chat templates of real models, from llama.cpp's sources: `make test` fetches them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest

from tests.support.templates import SHIPPED
from tui.engine.answer.templates import TemplateRenderer
from tui.engine.backends import ModelError
from tui.engine.eligibility import vocabularies
from tui.engine.library.gguf import BadModelFile
from tui.engine.library.header import read_header, read_tokens

VOCABULARIES = sorted(SHIPPED.glob("ggml-vocab-*.gguf"))
TEMPLATES = sorted((SHIPPED / "templates").glob("*.jinja"))
TURNS = [
    {"role": "user", "content": "What is a reef?"},
    {"role": "assistant", "content": "A ridge of rock."},
    {"role": "user", "content": "And an atoll?"},
]


@pytest.fixture(scope="module")
def renderer() -> Iterator[TemplateRenderer]:
    made = TemplateRenderer()
    yield made
    made.close()


def test_they_are_here() -> None:
    assert len(VOCABULARIES) > 15
    assert len(TEMPLATES) > 60


def test_every_two_vocabularies_get_the_right_verdict() -> None:
    """Two pair where no id that both have is spelled differently; else the first such id is named."""
    tokens = {
        path.stem.removeprefix("ggml-vocab-"): dict(enumerate(read_tokens(path))) for path in VOCABULARIES
    }
    same = set()
    for (one, mine), (other, theirs) in combinations(tokens.items(), 2):
        obstacle = vocabularies(mine, theirs, "headers")
        reason = obstacle.text if obstacle else ""
        first = next((i for i in range(min(len(mine), len(theirs))) if mine[i] != theirs[i]), None)
        few, many = sorted((len(mine), len(theirs)))
        if first is not None:
            assert f"(differs at id {first:,}: " in reason, (one, other)
            assert repr(mine[first].decode("utf-8", "replace")) in reason
        else:
            assert bool(reason) == (2 * few <= many), (one, other, reason)
        if not reason:
            same.add((one, other))
    assert same == PAIRS


PAIRS = {("gpt-neox", "mpt"), ("llama-spm", "phi-3"), ("qwen2", "qwen35")}


@pytest.mark.parametrize("path", VOCABULARIES, ids=lambda path: path.stem)
def test_a_vocabulary_without_weights_is_no_model(path: Path) -> None:
    with pytest.raises(BadModelFile) as error:
        read_header(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_shipped_template_renders_or_is_rejected_in_a_line(path: Path, renderer: TemplateRenderer) -> None:
    values = {
        "messages": TURNS,
        "add_generation_prompt": True,
        "bos_token": "<s>",
        "eos_token": "</s>",
    }
    try:
        text = renderer.render(path.read_text("utf-8"), values, 100_000)
    except ModelError as error:
        assert str(error)
        assert "\n" not in str(error)
        assert path.stem in REJECTED
    else:
        assert path.stem not in REJECTED
        assert all(turn["content"] in text for turn in TURNS)


REJECTED = {
    "CohereForAI-c4ai-command-r-plus-tool_use",
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
    "fireworks-ai-llama-3-firefunction-v2",
}
"""Made for conversations with tools alone."""
