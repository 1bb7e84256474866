"""The plan of a benchmark: the prompts, the questions, their number and their order. It asks nothing itself.

The prompts are our own 27, or those of a user's TOML file: each key is a category, its value a list of
prompts. Anything else is an error.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...choices import DraftLength
from ...protocol import Generate, Message, Sampling
from ..setup import UsageError

SHIPPED = Path(__file__).with_name("prompts.toml")


@dataclass(frozen=True)
class Prompt:
    """One prompt. Not trusted text if it comes from a user's file."""

    category: str
    text: str


def read_prompts(path: Path = SHIPPED) -> tuple[Prompt, ...]:
    """Return the prompts of a file in order, without empty lines around each. Raises `UsageError`."""
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # neither UTF-8 nor TOML
        raise UsageError(f"{path}: {error}") from None
    prompts = []
    for category, texts in data.items():
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise UsageError(f"{path}: {category} must be a list of prompts, {category} = ['...', '...']")
        prompts += [Prompt(category, text.strip()) for text in texts]
    if not all(prompt.text for prompt in prompts):
        raise UsageError(f"{path}: a prompt is empty")
    if not prompts:
        raise UsageError(f"{path}: there is no prompt in it; one line is enough: chat = ['Hello']")
    return tuple(prompts)


def quick(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """Return the first prompt of each category."""
    first: dict[str, Prompt] = {}
    for prompt in prompts:
        first.setdefault(prompt.category, prompt)
    return tuple(first.values())


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
