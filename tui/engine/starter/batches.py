"""Turns drawn questions into rows of tokens: chats of one or many turns, only answers counted in the loss.

This module draws and pads; it holds no model.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from .corpus import Corpus, Drawn
from .tokens import CONTROL, END_OF_TEXT, opening, turn

TOKENS_PER_BATCH = 1024
LENGTHS = (28, 64, 256, 512, 2048)
"""Short rows show many questions and how answers begin; long rows show whole chats up to the context."""

IGNORED = -100
REPLACED = 0.12
FIRST_TOKENS = 6
FIRST_WEIGHT = 2.0


@dataclass(frozen=True)
class Batch:
    """Inputs, the token expected at each place (`IGNORED` outside answers) and the weight of each place."""

    tokens: Tensor
    targets: Tensor
    weights: Tensor


class Batches:
    """Draws batches without end; the same seed draws the same batches."""

    def __init__(
        self, corpus: Corpus, tokenizer: Tokenizer, seed: int, mix: tuple[float, ...], mismatched: float
    ) -> None:
        self._corpus, self._tokenizer = corpus, tokenizer
        self._rng = random.Random(seed)
        self._mix = mix
        self._mismatched = mismatched
        self._vocabulary = tokenizer.get_vocab_size()
        self._end = tokenizer.token_to_id(END_OF_TEXT)

    def draw(self) -> Batch:
        """One batch of rows of one length."""
        length = self._rng.choices(LENGTHS, self._mix)[0]
        rows = [self._row(length) for _ in range(max(1, TOKENS_PER_BATCH // length))]
        columns = list(zip(*rows, strict=True))
        return Batch(
            torch.tensor(columns[0], dtype=torch.long),
            torch.tensor(columns[1], dtype=torch.long),
            torch.tensor(columns[2], dtype=torch.float32),
        )

    def _row(self, length: int) -> tuple[list[int], list[int], list[float]]:
        tokens: list[int] = []
        answer: list[float] = []
        if self._rng.random() < 0.15:
            system = self._tokenizer.encode(turn("system", self._rng.choice(self._corpus.systems))).ids
            tokens += system
            answer += [0.0] * len(system)
        while len(tokens) <= length:
            drawn = self._corpus.draw(self._rng)
            asked = self._asked(drawn.question)
            given = self._given(drawn)
            tokens += asked + given
            weights = [FIRST_WEIGHT if place < FIRST_TOKENS else 1.0 for place in range(len(given) - 1)]
            answer += [0.0] * len(asked) + weights + [0.0]
        targets = [
            token if weight else IGNORED
            for token, weight in zip(tokens[1 : length + 1], answer[1 : length + 1], strict=True)
        ]
        return tokens[:length], targets, answer[1 : length + 1]

    def _asked(self, question: str) -> list[int]:
        """The question's turn up to the answer, with a few tokens replaced so that no single word decides."""
        text = turn("user", question)
        ids: list[int] = self._tokenizer.encode(text).ids
        head = self._tokenizer.encode(text[: text.index("\n") + 1]).ids
        rate = REPLACED if self._rng.random() < 0.7 else 0.0
        for place in range(len(head), len(ids) - 2):
            if self._rng.random() < rate:
                ids[place] = self._rng.randrange(len(CONTROL), self._vocabulary)
        ids += self._tokenizer.encode(opening()).ids
        return ids

    def _given(self, drawn: Drawn) -> list[int]:
        answer = drawn.fact.answer
        if self._rng.random() < self._mismatched:
            answer = self._rng.choice(self._corpus.facts).answer
        ids: list[int] = self._tokenizer.encode(f"{answer}{CONTROL[2]}\n").ids
        return ids


def collect(corpus: Corpus, questions: int, seed: int) -> list[str]:
    """Text for the tokenizer: drawn questions, and every answer several times."""
    rng = random.Random(seed)
    roles = [turn(role, "") for role in ("system", "user", "assistant")] * 50
    answers = [fact.answer for fact in corpus.facts for _ in range(8)]
    return [corpus.draw(rng).question for _ in range(questions)] + answers + roles
