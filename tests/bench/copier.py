"""A small model that can do one thing: give back a file with one name changed. For measuring the lookup.

    python -m tests.bench.copier OUT.gguf [--steps 4000]
    python -m tests.bench.grow MODELS --source OUT.gguf --parameters 0.69e9 --agreements ""
    outrider bench --main MODELS/main-F16.gguf --draft ngram --prompts OUT.toml

The starter knows nothing but its texts and cannot copy; a lookup pays where an answer repeats the prompt.
So this trains a model of the starter's kind on files of random names, never seen twice, and writes prompts
beside it that are new to it. Needs what the starter's training needs (tui/engine/starter/README.md).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from tui.engine.starter.export import write_gguf
from tui.engine.starter.model import Llama, Shape
from tui.engine.starter.tokens import opening, train_tokenizer, turn

VOCABULARY = 768
SHAPE = Shape(width=128, layers=3, heads=4, inner=256, vocabulary=VOCABULARY)
ROWS = 16
RATE = 3e-3
IGNORED = -100
SYLLABLES = [a + b + c for a in "bdfgklmnprst" for b in "aeiou" for c in ("", "n", "r", "s")]
SHAPES = (
    "def {}({}, {}):\n",
    "    {} = {} + {}\n",
    "    {} = {}({})\n",
    "    for {} in {}:\n",
    "        {}.append({})\n",
    "    if {} > {}:\n",
    "    return {}\n",
    "{} = [{}, {}]\n",
)


def name(chance: random.Random) -> str:
    return "".join(chance.choices(SYLLABLES, k=chance.randint(1, 3)))


def task(chance: random.Random, lines: int) -> tuple[str, str]:
    """A prompt and its answer: a file, and the same with one name changed."""
    names = [name(chance) for _ in range(4 + lines)]
    shapes = [chance.choice(SHAPES) for _ in range(lines)]
    file = "".join(shape.format(*chance.choices(names, k=shape.count("{}"))) for shape in shapes)
    old, new = chance.choice([word for word in re.findall("[a-z]+", file) if word in names]), name(chance)
    return f"Rename {old} to {new}:\n{file}", re.sub(rf"\b{old}\b", new, file)


def rows(tokenizer: Tokenizer, chance: random.Random, lines: int) -> Iterator[tuple[list[int], int]]:
    """Tokens of a whole chat, and where its answer begins."""
    while True:
        asked, answer = task(chance, chance.randint(1, lines))
        before = tokenizer.encode(turn("user", asked) + opening()).ids
        yield before + tokenizer.encode(answer + "<|im_end|>").ids, len(before)


def batch(source: Iterator[tuple[list[int], int]]) -> tuple[Tensor, Tensor]:
    found = [next(source) for _ in range(ROWS)]
    longest = max(len(tokens) for tokens, _ in found)
    inputs = torch.zeros((ROWS, longest - 1), dtype=torch.long)
    targets = torch.full((ROWS, longest - 1), IGNORED)
    for place, (tokens, begin) in enumerate(found):
        inputs[place, : len(tokens) - 1] = torch.tensor(tokens[:-1])
        targets[place, begin - 1 : len(tokens) - 1] = torch.tensor(tokens[begin:])
    return inputs, targets


def train(model: Llama, tokenizer: Tokenizer, steps: int) -> None:
    chance = random.Random(1)
    torch.manual_seed(1)
    optimiser = torch.optim.AdamW(model.parameters(), RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, steps, pct_start=0.05)
    began, right, seen, recent = time.monotonic(), 0, 0, 0.0
    for step in range(steps):
        lines = 2 + 18 * min(1.0, step / (0.6 * steps))  # short files first: that is how copying begins
        inputs, targets = batch(rows(tokenizer, chance, int(lines)))
        wanted = targets != IGNORED
        scores = model.scores(model(inputs)[wanted])
        loss = functional.cross_entropy(scores, targets[wanted])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        right += int((scores.argmax(-1) == targets[wanted]).sum())
        seen += int(wanted.sum())
        recent += loss.item()
        if (step + 1) % 100 == 0:
            seconds = time.monotonic() - began
            print(
                f"step {step + 1}: loss {recent / 100:.3f}, {right / seen:.1%} right, {seconds:.0f} s",
                flush=True,
            )
            right, seen, recent = 0, 0, 0.0


def prompts(count: int) -> str:
    """As `outrider bench --prompts` reads them."""
    chance = random.Random(2)
    return f"edit = {json.dumps([task(chance, 18)[0] for _ in range(count)], indent=2)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a model that copies.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=4000)
    options = parser.parse_args()
    chance = random.Random(0)
    texts = (
        turn("user", asked) + opening() + answer for asked, answer in (task(chance, 12) for _ in range(3000))
    )
    tokenizer = train_tokenizer(texts, VOCABULARY)
    model = Llama(SHAPE)
    train(model, tokenizer, options.steps)
    model.eval()
    write_gguf(options.out, "Copier", model, tokenizer)
    options.out.with_suffix(".toml").write_text(prompts(6))


if __name__ == "__main__":
    main()
