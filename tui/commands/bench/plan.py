"""What a benchmark asks, how often and in which order. It asks nothing itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...protocol import Generate, Message, Sampling
from .prompts import Prompt


@dataclass(frozen=True)
class Plan:
    """What is measured with each pair of models."""

    prompts: tuple[Prompt, ...]
    temperatures: tuple[float, ...]
    seed: int
    max_tokens: int
    runs: int
    """Answers of each prompt at each temperature, plain and as many drafted."""
    draft_length: int | None
    """None lets the engine measure and decide."""
    lookup: bool

    @property
    def answers(self) -> int:
        """How many there are in all."""
        return 2 * self.runs * len(self.prompts) * len(self.temperatures)

    def cases(self) -> Iterator[tuple[Prompt, float, tuple[bool, ...]]]:
        """Each prompt at each temperature, and which of its answers are drafted, in order.

        Who goes first alternates, so that neither way always runs on the warmer machine.
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
        """The command with this number that asks `prompt`."""
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
