"""The list of the models on this machine. Each call searches anew, but describes each model only once.

A cache holds the descriptions by path, with the sizes and times of the files, so that listing a thousand
models only takes a look at each file. It also holds each model's name in the list, which the loaded model has
too. The cache may be deleted at any time.
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
from .describe import LastVocabulary, describe
from .find import ModelFile, ModelFolder, find
from .gguf import BadModelFile
from .short_name import told_apart
from .supported import versions

_VERSION = f"6 {versions()}"
"""Changes when descriptions hold more than before, and when other libraries can open other models."""
_MAX_SIZE = 64 << 20
"""Most bytes of a cache file; a larger one is ignored."""


def list_models(
    places: list[ModelFolder], memory: Path, wanted: Callable[[], bool] = lambda: True
) -> Iterator[FoundModel | Skipped]:
    """Yield every model of `places`, and each file that looks like a model but is none, while searching.

    If two models have the same name, both come again at the end with longer names. `wanted` is asked before
    each. The cache in the file `memory` is written at the end, also if the caller goes away.
    """
    known = _read(memory)
    used: dict[str, Any] = {}
    models: list[FoundModel] = []
    last = LastVocabulary()
    try:
        for candidate in find(places):
            if not wanted():
                return
            if isinstance(candidate, Skipped):
                yield candidate
            elif found := _look_at(candidate, known, used, last):
                models += [found] if isinstance(found, FoundModel) else []
                yield found
        renamed = told_apart(models)
        _keep_names(used, {model.path: model.name for model in renamed})
        yield from renamed
    finally:
        if used.keys() - known.keys() or any(used[path] != known[path] for path in used):
            _write(memory, known | used)


def name_in_list(path: str, name: str, memory: Path) -> str:
    """Return the name of the model at `path` in the latest list; `name`, its short name, if unique."""
    with suppress(LookupError, TypeError):
        entry = _read(memory)[path]
        if entry["model"]["name"] == name and isinstance(entry["name"], str):
            return entry["name"]
    return name


def _look_at(
    candidate: ModelFile, known: dict[str, Any], used: dict[str, Any], last: LastVocabulary
) -> FoundModel | Skipped | None:
    """Return the model, the reason why it is none, or None if it is gone."""
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
        model = describe(candidate, last)
        used[path] = {"stamp": stamp, "model": to_builtins(model)}
    except BadModelFile as error:
        model = Skipped(path, str(error))
        used[path] = {"stamp": stamp, "reason": model.reason}
    except OSError as error:
        return Skipped(path, f"it cannot be read: {error.strerror}")
    return model


def _keep_names(entries: dict[str, Any], names: dict[str, str]) -> None:
    """Keep the names that tell models apart, and no others: they depend on all models of this list."""
    for path, entry in entries.items():
        rest = {key: value for key, value in entry.items() if key != "name"}
        entries[path] = rest | ({"name": names[path]} if path in names else {})


def _recalled(entry: dict[str, Any], candidate: ModelFile) -> FoundModel | Skipped | None:
    """Return the cached description; None if the entry is invalid."""
    if isinstance(reason := entry.get("reason"), str):
        return Skipped(str(candidate.path), reason)
    with suppress(ValueError):
        place = {"source": candidate.source, "demo": candidate.demo}
        model = convert({**entry.get("model", {}), **place}, FoundModel)
        return model if model.tag == candidate.tag else None
    return None


def _stamp(files: Iterable[Path]) -> str:
    """Return a text that changes when one of the files changes. Raises `OSError`."""
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
    """Write the entries of files that still exist. A full or read-only disk is not an error."""
    there = {path: entry for path, entry in entries.items() if os.path.lexists(path)}
    with suppress(OSError):
        files.replace(memory, json.dumps({"version": _VERSION, "models": there}))
