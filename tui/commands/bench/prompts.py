"""The prompts of a benchmark: our own 27, or a user's file of the same form.

The form is TOML: each key is a category, its value a list of prompts. Anything else is an error.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
