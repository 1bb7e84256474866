"""The pair that was chosen last on the load screen, kept between two starts; config.toml goes first."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from msgspec import convert

from .. import files
from ..choices import CacheType
from ..protocol.terms import Signed, Unsigned
from .file import Problem, read_config
from .settings import Models, Settings


@dataclass(frozen=True)
class Last:
    """What the file holds, by the names of the settings."""

    main: str
    draft: str
    lookup: bool
    context_length: Unsigned = 0
    cache_type: CacheType = "f16"
    gpu_layers: Signed = -1


def with_last(settings: Settings, path: Path, *, here: bool = True) -> Settings:
    """`settings` with the pair that `path` holds, if they name no other and its main model is still there;
    of models that are not `here`, nobody knows."""
    models = settings.models
    if (models.main, models.draft) != (Models().main, Models().draft):
        return settings
    try:
        kept = convert(json.loads(path.read_bytes()[:20_000]), Last)
    except (OSError, ValueError, RecursionError):
        return settings
    if "\0" in kept.main or (here and not os.path.lexists(kept.main)):
        return settings
    return replace(
        settings,
        models=replace(
            models,
            main=kept.main,
            draft=kept.draft,
            context_length=kept.context_length,
            cache_type=kept.cache_type,
        ),
        engine=replace(settings.engine, gpu_layers=kept.gpu_layers),
        generation=replace(settings.generation, lookup=kept.lookup),
    )


class NextStart(NamedTuple):
    """What a start would go by."""

    settings: Settings
    problems: tuple[Problem, ...]
    recalled: bool
    """Whether the pair is the one that was chosen last, and not what config.toml names."""


def next_start(config: Path, last: Path, *, here: bool = True) -> NextStart:
    """What the files at `config` and `last` make the next start load, without a command line."""
    named, problems = read_config(config)
    settings = with_last(named, last, here=here)
    return NextStart(settings, problems, settings is not named)


def keep_last(settings: Settings, path: Path) -> None:
    """Keep the pair of `settings`; a full or read-only disk is no failure."""
    models = settings.models
    kept = Last(
        models.main,
        models.draft,
        settings.generation.lookup,
        models.context_length,
        models.cache_type,
        settings.engine.gpu_layers,
    )
    with suppress(OSError):
        files.replace(path, json.dumps(vars(kept)))
