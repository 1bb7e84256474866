"""Keeps the last pair from the load screen for the next start. A pair in config.toml has priority."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from msgspec import convert

from .. import files
from ..choices import LOOKUP, NONE, CacheType, DraftChoice, read_draft
from ..paths import Paths
from ..protocol import Load
from ..protocol.terms import Signed, Unsigned
from .file import Problem, read_config
from .settings import Models, Settings


@dataclass(frozen=True)
class PairSettings:
    """The settings that choose a pair; also the contents of the file. Settings have the same names."""

    main: str
    draft: DraftChoice
    context_length: Unsigned = 0
    cache_type: CacheType = "f16"
    gpu_layers: Signed = -1

    @classmethod
    def of(cls, load: Load) -> PairSettings:
        """The pair of `load`."""
        return convert(load, cls, from_attributes=True)

    @classmethod
    def read(cls, data: bytes) -> PairSettings:
        """Read the file. Raises `ValueError` or `RecursionError` if it holds no pair.

        Earlier versions had a field `lookup` beside the draft; without both, nothing proposed tokens.
        """
        kept = convert(value := json.loads(data), cls)
        draft = read_draft(kept.draft)
        plain = draft == LOOKUP and value.get("lookup") is False
        return replace(kept, draft=NONE if plain else draft)

    def applied(self, settings: Settings) -> Settings:
        """Return `settings` with this pair. Who chooses the lookup as the draft also switches it on."""
        of_models = dict(vars(self))
        engine = replace(settings.engine, gpu_layers=of_models.pop("gpu_layers"))
        lookup = settings.generation.lookup or self.draft == LOOKUP
        generation = replace(settings.generation, lookup=lookup)
        return replace(
            settings, models=replace(settings.models, **of_models), engine=engine, generation=generation
        )


def with_last(settings: Settings, path: Path, *, here: bool = True) -> Settings:
    """Return `settings` with the last pair, if they name no pair and its main model still exists.

    If the models are not `here` but on another machine, their existence is not checked.
    """
    models = settings.models
    if (models.main, models.draft) != (Models().main, Models().draft):
        return settings
    try:
        kept = PairSettings.read(path.read_bytes()[:20_000])
    except (OSError, ValueError, RecursionError):
        return settings
    if "\0" in kept.main or (here and not os.path.lexists(kept.main)):
        return settings
    return kept.applied(settings)


class NextStart(NamedTuple):
    """The settings for a start."""

    settings: Settings
    problems: tuple[Problem, ...]
    recalled: bool
    """Whether the pair is the last one from the load screen, and not from config.toml."""


def next_start(config: Path, last: Path, *, here: bool = True) -> NextStart:
    """Return the settings of the next start without a command line, from the files at `config` and `last`."""
    named, problems = read_config(config)
    settings = with_last(named, last, here=here)
    return NextStart(settings, problems, settings is not named)


def keep_last(settings: Settings, path: Path) -> None:
    """Keep the pair of `settings` for the next start. A full or read-only disk is not an error."""
    models = settings.models
    kept = PairSettings(
        models.main, models.draft, models.context_length, models.cache_type, settings.engine.gpu_layers
    )
    with suppress(OSError):
        files.replace(path, json.dumps(vars(kept)))


class LastPair:
    """The pair that was chosen last, for the machine that the engine is on now."""

    def __init__(self, places: Paths, host: Callable[[], str]) -> None:
        """`host` gives the name of that machine; empty for this one."""
        self._places = places
        self._host = host

    def keep(self, settings: Settings) -> bool:
        """Keep the pair of `settings`; False if the next start will load another one all the same."""
        keep_last(settings, self._path)
        return self.next_start().recalled

    def next_start(self) -> NextStart:
        """Return the settings of the next start."""
        return next_start(self._places.config, self._path, here=not self._host())

    @property
    def _path(self) -> Path:
        return self._places.of_host(self._host()).last
