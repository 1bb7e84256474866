"""A small model that has read real text: as unsure of each token as a model of the world is.

    python -m tools.bench.learn OUT.gguf

The starter knows its answers by heart, so text sampled from it is nearly its greedy text. This model read the
standard library of the Python that runs it, 2.5 million tokens, once: what comes next is mostly open. It has
the starter's shape and chat format, a prompt being the beginning of what it is to go on with; so `grow
--source OUT.gguf --questions openings` gives it the cost of a real one, and drafts.

Takes 12 minutes on two cores, and needs what `tools.training.train` needs. It measures nothing.
"""

from __future__ import annotations

import argparse
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from tools.training.batches import IGNORED, Batch
from tools.training.export import write_gguf
from tools.training.model import Llama
from tools.training.tokens import TURN_END, opening, train_tokenizer, turn
from tools.training.train import MAIN_SHAPE, VOCABULARY, Cycle, train

READING = Cycle(2000, 1.5e-3, 1, ())
ROWS, LENGTH = 6, 256
PROMPT = (8, 40)
"""Tokens of the text that the user gives, at least and at most."""
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "encodings", "lib2to3"}
_FILE = range(500, 400_000)
"""Characters of a file that is read: below are stubs, above are tables."""


def library() -> Iterator[str]:
    """The files of the standard library."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if not _LEFT_OUT.intersection(path.relative_to(root).parts):
            text = path.read_text("utf-8", "replace")
            if len(text) in _FILE:
                yield text


class Passages:
    """Draws batches of passages without end, each begun by the user and gone on with by the assistant."""

    def __init__(self, tokens: list[int], tokenizer: Tokenizer, seed: int) -> None:
        self._tokens = tokens
        self._rng = random.Random(seed)
        self._before = tokenizer.encode(turn("user", "").partition(TURN_END)[0]).ids
        self._between = tokenizer.encode(f"{TURN_END}\n{opening()}").ids

    def draw(self) -> Batch:
        rows = [self._passage() for _ in range(ROWS)]
        tokens = torch.tensor([row for row, _ in rows])
        weights = torch.tensor([counts for _, counts in rows], dtype=torch.float)[:, 1:]
        targets = tokens[:, 1:].clone()
        targets[weights == 0] = IGNORED
        return Batch(tokens[:, :-1], targets, weights)

    def _passage(self) -> tuple[list[int], list[float]]:
        """Tokens, and how much each counts: those of the format do not."""
        length = self._rng.randint(*PROMPT)
        begin = self._rng.randrange(len(self._tokens) - LENGTH)
        text = self._tokens[begin : begin + LENGTH]
        row = [*self._before, *text[:length], *self._between, *text[length:]]
        counts = [0.0] * len(self._before) + [1.0] * length + [0.0] * len(self._between) + [1.0] * LENGTH
        return row[:LENGTH], counts[:LENGTH]


def reading_loss(model: Llama, batch: Batch) -> Tensor:
    """Cross entropy on all of the text; what is read once needs no dropout."""
    wanted = batch.targets != IGNORED
    with torch.autocast("cpu", torch.bfloat16):
        scores = model.scores(model(batch.tokens)[wanted])
    return functional.cross_entropy(scores.float(), batch.targets[wanted])


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a small model on the standard library of Python.")
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    texts = list(library())
    tokenizer = train_tokenizer(texts, VOCABULARY)
    tokens = [token for each in tokenizer.encode_batch(texts) for token in each.ids]
    torch.manual_seed(READING.seed)
    model = Llama(MAIN_SHAPE)
    print(f"{len(texts)} files, {len(tokens):,} tokens", flush=True)
    train(model, Passages(tokens, tokenizer, READING.seed).draw, reading_loss, READING)
    write_gguf(options.out, "Reader of the standard library", model, tokenizer)


if __name__ == "__main__":
    main()
