"""The plan of a benchmark: the questions, their number and their order. It asks nothing itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...choices import DraftLength
from ...protocol import Generate, Message, Sampling
from .prompts import Prompt


@dataclass(frozen=True)
class BenchPlan:
    """The measurement for each pair of models."""

    prompts: tuple[Prompt, ...]
    temperatures: tuple[float, ...]
    seed: int
    max_tokens: int
    runs: int
    """Plain answers to each prompt at each temperature, and the same number of drafted ones."""
    draft_length: DraftLength
    lookup: bool

    @property
    def answers(self) -> int:
        """Number of answers in all."""
        return 2 * self.runs * len(self.prompts) * len(self.temperatures)

    def cases(self) -> Iterator[tuple[Prompt, float, tuple[bool, ...]]]:
        """Yield each prompt at each temperature, with the order of its answers (True is drafted).

        The first one alternates, so that neither way always runs on the warmer machine.
        """
        number = 0
        for temperature in self.temperatures:
            for prompt in self.prompts:
                pairs = (
                    (False, True) if (number + run) % 2 == 0 else (True, False) for run in range(self.runs)
                )
                yield prompt, temperature, tuple(drafted for pair in pairs for drafted in pair)
                number += 1

    def question(self, number: int, prompt: Prompt, temperature: float, drafted: bool) -> Generate:
        """Return the command with this number that asks `prompt`."""
        return Generate(
            id=number,
            messages=(Message("user", prompt.text),),
            seed=self.seed,
            sampling=Sampling(temperature=temperature),
            draft_length=self.draft_length if drafted else 0,
            lookup=self.lookup and drafted,
            fresh=True,
            max_tokens=self.max_tokens,
        )
