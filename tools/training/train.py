"""Trains the starter pair and writes `main.gguf` and `draft.gguf`.

    python -m tools.training.train [--out FOLDER] [--further]

`--further` goes on from the pair that is there: a shorter training, for a corpus that has grown a little.

Needs `torch==2.13.0`, `numpy`, `tokenizers` and `gguf`, none of which Outrider itself needs. Step counts
and seeds are fixed, never the clock. Nothing is downloaded: the corpus beside this file is all there is.
This module answers no questions and is never imported by the app.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from tui.engine.starter import DRAFT, MAIN

from .batches import IGNORED, Batch, Batches, collect
from .corpus import Corpus
from .export import read_gguf, write_gguf
from .model import Llama, Shape
from .tokens import train_tokenizer

VOCABULARY = 3072
MAIN_SHAPE = Shape(width=320, layers=5, heads=5, inner=832, vocabulary=VOCABULARY)
DRAFT_SHAPE = Shape(width=96, layers=2, heads=3, inner=256, vocabulary=VOCABULARY)


@dataclass(frozen=True)
class Cycle:
    """A stretch of training with a seed and a falling learning rate of its own."""

    steps: int
    rate: float
    seed: int
    mix: tuple[float, ...]
    """How often openings, and each length of chat, are drawn."""


FIRST = Cycle(6000, 1.5e-3, 12, (0.74, 0.1, 0.11, 0.03, 0.02))
SECOND = Cycle(6500, 1.2e-3, 14, (0.82, 0.05, 0.08, 0.03, 0.02))
THIRD = Cycle(1500, 8e-4, 15, (0.8, 0.06, 0.09, 0.03, 0.02))
"""By then the answers are known by heart: what is left to learn is which question wants which."""
FURTHER = Cycle(3500, 8e-4, 21, (0.8, 0.07, 0.08, 0.03, 0.02))
DRAFTING = Cycle(1000, 4e-3, 13, (0.4, 0.26, 0.26, 0.06, 0.02))
WARM_UP = 60
LAST_RATE = 0.03
DROPOUT = 0.05
TEMPERATURE = 2.0
"""Words replaced at random teach a doubt that a clean question does not deserve: what is in two minds at this
temperature is sure at 1."""
TOKENIZER_SEED = 11
MISMATCHED = 0.15
"""Share of the draft's answers that belong to another question: the main model errs too, and the draft
should then follow it."""

Loss = Callable[[Any, Batch], Tensor]
"""The loss of a model, a head included, on a batch."""


def answer_loss(model: Llama, batch: Batch) -> Tensor:
    """Cross entropy on the answers alone; the tokens that decide which answer it is count more."""
    wanted = batch.targets != IGNORED
    with torch.autocast("cpu", torch.bfloat16):
        scores = model.scores(model(batch.tokens, DROPOUT)[wanted])
    each = functional.cross_entropy(scores.float() / TEMPERATURE, batch.targets[wanted], reduction="none")
    weights = batch.weights[wanted]
    return (each * weights).sum() / weights.sum()


def distilling(main: Llama) -> Loss:
    """A loss that pulls a draft towards the main model's own distribution on the answers."""

    def loss(model: Llama, batch: Batch) -> Tensor:
        wanted = batch.targets != IGNORED
        with torch.no_grad():
            aim = main.scores(main(batch.tokens)[wanted]).softmax(-1)
        scores = model.scores(model(batch.tokens)[wanted])
        return functional.cross_entropy(scores, aim)

    return loss


def rate_at(step: int, cycle: Cycle) -> float:
    """Learning rate: a short warm-up, then half a cosine."""
    warm_up = min(WARM_UP, cycle.steps // 5)
    if step < warm_up:
        return cycle.rate * (step + 1) / warm_up
    share = (step - warm_up) / (cycle.steps - warm_up)
    return cycle.rate * (LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * share)))


def train(model: nn.Module, draw: Callable[[], Batch], loss: Loss, cycle: Cycle) -> None:
    """Take the fixed number of steps of a cycle, each on a batch that is drawn."""
    torch.manual_seed(cycle.seed)
    optimiser = torch.optim.AdamW(
        model.parameters(), cycle.rate, betas=(0.9, 0.97), weight_decay=0.05, fused=True
    )
    model.train()
    began, recent = time.monotonic(), 0.0
    for step in range(cycle.steps):
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, cycle)
        value = loss(model, draw())
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        recent += value.item()
        if (step + 1) % 100 == 0:
            seconds = time.monotonic() - began
            print(f"step {step + 1}/{cycle.steps} loss {recent / 100:.4f} {seconds:.0f} s", flush=True)
            recent = 0.0
    model.eval()


def build(folder: Path) -> None:
    """Train tokenizer, main model and draft, and write both files."""
    corpus = Corpus()
    tokenizer = train_tokenizer(collect(corpus, 60_000, TOKENIZER_SEED), VOCABULARY)
    main, draft = _new(MAIN_SHAPE, tokenizer), _new(DRAFT_SHAPE, tokenizer)
    _teach(main, draft, corpus, tokenizer, (FIRST, SECOND, THIRD), folder)


def build_further(folder: Path) -> None:
    """Train the pair that is there for the corpus as it is now, and write both files. The tokens stay."""
    main, tokenizer = read_gguf(MAIN)
    draft, _ = read_gguf(DRAFT)
    _teach(main, draft, Corpus(), tokenizer, (FURTHER,), folder)


def _teach(
    main: Llama, draft: Llama, corpus: Corpus, tokenizer: Tokenizer, cycles: Sequence[Cycle], folder: Path
) -> None:
    def batches(cycle: Cycle, mismatched: float) -> Callable[[], Batch]:
        return Batches(corpus, tokenizer, cycle.seed, cycle.mix, mismatched).draw

    for cycle in cycles:
        train(main, batches(cycle, 0.0), answer_loss, cycle)
    write_gguf(folder / "main.gguf", "Starter (demo)", main, tokenizer)
    train(draft, batches(DRAFTING, MISMATCHED), distilling(main), DRAFTING)
    write_gguf(folder / "draft.gguf", "Starter draft (demo)", draft, tokenizer)


def _new(shape: Shape, tokenizer: Tokenizer) -> Llama:
    if tokenizer.get_vocab_size() != shape.vocabulary:
        raise SystemExit(f"the tokenizer has {tokenizer.get_vocab_size()} tokens, {shape.vocabulary} wanted")
    torch.manual_seed(FIRST.seed)
    model = Llama(shape)
    print(f"{sum(weight.numel() for weight in model.parameters()):,} parameters", flush=True)
    return model


def main() -> None:
    """Read the arguments and build the pair."""
    parser = argparse.ArgumentParser(description="Train the starter pair.")
    parser.add_argument("--out", type=Path, default=MAIN.parent)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--further", action="store_true", help="go on from the pair that is there")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    (build_further if arguments.further else build)(arguments.out)


if __name__ == "__main__":
    main()
