"""What the settings file and the command line say together: which models, in which engine, on which machine.

Both are only read here. Later answers change the settings that the chat holds, never these.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import NamedTuple

from ..client import EngineClient
from ..client.host import Host, HostError, engine_on
from ..config import Problem, Settings, read_config
from ..config.last import with_last
from ..config.settings import understood
from ..errors import OutriderError
from ..places import Places, find_places
from ..protocol import BackendName


class UsageError(OutriderError):
    """What was asked for cannot be done. The text says why, in one line."""


class Setup(NamedTuple):
    """What a command works with."""

    places: Places
    settings: Settings
    problems: tuple[Problem, ...]
    """What the settings file says wrong; there the defaults stand."""
    engine: tuple[str, ...]
    """The command that runs the engine."""
    host: Host | None
    """Where the engine runs, if not here."""
    recalled: bool
    """Whether the models are the pair that was chosen last on the load screen."""

    def client(self) -> EngineClient:
        """A client of that engine, which is not started yet."""
        return EngineClient(self.engine, self.places.log, host=self.host)


def set_up(arguments: argparse.Namespace) -> Setup:
    """The settings file, the pair that was chosen last and the command line's host.

    Raises `UsageError` where no such host is known.
    """
    places = find_places()
    settings, problems = read_config(places.config)
    if arguments.host is not None:
        settings = replace(settings, engine=replace(settings.engine, host=arguments.host))
    try:
        engine, host = engine_on(settings.engine.host, settings.hosts)
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
    """`settings` with the command line's models. A main model given there does without the file's draft.

    The draft "none" is plain decoding: no lookup either.
    """
    models = settings.models
    if main is not None:
        models = replace(models, main=main, draft="auto")
    if exact:
        models = replace(models, exact=True)
    if draft is not None:
        models = replace(models, draft=draft)
    engine = settings.engine if backend is None else replace(settings.engine, backend=backend)
    return understood(replace(settings, models=models, engine=engine))
