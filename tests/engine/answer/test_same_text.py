"""The first promise, on real models: same seed, same text, with a draft, without, with any draft.

100 prompts to the demo pair, at two temperatures, with three drafts and four draft lengths, each compared
with plain decoding. Every draft meets every prompt at both temperatures, and a third of them at each length.
Where a numerical tie tips a choice, the tie must be proven.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest

from tests.support.starter import PROMPTS as ALL
from tests.support.starter import TIE, GapSampler, answer, load, randomised, tokens_of
from tui.engine.backends import LoadedModel
from tui.engine.speculation.sampling import Chain, Sampler
from tui.engine.starter import DRAFT, MAIN

DRAFTS = ("starter draft", "random draft", "main model itself")
LENGTHS = (1, 3, 8)
PROMPTS = ALL[::2]
NO_LENGTH = ("starter draft", 0)
"""No draft is asked for anything then: with the others it is the same test."""


@pytest.fixture(scope="module")
def main() -> Iterator[LoadedModel]:
    model = load(MAIN, "main")
    yield model
    model.close()


@pytest.fixture(scope="module")
def draft(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedModel]:
    path = {"starter draft": DRAFT, "main model itself": MAIN}.get(request.param)
    model = load(path or randomised(DRAFT, tmp_path_factory.mktemp("draft") / "random.gguf"), "draft")
    yield model
    model.close()


@pytest.fixture(scope="module")
def plain(main: LoadedModel) -> dict[tuple[str, float], tuple[list[int], dict[int, float]]]:
    """Plain decoding of every prompt: its token ids, and the lead of each choice."""
    answers = {}
    for prompt in PROMPTS:
        for temperature in (0.0, 0.8):
            context = tokens_of(main, prompt)
            sampler = GapSampler(Chain(temperature), seed_of(prompt), len(context))
            answers[prompt, temperature] = answer(main, None, context, 0, sampler), sampler.gaps
    return answers


def seed_of(prompt: str) -> int:
    return PROMPTS.index(prompt)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize(
    ("draft", "length"), [NO_LENGTH, *product(DRAFTS, LENGTHS)], indirect=["draft"], scope="module"
)
def test_same_seed_same_text(
    main: LoadedModel,
    draft: LoadedModel,
    plain: dict[tuple[str, float], tuple[list[int], dict[int, float]]],
    temperature: float,
    length: int,
) -> None:
    ties = 0
    first = LENGTHS.index(length) if length else 0
    for prompt in PROMPTS[first :: len(LENGTHS)]:
        expected, gaps = plain[prompt, temperature]
        context = tokens_of(main, prompt)
        found = answer(
            main, draft, context, length, Sampler(Chain(temperature), seed_of(prompt), len(context))
        )
        if found == expected:
            continue
        pairs = enumerate(zip(found, expected, strict=False))
        place = next(i for i, (ours, theirs) in pairs if ours != theirs)
        assert gaps[place] < TIE, (prompt, temperature, length, place, gaps[place])
        ties += 1
    assert ties <= 1
