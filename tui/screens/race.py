"""A short race of drafts for one main model: each is loaded in turn and answers the same prompts.

The engine keeps what every answer brought beside plain decoding; nothing is computed here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from tui.client import EngineClient, EngineError
from tui.protocol import DraftVerdict, Generate, Load, Message, Sampling

from .requests import LOOKUP

PROMPTS = (
    "Write a quicksort algorithm in Python. Write code only.",
    "Explain the Pythagorean theorem",
    "Plan a 1 day trip to DC",
)
TOKENS = 64
_FIRST = 1 << 32
"""Far from the ids of a chat's answers."""
MOST = 4
"""Draft models that race, the best by what is known; lookup alone comes with them."""


@dataclass(frozen=True)
class Lap:
    """How far the race has come."""

    draft: str
    """Name of who runs now."""
    done: float
    """Share of all that is to be done, 0 to 1."""
    fault: str = ""
    """Why this one is out of the race."""


def entrants(verdicts: Sequence[DraftVerdict]) -> list[DraftVerdict]:
    """Who races: what can draft, the best first."""
    able = [each for each in verdicts if each.judgement != "no" and each.draft]
    models = [each for each in able if each.draft != LOOKUP][:MOST]
    return models + [each for each in able if each.draft == LOOKUP]


async def race(client: EngineClient, load: Load, drafts: Sequence[DraftVerdict]) -> AsyncGenerator[Lap, None]:
    """Run it. What is loaded afterwards is the last of `drafts`; closing the iterator ends it early."""
    steps = len(drafts) * (len(PROMPTS) + 1)
    for number, verdict in enumerate(drafts):
        step = number * (len(PROMPTS) + 1)
        yield Lap(verdict.name, step / steps)
        draft = None if verdict.draft == LOOKUP else verdict.draft
        try:
            loaded = await client.load(replace(load, draft=draft), lambda _: None)
            if refused := loaded.draft_refused or loaded.drafting_refused:
                yield Lap(verdict.name, step / steps, refused)
                continue
            for seed, prompt in enumerate(PROMPTS, 1):
                yield Lap(verdict.name, (step + seed) / steps)
                await _answer(client, prompt, seed)
        except EngineError as error:
            yield Lap(verdict.name, step / steps, error.line)
            if client.state == "dead":
                return


async def _answer(client: EngineClient, prompt: str, seed: int) -> None:
    question = Generate(
        id=_FIRST + seed,
        messages=(Message("user", prompt),),
        seed=seed,
        sampling=Sampling(temperature=0),
        fresh=True,
        max_tokens=TOKENS,
        ignore_eos=True,
    )
    async with aclosing(client.generate(question)) as events:
        async for _ in events:
            pass
