"""The measured draft length beside plain decoding and a fixed draft length, in turns, for any pair.

    python -m tools.bench.measured_length MAIN DRAFT [--prompts 3] [--tokens 48] [--length 3] [--practice]

The pair is loaded as an engine loads it, with its costs measured anew. Each prompt is answered in all three
ways, from empty caches and with the same seed. So a draft also reads the prompt in that time. The answers of
the other two ways teach the measured length nothing. With `--practice` the costs are practiced first, as an
engine does while it is idle. A busy machine spoils the figures.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from time import process_time

from tests.support.answering import ask
from tui.choices import AUTO, DraftLength
from tui.commands.bench.plan import read_prompts
from tui.engine.answer.templates import TemplateRenderer
from tui.engine.pair.pair import Pair, load_pair
from tui.engine.speculation.policy import AdaptiveLength, FixedLength
from tui.paths import find_costs
from tui.protocol import Load, Message, Sampling


class Way:
    """One way to answer, with its sums over all answers."""

    def __init__(self, name: str, pair: Pair, length: DraftLength) -> None:
        self.name, self._pair, self._length = name, pair, length
        self.tokens = self.rounds = self.drafted = self.accepted = 0
        self.seconds = self.processor = 0.0
        self.texts: list[list[int]] = []

    def answer(
        self, renderer: TemplateRenderer, prompt: str, seed: int, temperature: float, most: int
    ) -> None:
        began = process_time()
        heard = ask(
            self._pair, renderer, [Message("user", prompt)], seed=seed, max_tokens=most, fresh=True,
            sampling=Sampling(temperature=temperature), draft_length=self._length,
        )  # fmt: skip
        found = heard.statistics
        self.processor += process_time() - began
        self.tokens, self.rounds = self.tokens + found.tokens, self.rounds + found.rounds
        self.drafted, self.accepted = self.drafted + found.drafted, self.accepted + found.accepted
        self.seconds += found.seconds
        self.texts.append(heard.tokens)

    def summary(self) -> dict[str, object]:
        """Return the figures of all answers so far."""
        return {
            "tokens_per_second": round(self.tokens / self.seconds, 3),
            "tokens_per_processor_second": round(self.tokens / self.processor, 3),
            "tokens_a_round": round(self.tokens / self.rounds, 2),
            "accepted": f"{self.accepted} of {self.drafted}",
        }


def compare(options: argparse.Namespace) -> None:
    """Print the figures of the three ways at each temperature."""
    shutil.rmtree(find_costs(), ignore_errors=True)
    pair = load_pair(Load(str(options.main), str(options.draft), 2048), lambda stage, share: True)
    if not isinstance(policy := pair.policy, AdaptiveLength) or pair.draft is None:
        raise SystemExit(f"the draft length is not measured: {pair.obstacle}")
    if options.practice:
        pair.practise(lambda: True)
    rows = [round(each / policy.costs.verify[0], 2) for each in policy.costs.verify]
    costs = policy.costs
    print(f"one row {costs.verify[0]:.3f} s; rows {rows}", flush=True)
    print(f"draft {costs.draft / costs.verify[0]:.2f}, read {costs.read / costs.verify[0]:.3f}", flush=True)
    prompts = [each.text for each in read_prompts()[:: options.every]][: options.prompts]
    other = replace(pair, policy=FixedLength(options.length))
    renderer = TemplateRenderer()
    for temperature in options.temperatures:
        ways = [Way("plain", other, 0), Way("fixed", other, options.length), Way("measured", pair, AUTO)]
        for number, prompt in enumerate(prompts):
            for way in [*ways[number % 3 :], *ways[: number % 3]]:
                way.answer(renderer, prompt, number, temperature, options.tokens)
        assert ways[0].texts == ways[1].texts == ways[2].texts, "rounding has tipped a choice"
        plain, fixed, measured = (way.tokens / way.seconds for way in ways)
        found = {"temperature": temperature, "of_the_better": round(measured / max(plain, fixed), 3)}
        print(json.dumps(found | {way.name: way.summary() for way in ways}), flush=True)
    renderer.close()
    pair.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="The measured draft length beside two others.")
    add = parser.add_argument
    add("main", type=Path)
    add("draft", type=Path)
    add("--prompts", type=int, default=3)
    add("--every", type=int, default=3, help="take every such prompt of `outrider bench`")
    add("--tokens", type=int, default=48, help="of an answer")
    add("--length", type=int, default=3)
    add("--temperatures", type=lambda text: list(map(float, text.split(","))), default=[0.0, 0.8])
    add("--practice", action="store_true")
    compare(parser.parse_args())


if __name__ == "__main__":
    main()
