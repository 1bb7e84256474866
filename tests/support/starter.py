"""The demo pair, loaded and asked without an engine."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from gguf import GGUFReader

from tui.engine.backends import LoadedModel, Options
from tui.engine.backends.selection import open_backend
from tui.engine.speculation.loop import Pick, generate, prefill
from tui.engine.speculation.policy import FixedLength
from tui.engine.speculation.proposers import DraftModel, NullProposer
from tui.engine.speculation.sampling import Chain, Logits, Sampler, gumbel

TOKENS = 20

TIE = 1e-3
"""Two scores closer than this may change places between a single row and a batch."""

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
    proposer = NullProposer() if draft is None else DraftModel(draft, end)
    happened = generate(main, proposer, context, policy=FixedLength(length), end_tokens=end, max_tokens=most)
    return [token for r in happened for token in r.tokens]
