"""Plain decoding through Outrider beside llama-bench: the same model and threads, in turn.

    python -m tools.bench.plain LLAMA_BENCH MODEL.gguf [--rounds 9] [--tokens 128]

Drafting is off, and the answer goes through everything that an answer goes through: the sampling chain, the
text, the pipe and a client on the other end. llama-bench only runs the model. Each round asks both, in
turn the one and the other first; the figure is the median of the ratios. A busy machine spoils it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import tempfile
from itertools import count
from pathlib import Path
from statistics import median

from tui.client import EngineClient
from tui.host import HERE
from tui.protocol import Finished, Generate, Load, Message, Sampling


def llama_bench(options: argparse.Namespace) -> float:
    """Its tokens per second of text generation."""
    threads, tokens = str(options.threads), str(options.tokens)
    command = [options.program, "-m", options.model, "-p", "0", "-n", tokens, "-r", "1", "-t", threads]
    done = subprocess.run([*command, "-o", "json"], capture_output=True, check=True)
    return float(json.loads(done.stdout)[0]["avg_ts"])


async def outrider(client: EngineClient, number: int, temperature: float, tokens: int) -> float:
    """Outrider's tokens per second, prompt and first token's wait excluded."""
    question = Generate(
        id=number,
        messages=(Message("user", "Explain speculative decoding in detail"),),
        seed=number,
        sampling=Sampling(temperature=temperature),
        draft_length=0,
        lookup=False,
        fresh=True,
        max_tokens=tokens,
        ignore_eos=True,
    )
    async for event in client.generate(question):
        if isinstance(event, Finished):
            return event.statistics.tokens_per_second or 0.0
    raise AssertionError("an answer has an end")


async def run(options: argparse.Namespace) -> None:
    client = EngineClient(HERE, Path(tempfile.gettempdir()) / "outrider-plain.log")
    await client.start()
    await client.load(Load(str(options.model), threads=options.threads), lambda _: None)
    numbers = count(1)
    for temperature in options.temperatures:
        ratios = []
        await outrider(client, next(numbers), temperature, 16)
        for turn in range(options.rounds):
            if turn % 2:
                theirs = await asyncio.to_thread(llama_bench, options)
            ours = await outrider(client, next(numbers), temperature, options.tokens)
            if not turn % 2:
                theirs = await asyncio.to_thread(llama_bench, options)
            ratios.append(ours / theirs)
            print(f"temperature {temperature:g}: {ours:7.2f} beside {theirs:7.2f} tokens/s", flush=True)
        print(
            f"temperature {temperature:g}: {median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}"
        )
    await client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Plain decoding beside llama-bench.")
    add = parser.add_argument
    add("program", help="the llama-bench program")
    add("model", type=Path)
    add("--rounds", type=int, default=9)
    add("--tokens", type=int, default=128)
    add("--temperatures", type=lambda text: [float(part) for part in text.split(",")], default=[0.0, 0.8])
    add("--threads", type=int, default=os.cpu_count() or 1)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
