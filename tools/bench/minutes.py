"""What drafting brings while the machine's speed changes by the minute.

    python -m tools.bench.minutes MODELS [--main F16] [--drafts 90,80] [--minutes 15]

MODELS is a folder that `tools.bench.grow` filled. Each answer with Outrider's own draft lengths is timed
between two plain ones; it counts if these agree within 8 %. The ratios stand in groups by how long a plain
token took.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections import defaultdict
from itertools import cycle
from math import exp, log
from pathlib import Path

from tools.bench.grow import questions
from tools.bench.peer import ask_outrider
from tui.client import EngineClient
from tui.host import HERE
from tui.protocol import Load

PROMPTS = questions(Path(__file__).with_name("known.toml"))
TOKENS = 128
AGREES = 1.08
GROUP = 5
"""Milliseconds of a plain token that make a group."""

Case = tuple[str, float]
"""A draft and a temperature."""


async def speed(client: EngineClient, way: str, prompt: str, temperature: float) -> float:
    took = await ask_outrider(client, way, prompt, temperature, 1, TOKENS)
    return took.tokens / took.seconds


async def timed(options: argparse.Namespace) -> dict[tuple[Case, int], list[tuple[float, float]]]:
    """Plain and drafted tokens per second, by case and group."""
    clients = {draft: EngineClient(HERE, options.log) for draft in options.drafts}
    for draft, client in clients.items():
        await client.start()
        main, drafted = (
            options.models / f"{name}.gguf" for name in (f"main-{options.main}", f"draft-{draft}")
        )
        await client.load(Load(str(main), str(drafted), threads=options.threads), lambda _: None)
        for temperature in (0.0, 0.8):
            for prompt in PROMPTS[:3]:
                await speed(client, "auto", prompt, temperature)
    found: dict[tuple[Case, int], list[tuple[float, float]]] = defaultdict(list)
    end = time.monotonic() + 60 * options.minutes
    for prompt in cycle(PROMPTS):
        if time.monotonic() > end:
            break
        for temperature in (0.0, 0.8):
            for draft, client in clients.items():
                before, paced, after = [
                    await speed(client, way, prompt, temperature) for way in ("plain", "auto", "plain")
                ]
                if max(before, after) / min(before, after) <= AGREES:
                    plain = 2 / (1 / before + 1 / after)
                    found[(draft, temperature), int(1000 / plain // GROUP)].append((plain, paced))
    for client in clients.values():
        await client.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Drafting beside plain decoding, by how fast the machine is."
    )
    add = parser.add_argument
    add("models", type=Path)
    add("--main", default="F16")
    add("--drafts", type=lambda text: text.split(","), default=["90", "80"])
    add("--minutes", type=float, default=15)
    add("--threads", type=int, default=os.cpu_count() or 1)
    add("--log", type=Path, default=Path(tempfile.gettempdir()) / "outrider-minutes.log")
    found = asyncio.run(timed(parser.parse_args()))
    print("draft  temperature  plain ms a token  beside plain  answers")
    for (draft, temperature), group in sorted(found):
        pairs = found[(draft, temperature), group]
        token = 1000 * sum(1 / plain for plain, _ in pairs) / len(pairs)
        ratio = exp(sum(log(paced / plain) for plain, paced in pairs) / len(pairs))
        print(f"{draft:>5} {temperature:>12g} {token:>17.1f} {ratio:>13.2f} {len(pairs):>8}")


if __name__ == "__main__":
    main()
