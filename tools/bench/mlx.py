"""Outrider beside mlx-lm: the same MLX models, prompts, settings and draft length, in turn.

    python -m tools.bench.mlx [MAIN DRAFT] [--flatten F] [--noise 0.6] [--length 3] [--tokens 64] [--runs 2]
        [--prompts 20] [--json]

MAIN and DRAFT are MLX folders. Without them two pairs are tried: the starter pair, which is so sure of itself
that it agrees at any temperature, and a random model with a draft whose output has some noise, which is not.
With `--flatten F` two others are: the starter pair with all scores divided by F, and its main model so with a
copy of itself for a draft whose output has some noise. F is folded into the weights of the last norm, which
changes no choice at temperature 0. The certainty, the mean probability of the main model's likeliest token at
the temperature of the comparison (at 1 for 0), says how flat a pair is: F = 2.2 takes it from 0.996 to 0.77.

Shared noise cannot mend what two models disagree about. Flattened, the starter pair writes what neither was
trained on, and its small draft soon has another opinion: little is gained. A noisy copy keeps its opinion, as
a good draft of the main model's own family does, and shows what the two ways of drawing make of the same
agreement. The more noise it has, the less is gained; the flatter the pair is, the more.

At temperature 0.8 tokens per round tell the loops apart: mlx-lm draws the draft's and the main model's token
independently, Outrider with shared noise. At temperature 0 both take the same rounds, and speed tells what a
round costs. Each prompt is answered by the one and then the other, timed from the end of the first round,
whose time holds the prompt's, to the end of the last.

Both loops run the networks as Outrider has loaded them: without a GPU, quantized ones with scales of 32 bits.

It belongs to no test: a busy machine spoils the speeds, and only Apple silicon can tell what they are there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median

import mlx.core as mx
import numpy as np
from mlx_lm.generate import speculative_generate_step
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.sample_utils import make_sampler

from tui.engine.backends import Options
from tui.engine.backends.mlx import MlxBackend
from tui.engine.backends.mlx.model import MlxModel
from tui.engine.speculation.loop import generate, prefill
from tui.engine.speculation.policy import FixedLength
from tui.engine.speculation.proposers import DraftModel
from tui.engine.speculation.sampling import Chain, Sampler
from tui.engine.starter import DRAFT, MAIN
from tui.engine.starter.mlx import starter_folder

SUBJECTS = (
    "a draft model", "speculative decoding", "quicksort", "the acceptance rate", "the KV cache",
    "a palindrome", "temperature", "the command palette", "binary search", "fibonacci",
)  # fmt: skip
FRAMES = ("What is {}?", "Tell me about {}.", "Write {} in Python.", "How does {} work?")
PROMPTS = tuple(frame.format(subject) for subject in SUBJECTS for frame in FRAMES)


@dataclass
class Run:
    """What one loop did over all prompts."""

    tokens: int = 0
    rounds: int = 0
    timed_tokens: int = 0
    """Those behind the first round, whose time holds what came before."""
    seconds: float = 0.0
    texts: list[list[int]] = field(default_factory=list)
    """The tokens of each answer."""

    @property
    def per_round(self) -> float:
        return self.tokens / self.rounds

    @property
    def speed(self) -> float:
        return self.timed_tokens / self.seconds


@dataclass(frozen=True)
class Task:
    main: MlxModel
    draft: MlxModel
    length: int
    tokens: int
    temperature: float

    def ours(self, context: Sequence[int], seed: int, run: Run) -> None:
        text = list(context)
        for each in (self.main, self.draft):
            each.rewind(0)
            each.start(Sampler(Chain(self.temperature), seed, len(context)))
            prefill(each, text, end=lambda at: at + 2048, cancelled=lambda: False, progress=lambda *_: None)
        end = self.main.vocabulary.end_tokens
        rounds = generate(
            self.main, DraftModel(self.draft, end), text, policy=FixedLength(self.length), end_tokens=end,
            max_tokens=self.tokens,
        )  # fmt: skip
        sizes, times = [], []
        for happened in rounds:
            times.append(time.perf_counter())
            sizes.append(len(happened.tokens))
        self._add(run, text[len(context) :], len(sizes), sum(sizes[1:]), times[-1] - times[0])

    def theirs(self, context: Sequence[int], seed: int, run: Run) -> None:
        mx.random.seed(seed)
        # The order and the values of our chain, as far as theirs has them.
        sampler = make_sampler(self.temperature, top_p=0.95, min_p=0.05, top_k=40)
        networks = self.main.runner.network, self.draft.runner.network
        caches = [cache for network in networks for cache in make_prompt_cache(network)]
        steps = speculative_generate_step(
            mx.array(context), *networks, num_draft_tokens=self.length, max_tokens=self.tokens,
            sampler=sampler, prompt_cache=caches,
        )  # fmt: skip
        text, ends, drafted = [], [], False
        for token, _, drafted in steps:
            text.append(token)
            if not drafted:
                ends.append((len(text), time.perf_counter()))
            if token in self.main.vocabulary.end_tokens:
                break
        if drafted:  # a round that ended within its draft
            ends.append((len(text), time.perf_counter()))
        steps.close()
        (first, began), (_, ended) = ends[0], ends[-1]
        self._add(run, text, len(ends), len(text) - first, ended - began)

    def _add(self, run: Run, text: list[int], rounds: int, timed: int, seconds: float) -> None:
        run.tokens += len(text)
        run.rounds += rounds
        run.timed_tokens += timed
        run.seconds += seconds
        run.texts.append(text)


def certainty(task: Task, contexts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]]) -> float:
    """The mean probability of the main model's likeliest token, at each place of these answers."""
    likeliest: list[float] = []
    for context, text in zip(contexts, texts, strict=False):
        scores = task.main.runner.network(mx.array([[*context, *text]]))[0, len(context) - 1 : -1]
        heated = mx.softmax(scores.astype(mx.float32) / (task.temperature or 1.0), axis=-1)
        likeliest += heated.max(axis=-1).tolist()
    return mean(likeliest)


