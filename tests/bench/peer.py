"""Outrider beside llama-server: the same models, prompts, sampling and threads, in turn.

    python -m tests.bench.peer LLAMA_SERVER MODELS [--lengths 1,2,3,4,6,8] [--runs 3] [--json]

MODELS is a folder that `tests.bench.grow` filled: `main-*.gguf` and `draft-*.gguf`. LLAMA_SERVER is best
built from the same sources as the llama.cpp that Outrider uses. For each main model, draft and temperature
every prompt is answered plainly by both, with each fixed draft length by the server, and at its own pace by
Outrider, one after the other; all stay loaded meanwhile. Speeds are the programs' own figures: tokens by
seconds over all prompts, prompt processing excluded. The server's does not count its first token's time.

It needs two processes' memory for each main model, and belongs to no test: a busy machine spoils it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import exp, log
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.grow import questions
from tui.client import EngineClient
from tui.client.host import HERE
from tui.protocol import Finished, Generate, Load, Message, Sampling

PROMPTS = (
    "Which keys are there?",
    "Write quicksort in Python",
    "Explain speculative decoding in detail",
    "Show me merge sort in Python",
    "What can you do?",
    "Write a binary search in Python",
    "How do I start with my own models?",
    "Give me a tour",
)
CONTEXT = 1024
DEFAULT = 3
"""The draft length that llama-server takes when it is told none."""

Way = tuple[str, int]
"""("server", draft length) or ("outrider", 0 for plain, -1 for its own pace)."""
PLAIN, PACED = ("outrider", 0), ("outrider", -1)


@contextmanager
def serving(program: str, main: Path, draft: Path, length: int, threads: int) -> Iterator[int]:
    """A llama-server that is ready; its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "-m", main, "-c", CONTEXT, "-np", 1, "-t", threads, "--port", port, "--no-warmup"]
    if length:
        command += ["-md", draft, "--spec-type", "draft-simple", "--spec-draft-n-max", length]
    with tempfile.TemporaryFile() as log, subprocess.Popen(
        list(map(str, command)), stdout=log, stderr=log
    ) as server:  # fmt: skip
        try:
            for _ in range(600):
                if server.poll() is not None:
                    log.seek(0)
                    raise SystemExit(log.read().decode("utf-8", "replace")[-2000:])
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                        break
                except OSError:
                    time.sleep(0.1)
            yield port
        finally:
            server.terminate()


