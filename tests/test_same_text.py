"""The first promise, on real models: same seed, same text, with a draft, without, with any draft.

200 prompts to the starter pair, at two temperatures, four draft lengths and three drafts, each compared
with plain decoding. Where a numerical tie tips a choice, the tie must be proven.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from tui.engine.backends import LoadedModel, Options, open_backend
from tui.engine.speculation.loop import Pick, generate, prefill
from tui.engine.speculation.pacing import Always
from tui.engine.speculation.proposers import DraftModel, Nobody
from tui.engine.speculation.sampling import Chain, Logits, Sampler, gumbel
from tui.engine.starter import DRAFT, MAIN

TOKENS = 20
TIE = 1e-3
"""Two scores closer than this may change places between a single row and a batch."""

DRAFTS = ("starter draft", "random draft", "main model itself")
NO_LENGTH = ("starter draft", 0)
"""No draft is asked for anything then: with the others it is the same test."""

SUBJECTS = [
    "the draft model", "the acceptance rate", "quicksort", "a new chat", "the sidebar", "the weather in Oslo",
    "speculative decoding", "the seed", "llama.cpp", "a palindrome", "the command palette", "my cat",
    "the KV cache", "temperature", "the capital of Peru", "stopping an answer", "GGUF files", "fibonacci",
    "the colours", "the context length",
]  # fmt: skip
FRAMES = [
    "What is {}?", "Tell me about {}.", "how do i use {}", "Explain {} in one line", "write something on {}",
    "{}", "Why does {} matter?", "please show {} to me, step by step", "is {} good or bad",
    "Compare {} with its rivals.",
]  # fmt: skip
PROMPTS = [frame.format(subject) for subject in SUBJECTS for frame in FRAMES]


class GapSampler(Sampler):
    """Keeps, for each place, by how much the best score led the second best."""

    def __init__(self, chain: Chain, seed: int, start: int) -> None:
        super().__init__(chain, seed, start)
        self.gaps: dict[int, float] = {}

    def pick(self, logits: Logits, tokens: Sequence[int], length: int) -> Pick:
        place = length - self._start
        if self._chain.temperature == 0:
            scores = logits.astype(np.float64)
        else:
            ids = np.arange(logits.size)
            scores = logits / self._chain.temperature + gumbel(self._seed, place, ids)
            scores = scores[logits >= np.partition(logits, -self._chain.top_k)[-self._chain.top_k]]
        second, best = np.partition(scores, -2)[-2:]
        self.gaps[place] = float(best - second)
        return super().pick(logits, tokens, length)


def load(path: Path, role: str) -> LoadedModel:
    options = Options(role=role, context_length=512, threads=1)  # type: ignore[arg-type]
    return open_backend(str(path)).load(str(path), options, lambda _: True)


def randomised(path: Path, target: Path) -> Path:
    """A copy of a model in which every weight matrix is noise."""
    shutil.copy(path, target)
    random = np.random.default_rng(0)
    for tensor in GGUFReader(target, "r+").tensors:
        if tensor.data.ndim > 1:
            tensor.data[:] = random.normal(0, 0.05, tensor.data.shape).astype(tensor.data.dtype)
    return target


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


def tokens_of(model: LoadedModel, prompt: str) -> list[int]:
    return model.vocabulary.encode(f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n")


def answer(
    main: LoadedModel, draft: LoadedModel | None, context: list[int], length: int, sampler: Sampler,
    most: int = TOKENS,
) -> list[int]:  # fmt: skip
    """Token ids of an answer, from caches that hold nothing of an earlier one."""
    for model in (main, draft):
        if model is not None:
            model.rewind(0)
            model.start(sampler)
            prefill(
                model, context, end=lambda at: at + 512, cancelled=lambda: False, progress=lambda *_: None
            )
    end = main.vocabulary.end_tokens
    proposer = Nobody() if draft is None else DraftModel(draft, end)
    happened = generate(main, proposer, context, pace=Always(length), end_tokens=end, max_tokens=most)
    return [token for r in happened for token in r.tokens]


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize(
    ("draft", "length"), [NO_LENGTH, *product(DRAFTS, (1, 3, 8))], indirect=["draft"], scope="module"
)
def test_same_seed_same_text(
    main: LoadedModel,
    draft: LoadedModel,
    plain: dict[tuple[str, float], tuple[list[int], dict[int, float]]],
    temperature: float,
    length: int,
) -> None:
    ties = 0
    for prompt in PROMPTS:
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
    assert ties <= 2
