"""How often a drafted token is accepted, by three rules, for several drafts of one main model.

    python -m tools.bench.draft_rules MAIN DRAFT [DRAFT ...] [--prompts 10] [--temperature 0.8]

Each question is answered twice with each draft. The first time, the draft chooses its tokens with the shared
noise, as Outrider does. The second time, it proposes its most likely token. At each place that the main model
has checked in the first answer, p is the main model's distribution and q the draft's, both behind the
sampling chain. For these places, the script also computes the chance of acceptance by each rule: `sum(min(p,
q))` for the best possible rule, the chance that the shared noise chooses the same token, and p of the most
likely token of q. The best possible rule is the best of those that draw from q: where the main model is sure,
the most likely token can be right more often. The script takes no times, so a busy machine does no harm.

Source of the second chance: Daliri, Musco, Suresh, arXiv 2408.07978; of the first: Leviathan, Kalman, Matias,
arXiv 2211.17192.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tools.bench.grow import questions
from tui.engine.answer.prompt import prompt_of
from tui.engine.answer.templates import TemplateRenderer
from tui.engine.backends import LoadedModel
from tui.engine.pair.pair import Pair, load_pair
from tui.engine.speculation.loop import Pick, Round, generate, prefill
from tui.engine.speculation.policy import FixedLength
from tui.engine.speculation.proposers import DraftModel
from tui.engine.speculation.sampling import Chain, Logits, Sampler
from tui.protocol import Generate, Load, Message

QUESTIONS = Path(__file__).with_name("known.toml")


class Distribution(NamedTuple):
    """Tokens and their probabilities, the most likely first."""

    ids: NDArray[np.int64]
    shares: NDArray[np.float64]


class Chances(NamedTuple):
    """The chance that a drafted token is accepted, by three rules."""

    best: float
    shared: float
    likeliest: float


def chances(main: Distribution, draft: Distribution) -> Chances:
    """The chances at one place."""
    ids = np.union1d(main.ids, draft.ids)
    p, q = np.zeros(ids.size), np.zeros(ids.size)
    p[np.searchsorted(ids, main.ids)] = main.shares
    q[np.searchsorted(ids, draft.ids)] = draft.shares
    both = (p > 0) & (q > 0)
    # Both choose v if no other token is ahead of v in either of them.
    rivals = np.maximum(p[:, None] / p[both], q[:, None] / q[both]).sum(0)
    likeliest = p[np.searchsorted(ids, draft.ids[0])]
    return Chances(float(np.minimum(p, q).sum()), float((1 / rivals).sum()), float(likeliest))


class Recorder(Sampler):
    """A sampler that keeps the distribution of each place, by the tokens of the answer before it."""

    def __init__(self, chain: Chain, seed: int, start: int) -> None:
        super().__init__(chain, seed, start)
        self.seen: dict[tuple[int, ...], Distribution] = {}

    def pick(self, logits: Logits, tokens: Sequence[int], length: int) -> Pick:
        ids, log_p = self.distribution(logits)
        self.seen[tuple(tokens[self.start : length])] = Distribution(ids, np.exp(log_p))
        return super().pick(logits, tokens, length)


@dataclass
class Count:
    """Drafted tokens of several answers."""

    drafted: int = 0
    checked: int = 0
    """The accepted ones, and the first rejected one of each round."""
    accepted: int = 0

    def add(self, happened: Round) -> None:
        drafted = len(happened.drafted)
        self.drafted += drafted
        self.accepted += happened.accepted
        self.checked += min(drafted, happened.accepted + 1)

    def __str__(self) -> str:
        return f"{self.accepted / self.checked:.3f} | {self.accepted / self.drafted:.3f}"


class Trial:
    """The answers of one pair."""

    def __init__(self, pair: Pair, draft: LoadedModel, options: argparse.Namespace) -> None:
        self._main, self._draft = pair.main, draft
        self._options = options
        self._chain = Chain(options.temperature)
        self.sampled, self.likeliest = Count(), Count()
        self.places: list[Chances] = []

    def ask(self, prompt: Sequence[int], seed: int) -> None:
        """Answer by both ways of drafting, and keep the chances of the first."""
        start = len(prompt)
        main, draft = (Recorder(self._chain, seed, start) for _ in range(2))
        for happened in self._rounds(prompt, main, draft):
            self.sampled.add(happened)
        self.places += [
            chances(p, draft.seen[place]) for place, p in main.seen.items() if place in draft.seen
        ]
        greedy = Sampler(replace(self._chain, temperature=0.0), seed, start)
        for happened in self._rounds(prompt, Sampler(self._chain, seed, start), greedy):
            self.likeliest.add(happened)

    def _rounds(self, prompt: Sequence[int], main: Sampler, draft: Sampler) -> Iterator[Round]:
        text, end = list(prompt), self._main.vocabulary.end_tokens
        for model, sampler in ((self._main, main), (self._draft, draft)):
            model.rewind(0)
            model.start(sampler)
        prefill(self._main, text, end=lambda at: at + 512, cancelled=lambda: False, progress=lambda *_: None)
        proposer, policy = DraftModel(self._draft, end), FixedLength(self._options.length)
        yield from generate(
            self._main, proposer, text, policy=policy, end_tokens=end, max_tokens=self._options.tokens
        )

    def row(self) -> str:
        """The figures as cells of a table."""
        means = " | ".join(f"{mean:.3f}" for mean in np.mean(self.places, axis=0))
        return f"{means} | {self.sampled} | {self.likeliest} | {len(self.places)}"


def tried(draft: str, options: argparse.Namespace) -> Trial:
    """Load the pair and ask it all questions."""
    load = Load(options.main, draft, options.context, threads=options.threads)
    pair, renderer = load_pair(load, lambda *_: True), TemplateRenderer()
    if pair.draft is None:
        raise SystemExit(f"{draft} does not draft: {pair.obstacle and pair.obstacle.text}")
    trial = Trial(pair, pair.draft, options)
    try:
        for seed, question in enumerate(questions(options.questions)[: options.prompts]):
            asked = Generate(1, (Message("user", question),), seed)
            trial.ask(prompt_of(asked, pair.main, renderer), seed)
    finally:
        renderer.close()
        pair.close()
    return trial


def main() -> None:
    parser = argparse.ArgumentParser(description="How often drafted tokens are accepted, by three rules.")
    add = parser.add_argument
    add("main")
    add("drafts", nargs="+")
    add("--questions", type=Path, default=QUESTIONS, help="TOML with other questions")
    add("--prompts", type=int, default=10)
    add("--temperature", type=float, default=0.8)
    add("--length", type=int, default=4, help="drafted tokens of a round")
    add("--tokens", type=int, default=128, help="of an answer, at most")
    add("--context", type=int, default=2048)
    add("--threads", type=int, default=0, help="0 lets the engine choose")
    options = parser.parse_args()
    print("| draft | best rule | shared noise | likeliest | shared noise: of checked | of drafted |", end="")
    print(" likeliest: of checked | of drafted | places |\n|---|---|---|---|---|---|---|---|---|")
    for draft in options.drafts:
        print(f"| {Path(draft).name} | {tried(draft, options).row()} |", flush=True)


if __name__ == "__main__":
    main()
