"""Outrider beside llama-server: the same models, prompts, sampling and threads, in turn.

    python -m tools.bench.peer LLAMA_SERVER MAIN DRAFT RESULTS.jsonl [--quick] [--minutes 60]

Every prompt is answered in each of the ways, one after the other, with the models' own chat template; all
programs stay loaded meanwhile. The ways:

    plain    Outrider without drafts               server-plain   the server without a draft
    auto     Outrider by its own policy            server         the server with its default draft length
    app      the same, with lookup, as in the app  server-4       the server with this draft length
    fixed-4  Outrider with this draft length

Only `app` has lookup: the server has none here. Speeds are the programs' own figures: tokens by seconds,
prompt processing excluded, and of the server's tokens not the first, which its clock leaves out.
LLAMA_SERVER is best built from the same sources as the llama.cpp that Outrider uses (docs/measured.md
says how). RESULTS is added to, a line for each turn, and what it holds is not asked again: a long run can
be cut into pieces, by `--minutes` or by ctrl+c. What Outrider learns of a pair lies beside it, so that
every run of a RESULTS file begins with what the one before knew.

It needs memory for each server, and belongs to no test: a busy machine spoils it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from itertools import count
from math import inf
from pathlib import Path

from tools.bench import llama_server, turns
from tools.bench.grow import questions
from tools.bench.turns import Took, Turn
from tui.choices import AUTO, DraftLength
from tui.client import EngineClient
from tui.commands.bench.plan import read_prompts
from tui.engine.pair.practice import LIMIT
from tui.host import HERE
from tui.protocol import Busy, Finished, Generate, Load, Message, Sampling, TextRound

QUICK = ("plain", "auto", "server")
LENGTHS = range(1, 9)
WAYS = ("plain", "auto", "app", "server-plain", "server", *(f"server-{length}" for length in LENGTHS))
WARM_UP = 32
"""Tokens of the answers that come before the first measured turn."""
_WAY = re.compile(r"plain|auto|app|fixed-\d+|server(-plain|-\d+)?")
_OUTRIDER: dict[str, DraftLength] = {"plain": 0, "auto": AUTO, "app": AUTO}
_numbers = count(1)


async def ask_outrider(
    client: EngineClient, way: str, prompt: str, temperature: float, seed: int, limit: int
) -> Took:
    """One answer, from empty caches."""
    question = Generate(
        id=next(_numbers),
        messages=(Message("user", prompt),),
        seed=seed,
        sampling=Sampling(temperature=temperature),
        draft_length=_OUTRIDER[way] if way in _OUTRIDER else int(way.removeprefix("fixed-")),
        lookup=way == "app",
        fresh=True,
        max_tokens=limit,
    )
    began, tokens, fewest = time.perf_counter(), list[int](), 0
    async for event in client.generate(question):
        if isinstance(event, TextRound):
            tokens += event.tokens
        elif isinstance(event, Busy) and event.threads < event.most:
            fewest = min(fewest or event.threads, event.threads)
        elif isinstance(event, Finished):
            cost = event.statistics
    wall = time.perf_counter() - began
    text = zlib.crc32(repr(tokens).encode())
    drafts = cost.drafted, cost.accepted
    return Took(cost.tokens, cost.seconds, wall, cost.prompt_tokens, *drafts, text, fewest)


def ask_server(port: int, prompt: str, temperature: float, seed: int, limit: int) -> Took:
    """The same of a server."""
    began = time.perf_counter()
    told = llama_server.answer(port, [{"role": "user", "content": prompt}], temperature, seed, limit)
    wall = time.perf_counter() - began
    tokens, seconds = told["predicted_n"] - 1, told["predicted_ms"] / 1000
    drafts = told.get("draft_n", 0), told.get("draft_n_accepted", 0)
    return Took(tokens, seconds, wall, told["prompt_n"], *drafts)


def _length(way: str) -> int | None:
    """The number behind a way's name; None without one."""
    number = way.rpartition("-")[2]
    return int(number) if number.isdecimal() else None


def wanted(options: argparse.Namespace, prompts: Sequence[str]) -> Iterator[Turn]:
    """The turns of a whole measurement: each prompt once, then each of them again."""
    for run in range(options.runs):
        for prompt in prompts:
            for temperature in options.temperatures:
                yield Turn(options.main.stem, options.draft.stem, temperature, prompt, run, options.tokens)


def serving(options: argparse.Namespace, way: str) -> AbstractContextManager[int]:
    draft = None if way == "server-plain" else options.server_draft or options.draft
    rest = ("-c", options.context, "-t", options.threads, "-td", options.threads)
    return llama_server.serving(options.server, options.main, draft, _length(way), *rest)


