"""`outrider pull`: downloads models from the Hugging Face hub to the engine's machine.

The engine downloads; this module asks it and shows the progress. Without a name, it proposes pairs for this
machine.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .. import protocol
from ..choices import HEADS, OWN_HEAD
from ..clean import clean_line
from ..client import EngineClient, HubClient, last_reply, running
from ..quantities import bar, duration, percent, size, slowness, with_head
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
    async with running(engine):
        if not arguments.models:
            proposed = await last_reply(client.ask(protocol.ProposePairs(0)), protocol.PairsProposed)
            print("\n".join(proposed_text(proposed.pairs)))
        for name in arguments.models:
            repository, _, file = name.partition(":")
            if arguments.list:
                found = await last_reply(client.ask(protocol.ListHub(0, repository)), protocol.HubListed)
                print("\n".join(listed_text(found)))
            else:
                pulled = [each.partition(":")[0] for each in arguments.models]
                await _pull(client, repository, file, offer=pulled.count(repository) == 1)


async def _pull(client: HubClient, repository: str, file: str, offer: bool) -> None:
    """Download one model. Progress goes to stderr, the path to stdout.

    With `offer`, name the command for a head beside the model.
    """
    watched = sys.stderr.isatty()
    clock, began, first = asyncio.get_running_loop().time, 0.0, 0
    async for reply in client.ask(protocol.Download(0, repository, file)):
        match reply:
            case protocol.Downloading():
                began, first = (began, first) if began else (clock(), reply.done)
                passed = clock() - began
                if watched:
                    redraw(progress(reply, (reply.done - first) / passed if passed > 1 else 0.0))
            case protocol.Downloaded():
                if watched:
                    redraw("")
                print(clean_line(reply.path), flush=True)
                if reply.head and offer:
                    head = f"outrider pull {repository}:{reply.head}"
                    print(clean_line(f"A head beside it drafts for it: {head}"), file=sys.stderr)
                elif reply.inside:
                    print(f"{OWN_HEAD}.", file=sys.stderr)


def progress(reply: protocol.Downloading, speed: float) -> str:
    """Return the progress, or the reason for a pause, in one line."""
    if reply.reason:
        return clean_line(f"waiting: {reply.reason}")
    left = f", {duration((reply.total - reply.done) / speed)} left" if speed else ""
    pace = f"  {size(round(speed))}/s{left}" if speed else ""
    return arrived(reply.done, reply.total) + pace


def arrived(done: int, total: int) -> str:
    """Return a bar of so many bytes of `total`, with the figures."""
    share = done / max(1, total)
    return f"{bar(share, _BAR)} {percent(share):>5}  {size(done)} of {size(total)}"


def redraw(line: str) -> None:
    """Show `line` in place of the last line on stderr."""
    sys.stderr.write(f"\r\x1b[2K{line}")
    sys.stderr.flush()


def listed_text(found: protocol.HubListed) -> Iterator[str]:
    """Yield a line for each file, with the words to type for it."""
    rows = [("pull", "quantization", "size", "")]
    for each in found.files:
        name = f"{found.repository}:{each.name}" if each.name else found.repository
        fits = "" if each.size <= found.memory else "larger than this machine's memory"
        remark = f"{HEADS[each.head]}, drafts for the model" if each.head else fits
        rows.append((clean_line(name), clean_line(each.quantization), size(each.size), remark))
    yield from table(rows, "<<><")
    if not found.files:
        yield "no GGUF file and no MLX folder"
    if found.note:
        yield clean_line(found.note)


def proposed_text(pairs: Sequence[protocol.HubPair]) -> Iterator[str]:
    """Yield the pairs that fit here, each with the command that downloads it."""
    yield "Pairs that work together and fit into this machine's memory, best first:"
    for pair in pairs:
        yield ""
        yield ", ".join(filter(None, (pair.name, size(pair.size), with_head(pair), slowness(pair))))
        yield f"  outrider pull {' '.join(pair.downloads)}"
    yield ""
    if any(pair.head for pair in pairs):
        yield "A head drafts for its main model. Load the model: the default draft (auto) takes the head,"
        yield "unless another draft here brings more."
    yield "Other models: outrider pull OWNER/MODEL:FILE; --list shows the files of a repository."
