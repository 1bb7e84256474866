"""`outrider quantize`: a copy of a model in another number format, so that it drafts faster.

The engine's machine writes the copy; this module asks for it and shows the progress.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from ..chat.requests import load_request
from ..clean import clean_line
from ..client import running
from ..protocol import Load, Requantize, Requantized, Requantizing
from .pull import arrived, redraw
from .setup import set_up, with_models

if TYPE_CHECKING:
    import argparse

    from ..client import EngineClient


def run(arguments: argparse.Namespace) -> int:
    """Write the copy and return the exit code. Raises `UsageError` or `EngineError`."""
    setup = set_up(arguments)
    load = load_request(with_models(setup.settings, arguments.main, None, None))
    asyncio.run(_copy(setup.client(), load, arguments.format.upper()))
    return 0


async def _copy(client: EngineClient, load: Load, kind: str) -> None:
    """Show the progress on stderr, and the path of the copy on stdout."""
    watched = sys.stderr.isatty()
    async with running(client):
        async for reply in client.ask(Requantize(0, load, kind)):
            match reply:
                case Requantizing() if watched:
                    redraw(arrived(reply.done, reply.total))
                case Requantized():
                    if watched:
                        redraw("")
                    print(clean_line(reply.path), flush=True)
