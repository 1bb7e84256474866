"""`outrider pull`: downloads models from the Hugging Face hub to the engine's machine.

The engine downloads; this module asks it and shows the progress. Without a name, it proposes pairs for this
machine.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..clean import clean_line
from ..client import EngineClient, EngineError, HubClient
from ..protocol import (
    Download,
    Downloaded,
    Downloading,
    HubListed,
    HubPair,
    ListHub,
    PairsProposed,
    ProposePairs,
)
from ..quantities import cells, duration, percent, size, slowness
from .models import table
from .setup import set_up

if TYPE_CHECKING:
    import argparse

_BAR = 24


def run(arguments: argparse.Namespace) -> int:
    """Download, list or propose; return the exit code. Raises `UsageError` or `EngineError`."""
    asyncio.run(_run(arguments, set_up(arguments).client()))
    return 0


async def _run(arguments: argparse.Namespace, engine: EngineClient) -> None:
    client = HubClient(engine, os.environ)
    try:
        await engine.start()
        if not arguments.models:
            _print(proposed_text(await _propose(client)))
        for name in arguments.models:
            repository, _, file = name.partition(":")
            if arguments.list:
                _print(listed_text(await _list(client, repository)))
            else:
                await _pull(client, repository, file)
    finally:
        await engine.close()


async def _propose(client: HubClient) -> tuple[HubPair, ...]:
    async for reply in client.ask(ProposePairs(0)):
        if isinstance(reply, PairsProposed):
            return reply.pairs
    return ()


async def _list(client: HubClient, repository: str) -> HubListed:
    async for reply in client.ask(ListHub(0, repository)):
        if isinstance(reply, HubListed):
            return reply
    raise EngineError("The engine gave no list of that repository")


async def _pull(client: HubClient, repository: str, file: str) -> None:
    """Download one model. Progress goes to stderr, the path to stdout."""
    show = _bar if sys.stderr.isatty() else _silent
    clock, began, first = asyncio.get_running_loop().time, 0.0, 0
    async for reply in client.ask(Download(0, repository, file)):
        match reply:
            case Downloading():
                began, first = (began, first) if began else (clock(), reply.done)
                passed = clock() - began
                show(progress(reply, (reply.done - first) / passed if passed > 1 else 0.0))
            case Downloaded():
                show("")
                print(clean_line(reply.path), flush=True)


def progress(reply: Downloading, speed: float) -> str:
    """Return the progress, or the reason for a pause, in one line."""
    if reply.reason:
        return clean_line(f"waiting: {reply.reason}")
    share = reply.done / max(1, reply.total)
    full = cells(share, _BAR)
    bar = "█" * full + "░" * (_BAR - full)
    left = f", {duration((reply.total - reply.done) / speed)} left" if speed else ""
    pace = f"  {size(round(speed))}/s{left}" if speed else ""
    return f"{bar} {percent(share):>5}  {size(reply.done)} of {size(reply.total)}{pace}"


def _bar(line: str) -> None:
    sys.stderr.write(f"\r\x1b[2K{line}")
    sys.stderr.flush()


def _silent(line: str) -> None:
    """Show no progress, because nobody watches."""


def listed_text(found: HubListed) -> Iterator[str]:
    """Yield a line for each file, with the words to type for it."""
    rows = [("pull", "quantization", "size", "")]
    for each in found.files:
        name = f"{found.repository}:{each.name}" if each.name else found.repository
        fits = "" if each.size <= found.memory else "larger than this machine's memory"
        rows.append((clean_line(name), clean_line(each.quantization), size(each.size), fits))
    yield from table(rows, "<<><")
    if not found.files:
        yield "no GGUF file and no MLX folder"
    if found.note:
        yield clean_line(found.note)


def proposed_text(pairs: Sequence[HubPair]) -> Iterator[str]:
    """Yield the pairs that fit here, each with the command that downloads it."""
    yield "Pairs that work together and fit into this machine's memory, best first:"
    for pair in pairs:
        yield ""
        yield ", ".join(filter(None, (pair.name, size(pair.size), slowness(pair))))
        yield f"  outrider pull {pair.main} {pair.draft}"
    yield ""
    yield "Other models: outrider pull OWNER/MODEL:FILE; --list shows the files of a repository."


def _print(lines: Iterable[str], write: Callable[[str], object] = print) -> None:
    for line in lines:
        write(line)
