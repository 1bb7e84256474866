"""Trains an EAGLE-3 head for the starter's main model and writes `head.gguf` beside it.

    python -m tools.training.train_head [--out FILE]
    python -m tools.training.train_head --main FILE --answers FILE --out FILE

The second way trains one for another Llama, with answers that `record_answers.py` has recorded.

The aim of each place is the main model's own distribution. The head is trained as it is used: it drafts
several tokens in a row, and behind the first it reads its own vectors ("training-time test" in EAGLE-3). It
can draft only the tokens that occur in answers. Its needs are those of `train.py`. Step counts and seeds are
fixed.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import gguf
import torch
from torch import Tensor

from tui.engine.starter import HEAD, MAIN

from .batches import IGNORED, TOKENS_PER_BATCH, Batch, Batches
from .corpus import Corpus
from .eagle_export import write_eagle
from .eagle_network import EagleNetwork, EagleShape
from .export import read_gguf, read_model
from .model import Llama
from .recorded import in_batches, recorded
from .train import MISMATCHED, Cycle, Loss, train

SHAPE = EagleShape(layers=(1, 3, 4), width=96, heads=3, inner=256)
CYCLE = Cycle(500, 4e-3, 23, (0.1, 0.4, 0.45, 0.05, 0.0))
"""Mostly whole answers: the head drafts each of their tokens, not only those that tell answers apart."""
RATE = 1e-3
"""The highest learning rate for the head of another main model."""
STEPS = 4
"""Tokens that are drafted in a row: the draft length of the starter pair."""
FADING = 0.8
"""How much a step counts beside the one before it, as in EAGLE-3: a token counts only if those before it were
accepted."""


@dataclass(frozen=True)
class Task:
    """The parts of a training that differ from model to model."""

    name: str
    batches: Sequence[Batch]
    later: Sequence[Batch]
    """Batches that the head has not seen."""
    shape: EagleShape
    cycle: Cycle
    most: int
    """The number of different tokens that the head can draft."""
    ahead: int
    """The number of tokens in a row that it learns to draft."""


def listed_tokens(batches: Iterable[Batch], most: int) -> list[int]:
    """The tokens that answers consist of: the `most` frequent ones, in the order of their numbers."""
    counts = Counter[int]()
    for batch in batches:
        counts.update(batch.targets[batch.targets != IGNORED].tolist())
    return sorted(token for token, _ in counts.most_common(most))


def aimed(main: Llama, vectors: Tensor, listed: Tensor) -> Tensor:
    """The main model's probabilities of the listed tokens. Their sum is less than 1 if it wants others."""
    return main.scores(vectors).float().softmax(-1)[:, listed]


def drafting(main: Llama, ahead: int) -> Loss:
    """A loss that pulls each of `ahead` drafted tokens towards the main model's own distribution there."""

    def loss(head: EagleNetwork, batch: Batch) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return sum_of_steps(head, batch)

    def sum_of_steps(head: EagleNetwork, batch: Batch) -> Tensor:
        with torch.no_grad():
            inputs, vectors = main.read(batch.tokens, head.shape.layers)
        total = torch.zeros(())
        for step, rows in enumerate(head.steps(inputs, batch.tokens, ahead)):
            wanted = batch.targets[:, 1:] != IGNORED
            wanted[:, :step] = False
            aim = aimed(main, vectors[:, 1:][wanted], head.listed)
            guess = head.scores(rows[wanted]).float().log_softmax(-1)
            total = total - FADING**step * (aim * guess).sum(-1).mean()
        return total

    return loss


def train_head(main: Llama, task: Task) -> EagleNetwork:
    """Train a head on each batch once."""
    torch.manual_seed(task.cycle.seed)
    head = EagleNetwork(task.shape, main, listed_tokens(task.batches, task.most))
    own = sum(weight.numel() for weight in head.parameters() if weight.requires_grad)
    print(f"{own:,} parameters, {len(head.listed):,} tokens", flush=True)
    following = iter(task.batches)
    train(head, lambda: next(following), drafting(main, task.ahead), task.cycle)
    return head


def agreement(main: Llama, head: EagleNetwork, batches: Iterable[Batch], steps: int) -> Iterator[list[float]]:
    """For each batch, the share of places at which head and main model have the same best token, by step."""
    for batch in batches:
        with torch.no_grad():
            inputs, vectors = main.read(batch.tokens, head.shape.layers)
            best = main.scores(vectors[:, 1:]).argmax(-1)
            found = []
            for step, rows in enumerate(head.steps(inputs, batch.tokens, steps)):
                wanted = batch.targets[:, 1:] != IGNORED
                wanted[:, :step] = False
                same = head.listed[head.scores(rows).argmax(-1)] == best
                found.append(same[wanted].float().mean().item())
        yield found


def for_starter(model: Llama) -> Task:
    """The training on the corpus of the starter pair."""
    _, tokenizer = read_gguf(MAIN)
    drawn = Batches(Corpus(), tokenizer, CYCLE.seed, CYCLE.mix, MISMATCHED)
    batches = [drawn.draw() for _ in range(CYCLE.steps)]
    later = [drawn.draw() for _ in range(20)]
    return Task("Starter head (demo)", batches, later, SHAPE, CYCLE, model.shape.vocabulary, STEPS)


def for_answers(model: Llama, name: str, options: argparse.Namespace) -> Task:
    """The training on recorded answers, each read several times. The last chats are kept for the end."""
    model.bfloat16()  # the conversion of its weights in every call would take longer than the call
    rows = [row for path in options.answers for row in recorded(path)]
    shape, later = model.shape, max(1, len(rows) // 50)
    seeds = range(CYCLE.seed, CYCLE.seed + options.epochs)
    batches = [each for seed in seeds for each in in_batches(rows[later:], options.tokens, seed)]
    layers = (2, shape.layers // 2, shape.layers - 1)
    eagle = EagleShape(layers, shape.width, shape.heads, 2 * shape.width)
    cycle = replace(CYCLE, steps=len(batches), rate=RATE)
    kept = in_batches(rows[:later], options.tokens, 0)
    return Task(f"{name} head", batches, kept, eagle, cycle, options.listed, options.ahead)


def main() -> None:
    """Read the arguments and train the head."""
    parser = argparse.ArgumentParser(description="Train the head of the starter's main model.")
    add = parser.add_argument
    add("--out", type=Path, default=HEAD)
    add("--main", type=Path, default=MAIN)
    add("--answers", type=Path, nargs="+", help="recorded answers of another main model")
    add("--epochs", type=int, default=3, help="how often each recorded answer is read")
    add("--tokens", type=int, default=TOKENS_PER_BATCH, help="of a batch of recorded answers")
    add(
        "--listed", type=int, default=8192, help="different tokens that a head for recorded answers can draft"
    )
    add("--ahead", type=int, default=STEPS, help="tokens in a row that it learns to draft")
    add("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    reader = gguf.GGUFReader(options.main)
    model, name = read_model(reader), str(reader.fields["general.name"].contents())
    task = for_answers(model, name, options) if options.answers else for_starter(model)
    head = train_head(model, task)
    write_eagle(options.out, task.name, head, reader)
    shares = torch.tensor(list(agreement(model, head, task.later, task.ahead))).nanmean(0)
    print("same best token, by step: " + ", ".join(f"{share:.3f}" for share in shares.tolist()))


if __name__ == "__main__":
    main()
