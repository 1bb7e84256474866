"""Where a drafted answer parts from the plain one: every place, and how near the two tokens were.

    python -m tests.bench.partings MAIN DRAFT [--prompts 9] [--lengths auto,1,3,8] [--tokens 128]

Each prompt is answered plainly, then with each draft length, with the same seed and from empty caches.
Behind a parting stand the main model's own probabilities of both tokens, before the sampling chain: at
temperature 0 they are nearly equal where rounding tipped the choice. At other temperatures the shared
noise is in the choice and not in these figures. It takes no times, so a busy machine does no harm.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

from tests.bench.grow import questions
from tui.client import EngineClient
from tui.client.host import HERE
from tui.commands.bench.prompts import read_prompts
from tui.commands.bench.results import first_difference
from tui.protocol import Generate, Inspect, Load, Message, Round, Sampling

_numbers = count(1)


async def tokens_of(client: EngineClient, question: Generate) -> tuple[int, ...]:
    """The whole answer."""
    rounds = [event async for event in client.generate(question) if isinstance(event, Round)]
    return tuple(token for each in rounds for token in each.tokens)


async def at(
    client: EngineClient, question: Generate, plain: Sequence[int], drafted: Sequence[int], place: int
) -> str:
    """Both tokens at a place, as the main model sees them behind the tokens before it."""
    asked = replace(question, resume=tuple(plain))
    if place >= len(plain):
        return "the plain answer ends"
    looked = await client.inspect(Inspect(next(_numbers), asked, place, 1))
    seen = {each.token: f"{each.text!r} {each.probability:.2%}" for each in looked.places[0].main}
    other = (
        seen.get(drafted[place], "a token that is not among the best") if place < len(drafted) else "the end"
    )
    return f"plain {seen.get(plain[place], 'a token that is not among the best')}, drafted {other}"


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


async def parting(client: EngineClient, question: Generate, plain: Sequence[int]) -> tuple[int, str]:
    """How many tokens the answer to a question shares with the plain one; where they part, or nothing."""
    drafted = await tokens_of(client, question)
    place = first_difference([plain, drafted])
    if place is None:
        return len(plain), ""
    return place, f"token {place + 1}: {await at(client, question, plain, drafted, place)}"


async def run(options: argparse.Namespace) -> None:
    client = EngineClient(HERE, Path(tempfile.gettempdir()) / "outrider-partings.log")
    await client.start()
    given = {"threads": options.threads, "exact": options.exact}
    load = Load(str(options.main), str(options.draft), options.context, **given)
    loaded = await client.load(load, lambda _: None)
    if refused := loaded.drafting_refused or loaded.draft_refused:
        raise SystemExit(f"Outrider does not draft: {refused}")
    answers = partings = shared = 0
    for question in asked(options):
        plain = await tokens_of(client, replace(question, id=next(_numbers)))
        for length in options.lengths:
            drafted = replace(question, id=next(_numbers), draft_length=length)
            tokens, found = await parting(client, drafted, plain)
            answers, shared, partings = answers + 1, shared + tokens, partings + bool(found)
            if found:
                prompt, name = question.messages[0].content[:40], "auto" if length is None else length
                print(f"{prompt!r} at {question.sampling.temperature:g}, length {name}, {found}", flush=True)
    await client.close()
    print(f"{partings} of {answers} answers part from the plain one; {shared} tokens are the same until then")


def main() -> None:
    def lengths(text: str) -> list[int | None]:
        return [None if part == "auto" else int(part) for part in text.split(",")]

    def floats(text: str) -> list[float]:
        return [float(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description="Where drafted answers part from plain ones.")
    add = parser.add_argument
    add("main", type=Path)
    add("draft", type=Path)
    add("--lengths", type=lengths, default=[None, 1, 3, 8])
    add("--temperatures", type=floats, default=[0.0, 0.8])
    add("--prompts", type=int, default=9)
    add("--questions", type=Path, help="TOML with other prompts, as tests/bench/openings.toml")
    add("--tokens", type=int, default=128, help="of an answer, at most")
    add("--raw", action="store_true", help="without a chat template, for a base model")
    add("--context", type=int, default=2048)
    add("--exact", action="store_true", help="in exact mode, in which none may part")
    add("--threads", type=int, default=0, help="0 lets the engine choose")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
