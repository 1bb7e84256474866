"""The pair that was chosen last on the load screen, kept between two starts; config.toml goes first."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from .config import Models, Settings


def with_last(settings: Settings, path: Path) -> Settings:
    """`settings` with the pair that `path` holds, if they name no other and its main model is still there."""
    models = settings.models
    if (models.main, models.draft) != (Models().main, Models().draft):
        return settings
    try:
        kept = json.loads(path.read_bytes()[:20_000])
        main, draft, lookup = kept["main"], kept["draft"], kept["lookup"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return settings
    if not (isinstance(main, str) and isinstance(draft, str) and isinstance(lookup, bool)):
        return settings
    if "\0" in main or not os.path.lexists(main):
        return settings
    return replace(
        settings,
        models=replace(models, main=main, draft=draft),
        generation=replace(settings.generation, lookup=lookup),
    )


def keep_last(settings: Settings, path: Path) -> None:
    """Keep the pair of `settings`; a full or read-only disk is no failure."""
    kept = {
        "main": settings.models.main,
        "draft": settings.models.draft,
        "lookup": settings.generation.lookup,
    }
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(kept), encoding="ascii")
        new.replace(path)
