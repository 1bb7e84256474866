"""Combines the settings file and the command line: the models, the engine and its machine.

Both are only read. Later changes in the chat do not change them.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import NamedTuple

from ..choices import AUTO
from ..client import EngineClient
from ..config import Problem, Settings, read_config
from ..config.last import with_last
from ..errors import OutriderError
from ..host import Host, HostError, engine_on, find_host
from ..paths import Paths, find_places
from ..protocol import BackendName


class UsageError(OutriderError):
    """The request cannot be carried out. The text gives the reason in one line."""


class Setup(NamedTuple):
    """The settings, the engine and its machine for a command."""

    places: Paths
    settings: Settings
    problems: tuple[Problem, ...]
    """Faults in the settings file. The defaults apply there."""
    engine: tuple[str, ...]
    """The command that runs the engine."""
    host: Host | None
    """The host of the engine; None for this machine."""
    recalled: bool
    """Whether the models are the last pair from the load screen."""

    def client(self) -> EngineClient:
        """Return a client of that engine, which is not started yet."""
        agent = bool(self.settings.engine.workers)
        return EngineClient(self.engine, self.places.log, host=self.host, agent=agent)


def set_up(arguments: argparse.Namespace) -> Setup:
    """Combine the settings file, the last pair and the command line's host.

    Raises `UsageError` if the host is unknown.
    """
    places = find_places()
    settings, problems = read_config(places.config)
    if arguments.host is not None:
        settings = replace(settings, engine=replace(settings.engine, host=arguments.host))
    if getattr(arguments, "workers", None) is not None:
        settings = replace(settings, engine=replace(settings.engine, workers=arguments.workers))
    try:
        engine, host = engine_on(settings.engine.host, settings.hosts)
        for name in settings.engine.workers:
            find_host(name, settings.hosts)
    except HostError as error:
        raise UsageError(str(error)) from error
    places = places.of_host(host.name if host else "")
    named = settings
    if getattr(arguments, "main", None) is None:
        settings = with_last(named, places.last, here=host is None)
    return Setup(places, settings, tuple(problems), engine, host, settings is not named)


def with_models(
    settings: Settings, main: str | None, draft: str | None, backend: BackendName | None,
    exact: bool | None = None,
) -> Settings:  # fmt: skip
    """Return `settings` with the models of the command line. A main model given there does not use the file's
    draft.
    """
    models = settings.models
    if main is not None:
        models = replace(models, main=main, draft=AUTO)
    if exact:
        models = replace(models, exact=True)
    if draft is not None:
        models = replace(models, draft=draft)
    engine = settings.engine if backend is None else replace(settings.engine, backend=backend)
    return replace(settings, models=models, engine=engine)