def compared(task: Task, prompts: Sequence[str], runs: int) -> dict[str, float | bool]:
    """Both over all prompts, in turn, `runs` times; the median of the ratios of speed."""
    ratios, ours, theirs = [], Run(), Run()
    asked = [f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n" for prompt in prompts]
    contexts = [task.main.vocabulary.encode(text) for text in asked]
    for number in range(runs):
        one, other = Run(), Run()
        for seed, context in enumerate(contexts):
            turns = [(task.ours, one), (task.theirs, other)]
            for answer, run in turns if (seed + number) % 2 else reversed(turns):
                answer(context, seed + 1000 * number, run)
        ratios.append(one.speed / other.speed)
        ours, theirs = _sum(ours, one), _sum(theirs, other)
    return {
        "temperature": task.temperature,
        "certainty": certainty(task, contexts, ours.texts),
        "our_tokens_per_round": ours.per_round,
        "their_tokens_per_round": theirs.per_round,
        "ratio_of_tokens_per_round": ours.per_round / theirs.per_round,
        "our_tokens_per_second": ours.speed,
        "their_tokens_per_second": theirs.speed,
        "ratio_of_speed": median(ratios),
        "same_texts": sum(a == b for a, b in zip(ours.texts, theirs.texts, strict=True)) / len(ours.texts),
    }


def _sum(a: Run, b: Run) -> Run:
    return Run(
        a.tokens + b.tokens, a.rounds + b.rounds, a.timed_tokens + b.timed_tokens, a.seconds + b.seconds,
        a.texts + b.texts,
    )  # fmt: skip


def pairs(place: Path) -> dict[str, tuple[Path, Path]]:
    """The two pairs that can be made anywhere."""
    from tests.support import mlx_models

    main = mlx_models.write_folder(place / "main")
    return {
        "the starter pair": (starter_folder(MAIN, place), starter_folder(DRAFT, place)),
        "a random pair": (main, mlx_models.perturbed(main, place / "draft")),
    }


def flattened_pairs(place: Path, by: float, noise: float) -> dict[str, tuple[Path, Path]]:
    """The starter pair with its scores divided, and its main model with a noisy copy."""
    main, draft = starter_folder(MAIN, place), starter_folder(DRAFT, place)
    flat = flattened(main, place / "main", by)
    return {
        "the flattened starter pair": (flat, flattened(draft, place / "draft", by)),
        "the flattened starter and a noisy copy": (flat, flattened(main, place / "copy", by, noise)),
    }


def flattened(folder: Path, target: Path, by: float, noise: float = 0.0) -> Path:
    """A copy of a Llama with its scores divided by `by`, and what they are made of changed by `noise`.

    Each of the numbers that go into the last product is scaled by 1 + noise * a standard normal one.
    """
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    weights = dict(mx.load(str(folder / "model.safetensors")))
    norm = weights["model.norm.weight"]
    scale = 1 + noise * np.random.default_rng(5).standard_normal(norm.shape, np.float32)
    weights["model.norm.weight"] = norm * mx.array(scale) / by
    mx.save_safetensors(str(target / "model.safetensors"), weights, {"format": "mlx"})
    return target


def compare(name: str, folders: tuple[Path, Path], how: argparse.Namespace) -> None:
    """Load a pair, run it and print what was found."""
    backend = MlxBackend()
    main, draft = (
        backend.load(str(folder), Options(role, 512), lambda _: True)  # type: ignore[arg-type]
        for folder, role in zip(folders, ("main", "draft"), strict=True)
    )
    if obstacle := backend.mismatch(main, draft):
        raise SystemExit(obstacle.text)
    for temperature in how.temperatures:
        task = Task(main, draft, how.length, how.tokens, temperature)
        found = compared(task, PROMPTS[:: max(1, len(PROMPTS) // how.prompts)], how.runs)
        if how.json:
            print(json.dumps({"pair": name, "device": backend.device(), "length": how.length, **found}))
            continue
        print(f"{name}, temperature {temperature}, draft length {how.length}, {backend.device()}")
        print(f"  certainty {found['certainty']:.2f}")
        for kind in ("tokens_per_round", "tokens_per_second"):
            ratio = found["ratio_of_" + ("speed" if kind.endswith("second") else kind)]
            ours, theirs = found[f"our_{kind}"], found[f"their_{kind}"]
            print(f"  {kind:18} ours {ours:.2f}  theirs {theirs:.2f}  {ratio:.2f}x")
        print(f"  the same text: {found['same_texts']:.0%}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", type=Path, metavar="MAIN DRAFT")
    parser.add_argument("--flatten", type=float, metavar="F", help="divide the starter's scores by F")
    parser.add_argument("--noise", type=float, default=0.6, help="of the draft that is a copy")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0.8, 0.0])
    parser.add_argument("--length", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    how = parser.parse_args()
    if how.flatten is not None and (how.models or how.flatten <= 0):
        parser.error("--flatten is a positive number, and for the starter pair")
    if len(how.models) not in (0, 2):
        parser.error("name a main model and a draft, or neither")
    with tempfile.TemporaryDirectory() as place:
        for name, folders in _chosen(how, Path(place)).items():
            compare(name, folders, how)


def _chosen(how: argparse.Namespace, place: Path) -> dict[str, tuple[Path, Path]]:
    """The pairs to try: those that are named, or some that are made in `place`."""
    if how.models:
        return {how.models[0].name: tuple(how.models)}
    return flattened_pairs(place, how.flatten, how.noise) if how.flatten else pairs(place)


if __name__ == "__main__":
    main()
