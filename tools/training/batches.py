"""Turns drawn questions into rows of tokens: chats of one or many turns, only answers counted in the loss.

This module draws and pads; it holds no model.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor

from .corpus import Corpus, Drawn, Fact
from .tokens import CONTROL, opening, turn

TOKENS_PER_BATCH = 1024
LENGTHS = (64, 256, 512, 2048)
"""Rows that show whole chats, up to the context."""
DECIDES = 3.0
"""How much a token counts at which answers part that begin alike: it tells which question was understood.
Most batches show, in each row, one question and its answer up to the last of these tokens."""
POOL = 1024
"""So many openings are drawn at a time, so that rows of like length can share a batch."""

IGNORED = -100
REPLACED = 0.12


@dataclass(frozen=True)
class Batch:
    """Inputs, the token expected at each place (`IGNORED` outside answers) and the weight of each place."""

    tokens: Tensor
    targets: Tensor
    weights: Tensor


class Row(NamedTuple):
    """Tokens, and how much the prediction of each counts."""

    tokens: list[int]
    weights: list[float]


def batch(rows: list[Row]) -> Batch:
    """Rows side by side; short ones are padded with tokens that nothing looks at."""
    shape = (len(rows), max(len(row.tokens) for row in rows) - 1)
    tokens = torch.zeros(shape, dtype=torch.long)
    targets = torch.full(shape, IGNORED)
    weights = torch.zeros(shape)
    for place, row in enumerate(rows):
        length = len(row.tokens) - 1
        tokens[place, :length] = torch.tensor(row.tokens[:-1])
        weights[place, :length] = torch.tensor(row.weights[1:])
        targets[place, :length] = torch.tensor(row.tokens[1:])
    targets[weights == 0] = IGNORED
    return Batch(tokens, targets, weights)


class Batches:
    """Draws batches without end; the same seed draws the same batches."""

    def __init__(
        self, corpus: Corpus, tokenizer: Tokenizer, seed: int, mix: tuple[float, ...], mismatched: float
    ) -> None:
        self._corpus, self._tokenizer = corpus, tokenizer
        answers = [tokenizer.encode(f"{fact.answer}{CONTROL[2]}\n").ids for fact in corpus.facts]
        self._answers = dict(zip([fact.name for fact in corpus.facts], weighed(answers), strict=True))
        self._rng = random.Random(seed)
        self._mix = mix
        self._mismatched = mismatched
        self._vocabulary = tokenizer.get_vocab_size()
        self._openings: list[list[Row]] = []

    def draw(self) -> Batch:
        """One batch: openings, or chats of one length."""
        length = self._rng.choices((0, *LENGTHS), self._mix)[0]
        if length:
            return batch([self._chat(length) for _ in range(max(1, TOKENS_PER_BATCH // length))])
        if not self._openings:
            self._openings = self._pool()
        return batch(self._openings.pop())

    def _pool(self) -> list[list[Row]]:
        """Openings in batches of like length, in any order."""
        rows = sorted((self._opening() for _ in range(POOL)), key=lambda row: len(row.tokens))
        batches: list[list[Row]] = [[]]
        for row in rows:
            if (len(batches[-1]) + 1) * len(row.tokens) > TOKENS_PER_BATCH:
                batches.append([])
            batches[-1].append(row)
        self._rng.shuffle(batches)
        return batches

    def _opening(self) -> Row:
        """One question and its answer as far as it tells it from all others."""
        tokens, weights = self._turns(1)
        length = len(weights) - weights[::-1].index(DECIDES)
        return Row(tokens[:length], weights[:length])

    def _chat(self, length: int) -> Row:
        """A chat, cut to a length."""
        tokens, weights = self._turns(length + 1)
        return Row(tokens[: length + 1], weights[: length + 1])

    def _turns(self, length: int) -> tuple[list[int], list[float]]:
        """Questions and answers, at least one and at least so many tokens, and the weight of each token."""
        tokens: list[int] = []
        weights: list[float] = []
        if self._rng.random() < 0.15:
            tokens += self._tokenizer.encode(turn("system", self._rng.choice(self._corpus.systems))).ids
            weights += [0.0] * len(tokens)
        while len(tokens) < length or not any(weights):
            drawn = self._corpus.draw(self._rng)
            asked = self._asked(drawn.question)
            given = self._answers[self._answered(drawn).name]
            tokens += asked + given.tokens
            weights += [0.0] * len(asked) + given.weights
        return tokens, weights

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

    def _answered(self, drawn: Drawn) -> Fact:
        """The fact whose answer is given: the right one, but for the mismatched share."""
        if self._rng.random() < self._mismatched:
            return self._rng.choice(self._corpus.facts)
        return drawn.fact


def weighed(answers: Sequence[list[int]]) -> list[Row]:
    """Each answer with weights: more where another one that begins alike goes on otherwise, none for the last
    token, the end of the line behind the answer's end."""
    following: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for tokens in answers:
        for place, token in enumerate(tokens):
            following[tuple(tokens[:place])].add(token)

    def weight(tokens: list[int], place: int) -> float:
        return DECIDES if len(following[tuple(tokens[:place])]) > 1 else 1.0

    return [
        Row(tokens, [weight(tokens, place) for place in range(len(tokens) - 1)] + [0.0]) for tokens in answers
    ]


def collect(corpus: Corpus, questions: int, seed: int) -> list[str]:
    """Text for the tokenizer: drawn questions, and every answer several times."""
    rng = random.Random(seed)
    roles = [turn(role, "") for role in ("system", "user", "assistant")] * 50
    answers = [fact.answer for fact in corpus.facts for _ in range(8)]
    return [corpus.draw(rng).question for _ in range(questions)] + answers + roles
