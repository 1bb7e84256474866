"""A short race of drafts for one main model: each is loaded in turn and answers the same prompts.

The engine keeps what every answer brought beside plain decoding; nothing is computed here. How far the race
is, is said in words.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace

from tui.choices import LOOKUP, NONE
from tui.client import EngineClient, EngineError
from tui.protocol import DraftVerdict, Generate, Load, Message, Sampling, TextRound

from . import formatting

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
    doing: str
    """What it does now, in words."""
    fault: str = ""
    """Why this one is out of the race."""


def entrants(verdicts: Sequence[DraftVerdict]) -> list[DraftVerdict]:
    """Who races: what can draft, the best first."""
    able = [each for each in verdicts if each.judgement != "no" and each.draft != NONE]
    models = [each for each in able if each.draft != LOOKUP][:MOST]
    return models + [each for each in able if each.draft == LOOKUP]


async def race(
    client: EngineClient, load: Load, drafts: Sequence[DraftVerdict], tell: Callable[[Lap], None]
) -> None:
    """Run it, and `tell` how far it is. What is loaded afterwards is the last of `drafts`."""
    for number, verdict in enumerate(drafts):
        told = partial(_tell, tell, verdict.name, number, len(drafts))
        try:
            fault = await _run(client, load, verdict, told)
        except EngineError as error:
            fault = error.line
        if fault:
            told(1, "out of the race", fault)
        if client.state == "dead":
            return


def _tell(
    tell: Callable[[Lap], None],
    draft: str,
    place: int,
    drafts: int,
    share: float,
    doing: str,
    fault: str = "",
) -> None:
    """`share` is how much of this draft's part is done, the one at `place` of so many `drafts`."""
    tell(Lap(draft, (place + share) / drafts, doing, fault))


async def _run(
    client: EngineClient, load: Load, verdict: DraftVerdict, tell: Callable[[float, str], None]
) -> str:
    """Load one draft and let it answer; why it cannot, if so. `tell` gets its share that is done."""
    step = 1 / (len(PROMPTS) + 1)
    tell(0, "loading")
    loaded = await client.load(
        replace(load, draft=verdict.draft), lambda event: tell(0, formatting.loading(event))
    )
    if loaded.obstacle:
        return loaded.obstacle.text
    for number, prompt in enumerate(PROMPTS, 1):
        doing = f"prompt {number} of {len(PROMPTS)}"
        tell(step * number, doing)
        async for tokens in _answer(client, prompt, number):
            tell(step * (number + min(1, tokens / TOKENS)), doing)
    return ""


async def _answer(client: EngineClient, prompt: str, seed: int) -> AsyncGenerator[int, None]:
    """How many tokens of the answer have come, round by round."""
    question = Generate(
        id=_FIRST + seed,
        messages=(Message("user", prompt),),
        seed=seed,
        sampling=Sampling(temperature=0),
        fresh=True,
        max_tokens=TOKENS,
        ignore_eos=True,
    )
    tokens = 0
    async with aclosing(client.generate(question)) as events:
        async for event in events:
            if isinstance(event, TextRound):
                tokens += len(event.tokens)
                yield tokens