def ask_server(port: int, prompt: str, temperature: float, seed: int, tokens: int) -> tuple[int, float]:
    """Tokens and seconds of one answer."""
    body = {
        "prompt": f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n",
        "n_predict": tokens,
        "temperature": temperature,
        "seed": seed,
        "samplers": ["top_k", "top_p", "min_p", "temperature"],
        **{"top_k": 40, "top_p": 0.95, "min_p": 0.05, "cache_prompt": False},
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/completion",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=600) as answer:
        timings = json.load(answer)["timings"]
    return timings["predicted_n"], timings["predicted_ms"] / 1000


async def ask_outrider(
    client: EngineClient, length: int, prompt: str, temperature: float, seed: int, tokens: int
) -> tuple[int, float]:
    """Tokens and seconds of one answer, without lookup: the server has none either."""
    question = Generate(
        id=time.monotonic_ns(),
        messages=(Message("user", prompt),),
        seed=seed,
        sampling=Sampling(temperature=temperature),
        draft_length=None if length < 0 else length,
        lookup=False,
        fresh=True,
        max_tokens=tokens,
    )
    async for event in client.generate(question):
        if isinstance(event, Finished):
            return event.statistics.tokens, event.statistics.seconds
    raise AssertionError("an answer has an end")


async def measure(
    options: argparse.Namespace, main: Path, draft: Path, temperatures: Sequence[float]
) -> dict[float, dict[Way, float]]:
    """Tokens per second of each way at each temperature: the median of some runs over all prompts."""
    client = EngineClient(HERE, options.log)
    prompts = (questions(options.questions) if options.questions else PROMPTS)[: options.prompts]
    speeds: dict[float, dict[Way, list[float]]] = {t: defaultdict(list) for t in temperatures}
    with ExitStack() as servers:
        ports = {
            length: servers.enter_context(
                serving(options.server, main, draft, length, options.threads)
            )
            for length in (0, *options.lengths)
        }  # fmt: skip
        await client.start()
        await client.load(Load(str(main), str(draft), CONTEXT, threads=options.threads), lambda _: None)
        ways: list[Way] = [PLAIN, *(("server", length) for length in ports), PACED]

        async def ask(way: Way, *question: Any) -> tuple[int, float]:
            program, length = way
            if program == "server":
                return await asyncio.to_thread(ask_server, ports[length], *question)
            return await ask_outrider(client, length, *question)

        for way in ways:
            await ask(way, prompts[0], 0.0, 0, 32)
        for temperature in temperatures:
            for run in range(options.runs):
                sums: dict[Way, list[float]] = {way: [0, 0] for way in ways}
                for number, prompt in enumerate(prompts):
                    shift = (number + run) % len(ways)
                    for way in (*ways[shift:], *ways[:shift]):
                        tokens, seconds = await ask(way, prompt, temperature, run, options.tokens)
                        sums[way] = [sums[way][0] + tokens, sums[way][1] + seconds]
                for way, (tokens, seconds) in sums.items():
                    speeds[temperature][way].append(tokens / seconds)
        await client.close()
    return {t: {way: median(found) for way, found in ways.items()} for t, ways in speeds.items()}


def row(name: str, temperature: float, speeds: dict[Way, float], lengths: Sequence[int]) -> dict[str, Any]:
    paced = speeds[PACED]
    best = max(lengths, key=lambda length: speeds["server", length])
    return {
        "pair": name,
        "temperature": temperature,
        "plain": speeds[PLAIN],
        "server_plain": speeds["server", 0],
        **{f"server_{length}": speeds["server", length] for length in lengths},
        "outrider": paced,
        "best_length": best,
        "over_plain": paced / speeds[PLAIN],
        "over_default": paced / speeds["server", DEFAULT],
        "over_best": paced / max(speeds["server", best], speeds["server", 0]),
    }


def printed(cells: Sequence[Any]) -> str:
    return " ".join(
        f"{cell:7.2f}" if isinstance(cell, float) else f"{cell!s:>22}" if i == 0 else f"{cell!s:>7}"
        for i, cell in enumerate(cells)
    )


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for main in options.mains or sorted(options.models.glob("main-*.gguf")):
        for draft in options.drafts or sorted(options.models.glob("draft-*.gguf"), reverse=True):
            name = f"{main.stem} {draft.stem}"
            for temperature, speeds in (await measure(options, main, draft, options.temperatures)).items():
                rows.append(row(name, temperature, speeds, options.lengths))
                if len(rows) == 1:
                    print(printed(["tokens/s", *list(rows[0])[1:]]), flush=True)
                print(printed(list(rows[-1].values())), flush=True)
    return rows


def main() -> None:
    def paths(text: str) -> list[Path]:
        return [Path(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description="Outrider beside llama-server.")
    add = parser.add_argument
    add("server", help="the llama-server program")
    add("models", type=Path, help="the folder of models")
    add("--mains", type=paths, help="these files instead of main-*.gguf")
    add("--drafts", type=paths, help="these files instead of draft-*.gguf")
    add("--lengths", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2, 3, 4, 6, 8])
    add("--temperatures", type=lambda text: [float(part) for part in text.split(",")], default=[0.0, 0.8])
    add("--tokens", type=int, default=160)
    add("--questions", type=Path, help="TOML with other prompts, for another main model than the starter's")
    add("--prompts", type=int, default=len(PROMPTS), help="how many of them")
    add("--runs", type=int, default=3)
    add("--threads", type=int, default=os.cpu_count() or 1)
    add("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    if DEFAULT not in options.lengths:
        parser.error(f"--lengths must hold {DEFAULT}, the server's default")
    options.log = Path(tempfile.gettempdir()) / "outrider-peer.log"
    rows = asyncio.run(run(options))
    for temperature in options.temperatures:
        for name in ("over_plain", "over_default", "over_best"):
            ratios = [each[name] for each in rows if each["temperature"] == temperature]
            mean = exp(sum(map(log, ratios)) / len(ratios))
            print(f"{name} at {temperature:g}: {mean:.3f} in the geometric mean, {min(ratios):.3f} at least")
    if options.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    sys.exit(main())
