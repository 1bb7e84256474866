"""The list of the models on this machine: found anew each time, described once.

What a model says of itself is remembered by its path and by the sizes and times of its files, so that a
thousand models are listed in the time of as many looks at a folder. So is the name that it has in the list: a
model that is loaded goes by the same. The memory may be deleted at any time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec import convert, to_builtins

from ... import files
from ...protocol import FoundModel, Skipped
from .describe import describe
from .find import Candidate, Place, find
from .gguf import BadModelFile
from .short_name import told_apart
from .supported import versions

_VERSION = f"3 {versions()}"
"""Another one when a description says more than it did, and when other libraries can open other models."""
_MAX_SIZE = 64 << 20
"""Bytes of a memory that is believed."""


def list_models(
    places: list[Place], memory: Path, wanted: Callable[[], bool] = lambda: True
) -> Iterator[FoundModel | Skipped]:
    """Every model of `places`, and what looks like one and is none, as they are found.

    A model whose name another one has too comes again at the end, with a name of its own. `wanted` is asked
    before each. What was learned is kept in the file `memory` at the end, also if the caller goes away.
    """
    known = _read(memory)
    used: dict[str, Any] = {}
    models: list[FoundModel] = []
    try:
        for candidate in find(places):
            if not wanted():
                return
            if isinstance(candidate, Skipped):
                yield candidate
            elif found := _look_at(candidate, known, used):
                models += [found] if isinstance(found, FoundModel) else []
                yield found
        renamed = told_apart(models)
        _keep_names(used, {model.path: model.name for model in renamed})
        yield from renamed
    finally:
        if used.keys() - known.keys() or any(used[path] != known[path] for path in used):
            _write(memory, known | used)


def name_in_list(path: str, name: str, memory: Path) -> str:
    """What the latest list called the model at `path`; its short name, `name`, if that told enough."""
    with suppress(LookupError, TypeError):
        entry = _read(memory)[path]
        if entry["model"]["name"] == name and isinstance(entry["name"], str):
            return entry["name"]
    return name


def _look_at(
    candidate: Candidate, known: dict[str, Any], used: dict[str, Any]
) -> FoundModel | Skipped | None:
    """The model, why it is none, or None if it is gone by now."""
    path = str(candidate.path)
    try:
        stamp = _stamp(candidate.files)
    except OSError as error:
        gone = isinstance(error, FileNotFoundError) and not os.path.lexists(candidate.files[0])
        return None if gone else Skipped(path, f"it cannot be read: {error.strerror}")
    entry = known.get(path)
    if isinstance(entry, dict) and entry.get("stamp") == stamp and (model := _recalled(entry, candidate)):
        used[path] = entry
        return model
    try:
        model = describe(candidate)
        used[path] = {"stamp": stamp, "model": to_builtins(model)}
    except BadModelFile as error:
        model = Skipped(path, str(error))
        used[path] = {"stamp": stamp, "reason": model.reason}
    except OSError as error:
        return Skipped(path, f"it cannot be read: {error.strerror}")
    return model


def _keep_names(entries: dict[str, Any], names: dict[str, str]) -> None:
    """Remember the names that tell models apart, and no others: they go by all that is there now."""
    for path, entry in entries.items():
        rest = {key: value for key, value in entry.items() if key != "name"}
        entries[path] = rest | ({"name": names[path]} if path in names else {})


def _recalled(entry: dict[str, Any], candidate: Candidate) -> FoundModel | Skipped | None:
    """What is remembered; None if that is not what was written."""
    if isinstance(reason := entry.get("reason"), str):
        return Skipped(str(candidate.path), reason)
    with suppress(ValueError):
        model = convert({**entry.get("model", {}), "source": candidate.source}, FoundModel)
        return model if model.tag == candidate.tag else None
    return None


def _stamp(files: Iterable[Path]) -> str:
    """Changes when one of the files does. Raises `OSError`."""
    states = [file.stat() for file in files]
    return " ".join(f"{state.st_size}:{state.st_mtime_ns}" for state in states)


def _read(memory: Path) -> dict[str, Any]:
    try:
        if memory.stat().st_size > _MAX_SIZE:
            return {}
        data = json.loads(memory.read_bytes())
        entries = data["models"] if data["version"] == _VERSION else {}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _write(memory: Path, entries: dict[str, Any]) -> None:
    """Keep the entries of what is still there; a full or read-only disk is no failure."""
    there = {path: entry for path, entry in entries.items() if os.path.lexists(path)}
    with suppress(OSError):
        files.replace(memory, json.dumps({"version": _VERSION, "models": there}))
