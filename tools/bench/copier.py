"""A small model that can do one thing: give back a file with one name changed. For measuring the lookup.

    python -m tools.bench.copier OUT.gguf [--steps 4000]
    python -m tools.bench.grow MODELS --source OUT.gguf --parameters 0.69e9 --agreements ""
    outrider bench --main MODELS/main-F16.gguf --draft lookup --prompts OUT.toml

The starter knows nothing but its texts and cannot copy; a lookup pays where an answer repeats the prompt.
So this trains a model of the starter's kind on files of random names, never seen twice, and writes prompts
beside it that are new to it. Needs what the starter's training needs (tools/training/README.md).
"""

from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path

from tokenizers import Tokenizer

from tools.training.batches import Batch, Row, batch
from tools.training.export import write_gguf
from tools.training.model import Llama, Shape
from tools.training.tokens import TURN_END, opening, train_tokenizer, turn
from tools.training.train import Cycle, answer_loss, train

VOCABULARY = 768
SHAPE = Shape(width=128, layers=3, heads=4, inner=256, vocabulary=VOCABULARY)
ROWS = 16
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


class Copies:
    """Draws batches of chats without end: a file, and the same with one name changed. Short files come first,
    for that is how copying begins."""

    def __init__(self, tokenizer: Tokenizer, seed: int, steps: int) -> None:
        self._tokenizer, self._rng, self._steps = tokenizer, random.Random(seed), steps
        self._drawn = 0

    def draw(self) -> Batch:
        longest = 2 + 18 * min(1.0, self._drawn / (0.6 * self._steps))
        self._drawn += 1
        return batch([self._row(self._rng.randint(1, int(longest))) for _ in range(ROWS)])

    def _row(self, lines: int) -> Row:
        asked, answer = task(self._rng, lines)
        before = self._tokenizer.encode(turn("user", asked) + opening()).ids
        after = self._tokenizer.encode(answer + TURN_END).ids
        return Row(before + after, [0.0] * len(before) + [1.0] * len(after))


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
    cycle = Cycle(options.steps, 3e-3, 1, ())
    train(model, Copies(tokenizer, cycle.seed, cycle.steps).draw, answer_loss, cycle)
    write_gguf(options.out, "Copier", model, tokenizer)
    options.out.with_suffix(".toml").write_text(prompts(6))


if __name__ == "__main__":
    main()
