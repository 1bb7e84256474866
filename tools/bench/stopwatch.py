"""Are the figures true, and does the first token wait for the draft? A stopwatch at the client's end tells.

    python -m tools.bench.stopwatch MAIN DRAFT [--rounds 9] [--tokens 96]

Each round asks the same prompt plain and drafted, in turn the one and the other first, from empty caches.
Printed are medians: the time to the first token of both, and the speed that the engine reports beside that of
the stopwatch. A busy machine spoils it.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median

from tui.choices import AUTO
from tui.client import EngineClient
from tui.host import HERE
from tui.protocol import Finished, Generate, Load, Message, Sampling, TextRound

PROMPT = "Explain speculative decoding in detail. " * 12


async def ask(client: EngineClient, number: int, drafted: bool, tokens: int) -> tuple[float, float, float]:
    """Seconds to the first token, tokens per second as reported, and by the stopwatch."""
    question = Generate(
        id=number,
        messages=(Message("user", PROMPT),),
        seed=number // 2,
        sampling=Sampling(temperature=0.8),
        draft_length=AUTO if drafted else 0,
        lookup=False,
        fresh=True,
        max_tokens=tokens,
        ignore_eos=True,
    )
    began = time.perf_counter()
    first = last = 0.0
    first_round, count = 0.0, 0
    async for event in client.generate(question):
        if isinstance(event, TextRound) and event.tokens:
            last = time.perf_counter()
            if not first:
                first, first_round = last, event.seconds
            count += len(event.tokens)
        elif isinstance(event, Finished):
            reported = event.statistics.tokens_per_second or 0.0
            return first - began, reported, count / (last - first + first_round)
    raise AssertionError("an answer has an end")


async def run(options: argparse.Namespace) -> None:
    client = EngineClient(HERE, Path(tempfile.gettempdir()) / "outrider-stopwatch.log")
    await client.start()
    await client.load(Load(str(options.main), str(options.draft)), lambda _: None)
    found: dict[bool, list[tuple[float, float, float]]] = {False: [], True: []}
    for turn in range(-1, options.rounds):
        for drafted in (False, True) if turn % 2 else (True, False):
            measured = await ask(client, 2 * (turn + 2) + drafted, drafted, options.tokens)
            if turn >= 0:  # the first ones warm up
                found[drafted].append(measured)
    await client.close()
    waits = {drafted: median(each[0] for each in runs) * 1000 for drafted, runs in found.items()}
    ratio = waits[True] / waits[False]
    print(f"first token: plain {waits[False]:.1f} ms, drafted {waits[True]:.1f} ms, {ratio:.3f}")
    for drafted, runs in found.items():
        name = "drafted" if drafted else "plain"
        reported, true = median(each[1] for each in runs), median(each[2] for each in runs)
        off = [said / measured - 1 for _, said, measured in runs]
        print(
            f"{name}: reported {reported:.2f}, stopwatch {true:.2f} tokens/s, "
            f"off by {median(off):+.2%}, at most {max(off, key=abs):+.2%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("main", type=Path)
    parser.add_argument("draft", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=96)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
