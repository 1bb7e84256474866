"""Turns settings into engine commands. It sends nothing."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import partial

import msgspec
from msgspec import structs

from tui import protocol
from tui.choices import AUTO, SHARE_OF_FREE, is_scripted, names_model
from tui.config import Generation, Settings
from tui.files import there, typed
from tui.host import find_host

STARTER = "starter"
"""The name of the demo pair, even if a file has that name."""
CONTINUED = 256
"""Tokens by which a base model continues the text of a chat, unless max_tokens gives another number."""

HERE = "here"
"""The name of this machine among the hosts."""


@dataclass(frozen=True)
class Move:
    """Another machine for the engine."""

    host: str
    """A name, an address, or `HERE`."""


@dataclass(frozen=True)
class Asked:
    """The settings of an answer, for its continuation. None means unknown, or as the settings say."""

    seed: int | None = None
    sampling: protocol.Sampling | None = None
    thinking: protocol.Thinking | None = None
    effort: protocol.Effort | None = None

    @classmethod
    def of(cls, request: protocol.Generate) -> Asked:
        return cls(request.seed, request.sampling, request.thinking, request.effort)

    @classmethod
    def read(cls, text: str) -> Asked:
        """Read the text that `written` wrote. Unreadable parts are unknown; older answers have fewer."""
        try:
            data = msgspec.json.decode(text)
            known = {name: data.pop(name) for name in ("thinking", "effort") if name in data}
            seed = int(data.pop("seed"))
            return msgspec.convert({"seed": seed, "sampling": data, **known}, cls)
        except (ValueError, TypeError, KeyError, AttributeError):
            return cls()

    def written(self) -> str:
        """Return a JSON object, with the parts of the sampling chain beside the others."""
        sampling = structs.asdict(self.sampling) if self.sampling else {}
        return json.dumps({"seed": self.seed, **sampling, "thinking": self.thinking, "effort": self.effort})

    def applied(self, request: protocol.Generate) -> protocol.Generate:
        """Return `request` with the known settings."""
        known = {name: value for name, value in vars(self).items() if value is not None}
        return structs.replace(request, **known)


@dataclass(frozen=True)
class TurnRequest:
    """A prompt to answer, with the settings that differ from the config."""

    messages: tuple[protocol.Message, ...]
    asked: Asked = Asked()
    resume: tuple[int, ...] = ()
    """Tokens of the last answer, which continues after them; empty for a new answer."""


def load_request(settings: Settings) -> protocol.Load:
    models, engine = settings.models, settings.engine
    located = _located if not engine.host else str  # the folders of another host are not known here
    return protocol.Load(
        main=located(models.main),
        draft=located(models.draft) if names_model(models.draft) else models.draft,
        context_length=models.context_length,
        gpu_layers=engine.gpu_layers,
        threads=engine.threads,
        cache_type=models.cache_type,
        backend=engine.backend,
        folders=tuple(map(located, models.folders)),
        exact=models.exact,
        disk_cache=int(settings.cache.disk),
        memory_cache=SHARE_OF_FREE if settings.cache.memory == AUTO else int(settings.cache.memory),
        workers=tuple(map(partial(_worker, settings), engine.workers)),
    )


def _worker(settings: Settings, name: str) -> protocol.WorkerHost:
    host = find_host(name, settings.hosts)
    return protocol.WorkerHost(host.name, host.address, host.program)


def generate_request(
    number: int, messages: tuple[protocol.Message, ...], seed: int, generation: Generation
) -> protocol.Generate:
    return protocol.Generate(
        id=number,
        messages=messages,
        seed=seed,
        sampling=msgspec.convert(generation, protocol.Sampling, from_attributes=True),
        draft_length=generation.draft_length,
        lookup=generation.lookup,
        max_tokens=generation.max_tokens,
        stop=generation.stop,
        thinking=generation.thinking,
        effort=generation.effort,
    )


def limited(request: protocol.Generate, loaded: protocol.Loaded | None) -> protocol.Generate:
    """Return `request` with a token limit for a base model: it seldom ends, and would fill the context."""
    endless = loaded is not None and loaded.main.prompt_form == "text" and not request.max_tokens
    return structs.replace(request, max_tokens=CONTINUED) if endless else request


def _located(model: str) -> str:
    """Return a path in full, because the engine runs in another folder. A name stays as it is."""
    path = typed(model)
    named = model == STARTER or is_scripted(model) or (os.sep not in model and not there(path))
    return model if named and not model.endswith(".gguf") else str(path.absolute())
