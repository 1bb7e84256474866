"""Where a drafted answer parts from the plain one: every place, and how near the two tokens were.

    python -m tools.bench.partings MAIN DRAFT [--prompts 9] [--lengths auto,1,3,8] [--tokens 128]

Each prompt is answered plainly, then with each draft length, with the same seed and from empty caches.
Behind a parting stands how close the choice was and what rounding does, as the race says it. Of each answer
it is said how likely a parting was, and of all how many were to be expected: at each place the plain choice
leads by some distance, and rounding moves that distance by an amount that is normally distributed, as wide
as was measured. Only places count whose round verified drafts, for only these were computed in several rows.
Edges of top-k, top-p and min-p are not in it. It takes no times, so a busy machine does no harm.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from itertools import count
from math import erfc, prod, sqrt
from pathlib import Path

from msgspec.structs import replace

from tools.bench.grow import questions
from tui.choices import AUTO, DraftLength
from tui.client import EngineClient
from tui.client.parting import explained, first_difference
from tui.commands.bench.plan import read_prompts
from tui.host import HERE
from tui.protocol import Generate, Inspect, Load, Message, Sampling, TextRound, TokenInspection

_numbers = count(1)


async def rounds_of(client: EngineClient, question: Generate) -> list[TextRound]:
    """The whole answer."""
    return [event async for event in client.generate(question) if isinstance(event, TextRound)]


def tokens_of(rounds: Sequence[TextRound]) -> list[int]:
    return [token for each in rounds for token in each.tokens]


def chance(place: TokenInspection) -> float:
    """How likely it is that several rows choose otherwise than one.

    `rounding` is the standard deviation of what moves the lead: sqrt(2) times that of a single score.
    """
    return 0.5 * erfc(place.lead / (sqrt(2) * place.rounding)) if place.rounding else 0.0


def expected(chances: Sequence[float], rounds: Sequence[TextRound]) -> float:
    """How likely it is that a text parts from the plain one, by the chance of each place of that one.

    Behind the first parting nothing counts, and of a place that no draft reached nothing can change.
    """
    several = [bool(each.drafted) for each in rounds for _ in each.tokens]
    return 1 - prod(1 - each for each, drafted in zip(chances, several, strict=False) if drafted)


async def chances_of(client: EngineClient, question: Generate, plain: Sequence[int]) -> list[float]:
    """The chance of each place of a plain answer, whose tokens the cache still holds.

    One place at a time is asked for: so it is computed in a single row, as it was in the answer.
    """
    asked = replace(question, resume=tuple(plain), fresh=False)
    found = [await client.inspect(Inspect(next(_numbers), asked, place, 1)) for place in range(1, len(plain))]
    return [0.0, *(chance(each.places[0]) for each in found if each.places)]


def asked(options: argparse.Namespace) -> Iterator[Generate]:
    """Each prompt at each temperature, without drafts."""
    every = questions(options.questions) if options.questions else [each.text for each in read_prompts()[::3]]
    for temperature in options.temperatures:
        for seed, prompt in enumerate(every[: options.prompts]):
            yield Generate(
                id=0,
                messages=(Message("user", prompt),),
                seed=seed,
                sampling=Sampling(temperature=temperature),
                draft_length=0,
                lookup=False,
                fresh=True,
                max_tokens=options.tokens,
                raw=options.raw,
            )


async def run(options: argparse.Namespace) -> None:
    client = EngineClient(HERE, Path(tempfile.gettempdir()) / "outrider-partings.log")
    await client.start()
    given = {"threads": options.threads, "exact": options.exact}
    load = Load(str(options.main), str(options.draft), options.context, **given)
    loaded = await client.load(load, lambda _: None)
    if rejected := loaded.obstacle and loaded.obstacle.text:
        raise SystemExit(f"Outrider does not draft: {rejected}")
    answers = partings = shared = 0
    foreseen = 0.0
    for question in asked(options):
        plain = tokens_of(await rounds_of(client, replace(question, id=next(_numbers))))
        chances = await chances_of(client, question, plain)
        for length in options.lengths:
            drafted = await rounds_of(client, replace(question, id=next(_numbers), draft_length=length))
            place = first_difference([plain, tokens_of(drafted)])
            likely = expected(chances, drafted)
            answers, shared, foreseen = (
                answers + 1,
                shared + (len(plain) if place is None else place),
                foreseen + likely,
            )
            found = "the same text"
            if place is not None:
                partings += 1
                found = await explained(client, next(_numbers), question, plain, place)
            prompt = question.messages[0].content[:40]
            heat = question.sampling.temperature
            print(
                f"{prompt!r} at {heat:g}, length {length}, {likely:.0%} likely to part: {found}", flush=True
            )
    await client.close()
    print(f"{partings} of {answers} answers part from the plain one, and {foreseen:.1f} were to be expected")
    print(f"{shared} tokens are the same until then")


def main() -> None:
    def lengths(text: str) -> list[DraftLength]:
        return [AUTO if part == AUTO else int(part) for part in text.split(",")]

    def floats(text: str) -> list[float]:
        return [float(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description="Where drafted answers part from plain ones.")
    add = parser.add_argument
    add("main", type=Path)
    add("draft", type=Path)
    add("--lengths", type=lengths, default=[AUTO, 1, 3, 8])
    add("--temperatures", type=floats, default=[0.0, 0.8])
    add("--prompts", type=int, default=9)
    add("--questions", type=Path, help="TOML with other prompts, as tools/bench/openings.toml")
    add("--tokens", type=int, default=128, help="of an answer, at most")
    add("--raw", action="store_true", help="without a chat template, for a base model")
    add("--context", type=int, default=2048)
    add("--exact", action="store_true", help="in exact mode, in which none may part")
    add("--threads", type=int, default=0, help="0 lets the engine choose")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
