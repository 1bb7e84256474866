"""The speed-up on the screen in many answers: is it ever untrue by its own rules?

    python -m tools.bench.ratios MAIN DRAFT [--answers 200] [--tokens 48]

Each answer runs through the meter of the sidebar, round by round. The speed-up may never be above the tokens
per round, never appear without drafts, and hardly change when the answer ends. A tenth of the answers comes
from the demo pair, which has none at all. Takes no times, so a busy machine does no harm.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections import Counter
from itertools import count, cycle, islice, product
from pathlib import Path

from tui.chat.meter import Meter, MeterReading
from tui.chat.requests import STARTER
from tui.choices import AUTO, DraftLength
from tui.client import EngineClient
from tui.commands.bench.plan import read_prompts
from tui.host import HERE
from tui.protocol import Finished, Generate, Load, Message, Sampling, TextRound

LENGTHS: tuple[DraftLength, ...] = (AUTO, AUTO, 1, 4, 8, 0)
MOST_CHANGE = 0.05
"""Largest difference between the last figure of a running answer and the one that stays."""
_numbers = count(1)


async def faults(client: EngineClient, question: Generate, *, demo: bool) -> set[str]:
    """Answer `question` and return the rules that its speed-up breaks."""
    meter, found, running = Meter(time.perf_counter), set[str](), MeterReading()
    meter.begin(question.seed)
    async for event in client.generate(question):
        if isinstance(event, TextRound):
            meter.add(event)
            running = meter.read()
            found |= _broken(running, demo)
        elif isinstance(event, Finished):
            meter.finish(event.statistics)
    final = meter.read()
    found |= _broken(final, demo)
    if (running.speed_up is None) != (final.speed_up is None):
        found.add("a figure that comes or goes at the end")
    elif running.speed_up and final.speed_up and abs(final.speed_up / running.speed_up - 1) > MOST_CHANGE:
        found.add("another figure at the end")
    return found


def _broken(reading: MeterReading, demo: bool) -> set[str]:
    if reading.speed_up is None:
        return set()
    rules = {
        "a figure without drafts": not reading.drafted,
        "a figure for the demo pair": demo,
        "more than the tokens per round": reading.speed_up > (reading.tokens_per_round or 0.0) + 1e-9,
    }
    return {rule for rule, broken in rules.items() if broken}


async def counted(options: argparse.Namespace) -> Counter[str]:
    """Ask all questions, first of the demo pair and then of the given one."""
    totals: Counter[str] = Counter()
    of_demo = options.answers // 10
    pairs = ((STARTER, STARTER, of_demo), (str(options.main), str(options.draft), options.answers - of_demo))
    with tempfile.TemporaryDirectory() as folder:
        environ = os.environ | {f"XDG_{kind}_HOME": folder for kind in ("CACHE", "STATE", "DATA")}
        client = EngineClient(HERE, Path(folder) / "engine.log", environ)
        await client.start()
        try:
            for main, draft, answers in pairs:
                await client.load(Load(main, draft, 2048), lambda _: None)
                cases = product(read_prompts(), (0.0, 0.8))
                for (prompt, temperature), length in zip(
                    islice(cycle(cases), answers), cycle(LENGTHS), strict=False
                ):
                    number = next(_numbers)
                    question = Generate(
                        id=number,
                        messages=(Message("user", prompt.text),),
                        seed=number,
                        sampling=Sampling(temperature=temperature),
                        draft_length=length,
                        max_tokens=options.tokens,
                    )
                    totals["answers"] += 1
                    totals.update(await faults(client, question, demo=main == STARTER))
        finally:
            await client.close()
    return totals


def main() -> None:
    parser = argparse.ArgumentParser(description="Whether the speed-up on the screen keeps its rules.")
    parser.add_argument("main", type=Path)
    parser.add_argument("draft", type=Path)
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=48)
    totals = asyncio.run(counted(parser.parse_args()))
    print("\n".join(f"{number:6} {what}" for what, number in totals.items()))


if __name__ == "__main__":
    main()