async def measure(options: argparse.Namespace, missing: Sequence[Turn]) -> None:
    """Take the missing turns, as many as there is time for."""
    learned = options.results.with_suffix(".learned").absolute()
    places = {f"XDG_{kind}_HOME": str(learned / kind.lower()) for kind in ("CACHE", "STATE")}
    client = EngineClient(HERE, learned / "engine.log", {**os.environ, **places})
    until = time.monotonic() + 60 * options.minutes
    with ExitStack() as stack:
        served = [way for way in options.ways if way.startswith("server")]
        ports = {way: stack.enter_context(serving(options, way)) for way in served}
        try:
            await load(client, options)
            await answered(replace(missing[0], limit=WARM_UP), options.ways, client, ports)
            for number, turn in enumerate(missing):
                if time.monotonic() > until:
                    break
                shift = number % len(options.ways)
                order = (*options.ways[shift:], *options.ways[:shift])
                turns.add(options.results, await answered(turn, order, client, ports))
                print(
                    f"{number + 1} of {len(missing)}: {turn.prompt[:40]!r}, {turn.temperature:g}", flush=True
                )
        finally:
            await client.close()


async def load(client: EngineClient, options: argparse.Namespace) -> None:
    """Bring up an Outrider that drafts, or end this program and say why it does not."""
    await client.start()
    wanted = Load(str(options.main), str(options.draft), options.context, threads=options.threads)
    loaded = await client.load(wanted, lambda _: None)
    if rejected := loaded.obstacle and loaded.obstacle.text:
        raise SystemExit(f"Outrider does not draft: {rejected}")
    await asyncio.sleep(LIMIT)  # it practises while it is idle, which would slow the server down


async def answered(
    turn: Turn, ways: Sequence[str], client: EngineClient, ports: Mapping[str, int]
) -> Turn:  # fmt: skip
    """A turn with what each way took, in this order."""
    question = turn.prompt, turn.temperature, turn.run, turn.limit
    took: dict[str, Took] = {}
    for way in ways:
        if way in ports:
            took[way] = await asyncio.to_thread(ask_server, ports[way], *question)
        else:
            took[way] = await ask_outrider(client, way, *question)
    return replace(turn, took=took)


def parsed() -> argparse.Namespace:
    def floats(text: str) -> list[float]:
        return [float(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description="Outrider beside llama-server.")
    add = parser.add_argument
    add("server", help="the llama-server program")
    add("main", type=Path, help="a GGUF")
    add("draft", type=Path, help="a GGUF, or head for the head in the file of the main model")
    add("results", type=Path, help="a file of JSON lines, made or added to")
    add(
        "--ways",
        type=lambda text: text.split(","),
        help=f"default: {','.join(WAYS)}; with --quick {','.join(QUICK)}",
    )
    add("--server-draft", type=Path, help="another draft for the server: the same model in another format")
    add("--temperatures", type=floats, default=[0.0, 0.8])
    add("--runs", type=int, help="turns of each prompt: 3, and 1 with --quick")
    add("--tokens", type=int, help="of an answer, at most: 96, and 48 with --quick")
    add("--prompts", type=int, help="how many: 9, and 3 with --quick")
    add("--questions", type=Path, help="TOML with other prompts, as tools/bench/openings.toml")
    add("--context", type=int, default=2048)
    add("--threads", type=int, default=os.cpu_count() or 1)
    add("--minutes", type=float, default=inf, help="begin no turn after so many")
    add("--quick", action="store_true", help="see that it runs: a few short answers")
    options = parser.parse_args()
    if unknown := [way for way in options.ways or () if not _WAY.fullmatch(way)]:
        parser.error(f"there is no way {unknown[0]}")
    options.ways = options.ways or (QUICK if options.quick else WAYS)
    options.runs = options.runs or (1 if options.quick else 3)
    options.tokens = options.tokens or (48 if options.quick else 96)
    options.prompts = options.prompts or (3 if options.quick else 9)
    return options


def main() -> None:
    options = parsed()
    every = questions(options.questions) if options.questions else [each.text for each in read_prompts()[::3]]
    done = turns.read(options.results)
    missing = [
        turn
        for turn in wanted(options, every[: options.prompts])
        if not turns.is_done(done, turn, options.ways)
    ]
    try:
        if missing:
            asyncio.run(measure(options, missing))
    except KeyboardInterrupt:
        print("Broken off: the same command goes on from here.")
    print("\n".join(turns.table(turns.read(options.results))))


if __name__ == "__main__":
    main()
