"""`outrider models`: lists the models on this machine, and the possible drafts of a model.

The engine searches; this module asks it and prints the answer. It loads nothing and changes nothing.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import to_builtins
from rich.cells import cell_len, set_cell_size

from ..chat.requests import load_request
from ..clean import clean_line
from ..client import EngineClient, EngineError, last_reply, running
from ..config import Settings
from ..protocol import (
    DraftsJudged,
    DraftVerdict,
    FoundModel,
    JudgeDrafts,
    ListModels,
    ModelsFound,
    ModelsListed,
    Skipped,
)
from ..quantities import context, named, parameters, shortened, size, speed_up
from .setup import Setup, UsageError, set_up, with_models

if TYPE_CHECKING:
    import argparse

_NARROW = 80


def run(arguments: argparse.Namespace) -> int:
    """Print the list and return the exit code. Raises `UsageError` or `EngineError`."""
    if arguments.drafts and arguments.main is None:
        raise UsageError('drafts for which model? For example: outrider models "llama 8b"')
    setup = set_up(arguments)
    for problem in setup.problems:
        print(f"outrider: {problem}", file=sys.stderr)
    if not arguments.main:
        found = asyncio.run(_list(setup.client(), setup.settings))
        show(arguments.json, listed_json(*found), listed_text(*found))
        return 0
    settings = with_models(setup.settings, arguments.main, None, None)
    try:
        verdicts = asyncio.run(_judge(setup.client(), settings))
    except EngineError as error:
        if arguments.json or not _listed_alike(setup, arguments.main):
            raise
        print(f"outrider: {error.message.rstrip('.')}. Give more of the name.", file=sys.stderr)
        return 1
    show(arguments.json, {"drafts": to_builtins(verdicts)}, judged_text(verdicts))
    return 0


def _listed_alike(setup: Setup, words: str) -> bool:
    """Print the models that `words` could mean if there are several. Return whether there are."""
    models, _ = asyncio.run(_list(setup.client(), setup.settings))
    alike = [each for each in models if _has(each, words)]
    if len(alike) > 1:
        show(False, {}, listed_text(alike, ()))
    return len(alike) > 1


def _has(model: FoundModel, words: str) -> bool:
    """Return whether one of a model's names has all words, with any separators: "qwen 1.5b"."""
    text = " ".join((model.name, model.tag, model.quantization, Path(model.path).name)).casefold()
    return all(word in text for word in words.casefold().split())


async def _list(client: EngineClient, settings: Settings) -> tuple[list[FoundModel], tuple[Skipped, ...]]:
    """Return every model, largest first within each source, and the skipped files."""
    models: dict[str, FoundModel] = {}
    skipped: tuple[Skipped, ...] = ()
    async with running(client):
        async for reply in client.ask(ListModels(0, load_request(settings).folders)):
            match reply:
                case ModelsFound():
                    models |= {model.path: model for model in reply.models}
                case ModelsListed():
                    skipped = reply.skipped
    order = sorted(models.values(), key=lambda model: (model.demo, model.name.casefold(), -model.size))
    return order, skipped


async def _judge(client: EngineClient, settings: Settings) -> tuple[DraftVerdict, ...]:
    async with running(client):
        question = JudgeDrafts(0, load_request(settings))
        return (await last_reply(client.ask(question), DraftsJudged)).verdicts


def listed_json(models: Sequence[FoundModel], skipped: Sequence[Skipped]) -> dict[str, Any]:
    """Return all facts as JSON values: sizes in bytes, contexts in tokens."""
    return {"models": to_builtins(models), "skipped": to_builtins(skipped)}


def listed_text(models: Sequence[FoundModel], skipped: Sequence[Skipped]) -> Iterator[str]:
    """Yield a line for each model and each skipped file."""
    rows = [("model", "parameters", "size", "context", "from")]
    for model in models:
        shape = parameters(model), size(model.size), context(model.context_length)
        rows.append((clean_line(named(model)), *shape, model.source))
    yield from table(rows, "<>>><", models=True)
    if skipped:
        yield ""
        yield f"{len(skipped)} left out (--json gives the reasons)"
    if all(model.demo for model in models):
        yield ""
        yield "Only the built-in demo is here. `outrider pull` proposes pairs that fit this machine."
        yield "Models of LM Studio, Hugging Face, Ollama and llama.cpp are found automatically. Add other"
        yield "folders in config.toml: [models] folders."


def judged_text(verdicts: Sequence[DraftVerdict]) -> Iterator[str]:
    """Yield a line for each draft with its reason, best first."""
    rows = [("draft", "verdict", "speed-up", "why")]
    for each in verdicts:
        rows.append((clean_line(each.name), each.judgement, speed_up(each), clean_line(each.reason)))
    return table(rows, "<<<<", models=True)


def table(rows: Sequence[Sequence[str]], alignment: str, *, models: bool = False) -> Iterator[str]:
    """Yield columns with headers, as wide as the terminal. The widest column is cut if necessary.

    `models`: the first column has names of models, which are cut in the middle.
    """
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 1000
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    over = sum(widths) + 2 * (len(widths) - 1) - max(width, _NARROW)
    if over > 0:
        widest = widths.index(max(widths))
        widths[widest] = max(12, widths[widest] - over)
    for first, *rest in rows:
        name = shortened(first, widths[0]) if models else first
        cells = zip((name, *rest), widths, alignment, strict=True)
        yield "  ".join(_fitted(cell, room, side) for cell, room, side in cells).rstrip()


def _fitted(cell: str, room: int, side: str) -> str:
    if cell_len(cell) > room:
        cell = set_cell_size(cell, room - 1).rstrip() + "…"
    space = " " * (room - cell_len(cell))
    return space + cell if side == ">" else cell + space


def show(as_json: bool, data: object, lines: Iterable[str]) -> None:
    """Print `data` as JSON, or else `lines`, with replacements for letters that the terminal lacks."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    print(json.dumps(data) if as_json else "\n".join(lines))
