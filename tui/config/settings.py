"""All settings of a user, as values. `file.py` reads and writes them."""

# ruff: noqa: RUF009 (`_setting` is `dataclasses.field`)

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from tui.choices import AUTO, LONGEST_DRAFT, MOST_TOKENS, OLD_DRAFTS, SAMPLING, SEED, DraftChoice, DraftLength
from tui.protocol import BackendName, CacheType, Effort, Thinking

from .byte_size import ByteSize

Highlight = Literal["quiet", "full", "off"]
Sidebar = Literal["auto", "shown", "hidden"]
Output = Literal["auto", "lean", "stock"]
Mouse = Literal["auto", "on", "off"]
KeySet = Literal["default", "vi"]
MemoryBudget = ByteSize | Literal["auto"]


def _setting(
    default: Any, about: str, low: float = -math.inf, high: float = math.inf,
    old: Mapping[Any, Any] = MappingProxyType({}), **words: float | str,
) -> Any:  # fmt: skip
    """Define a setting. `words` are words for values with a special meaning, such as `all=-1`.

    `old` has the values that earlier versions spelled differently, with the present spelling.
    """
    metadata = {"about": about, "low": low, "high": high, "old": old, "words": words}
    return field(default=default, metadata=metadata)


def _sampling(name: str, default: Any, **words: float) -> Any:
    """A number of the sampling chain, with the bounds and the meaning that it has everywhere."""
    low, high, about = SAMPLING[name]
    return _setting(default, about, low, high, {}, **words)


@dataclass(frozen=True)
class Models:
    main: str = _setting("starter", 'a path or a name of `outrider models`; "starter" is the built-in demo')
    draft: DraftChoice = _setting(
        AUTO,
        'a path, a name, "auto" (the best), "head" (of the main model), "lookup" (no model) or "none"',
        old=OLD_DRAFTS,
    )
    folders: tuple[str, ...] = _setting((), "where your models lie, besides the places of other programs")
    context_length: int = _setting(0, "tokens; 0 takes the model's own, at most 8192", 0, MOST_TOKENS, auto=0)
    cache_type: CacheType = _setting("f16", 'of the main model\'s KV cache; "q8_0" takes half the memory')
    exact: bool = _setting(False, "draft only as far as the text cannot change, not even by rounding")


@dataclass(frozen=True)
class Generation:
    temperature: float = _sampling("temperature", 0.8)
    top_k: int = _sampling("top_k", 40, all=0)
    top_p: float = _sampling("top_p", 0.95, all=1)
    min_p: float = _sampling("min_p", 0.05, off=0)
    repeat_penalty: float = _sampling("repeat_penalty", 1.0, off=1)
    presence_penalty: float = _sampling("presence_penalty", 0.0, off=0)
    frequency_penalty: float = _sampling("frequency_penalty", 0.0, off=0)
    penalty_last_n: int = _sampling("penalty_last_n", 64)
    max_tokens: int = _setting(
        0,
        "longest answer; 0 is until the model stops or the context is full; a base model in the chat: 256",
        0,
        MOST_TOKENS,
        unlimited=0,
    )
    seed: int = _setting(
        -1, "-1 draws a new one for each answer; the sidebar shows it", -1, SEED.high, random=-1
    )
    draft_length: DraftLength = _setting(
        AUTO,
        f'tokens drafted in a round, 1 to {LONGEST_DRAFT}; 0 never drafts; "auto" measures and decides',
        0,
        LONGEST_DRAFT,
        {-1: AUTO},
        auto=AUTO,
        never=0,
    )
    lookup: bool = _setting(True, "also propose the text that followed the same words earlier in the chat")
    thinking: Thinking = _setting(
        "auto", 'think before an answer, where the model can be told: "on"; "off"; "auto" is its own way'
    )
    effort: Effort = _setting(
        "auto", 'how much to think, where it can be told: "minimal", "low", "medium", "high", "max"; "auto"'
    )
    system_prompt: str = _setting("", "said to the model before each conversation")
    stop: tuple[str, ...] = _setting((), "texts that end an answer; in a thought they end nothing")
    preset: str = _setting("", "the preset that new chats begin with; a name under [presets]")


@dataclass(frozen=True)
class Appearance:
    theme: str = _setting(
        "outrider-dark", "outrider-light, high-contrast, colour-blind, terminal, or a file in themes/"
    )
    highlight: Highlight = _setting(
        "quiet", '"quiet" marks the tokens that the draft did not supply; "full"; "off"'
    )
    show_rejected: bool = _setting(False, "show rejected tokens, struck through")
    sidebar: Sidebar = _setting("auto", '"auto" folds it away in a narrow terminal; "shown"; "hidden"')
    output: Output = _setting(
        "auto", '"lean" sends only cells that changed; "auto" does so over ssh; "stock" is Textual\'s own'
    )
    mouse: Mouse = _setting("auto", '"auto" is off over ssh, where every move would be sent; "on"; "off"')
    reduced_motion: bool = _setting(False, "nothing slides")
    frames_per_second: int = _setting(30, "how often the transcript is painted while an answer comes", 1, 60)


@dataclass(frozen=True)
class Engine:
    threads: int = _setting(0, "threads that compute; 0 lets the engine choose", 0, 1024, auto=0)
    gpu_layers: int = _setting(
        -1, "layers on the GPU, where there is one; -1 is all of them", -1, 10_000, all=-1, none=0
    )
    backend: BackendName = _setting("auto", '"auto" goes by the model; "llama.cpp"; "mlx"')
    host: str = _setting("", "where it runs: a name under [hosts], or me@gpu as ssh takes it; empty is here")
    workers: tuple[str, ...] = _setting(
        (), "machines that share the main model, named like a host; see docs/several-machines.md"
    )


@dataclass(frozen=True)
class History:
    keep: bool = _setting(True, "keep conversations on this machine, for you alone")


@dataclass(frozen=True)
class CacheSpace:
    disk: ByteSize = _setting(
        ByteSize(4 << 30),
        "disk space of the engine's machine for chats, so that they go on without being read again; 0 is off",
        0,
        1 << 50,
        off=0,
    )
    memory: MemoryBudget = _setting(
        AUTO,
        'memory of the engine for chats that you leave and come back to; "auto" is a quarter of the free '
        "memory; 0 is off",
        0,
        1 << 50,
        off=0,
    )


@dataclass(frozen=True)
class Keys:
    set: KeySet = _setting("default", '"vi" moves with h, j, k, l and more; "default"')
    bound: tuple[tuple[str, str], ...] = ()
    """(id of an action, its keys separated by commas), as in the file."""


@dataclass(frozen=True)
class Preset:
    """A named set of some `Generation` settings."""

    name: str
    values: tuple[tuple[str, Any], ...]

    def applied(self, generation: Generation) -> Generation:
        """Return `generation` with the values of this preset."""
        return replace(generation, **dict(self.values))


class HostEntry(NamedTuple):
    """A named machine with an engine. Its address is checked before ssh uses it."""

    name: str
    address: str
    program: str = ""
    """Path of Outrider on that machine; empty searches the usual places."""


@dataclass(frozen=True)
class Settings:
    """All settings of a user. The defaults apply without a file."""

    models: Models = field(default_factory=Models)
    generation: Generation = field(default_factory=Generation)
    appearance: Appearance = field(default_factory=Appearance)
    engine: Engine = field(default_factory=Engine)
    history: History = field(default_factory=History)
    cache: CacheSpace = field(default_factory=CacheSpace)
    keys: Keys = field(default_factory=Keys)
    presets: tuple[Preset, ...] = ()
    hosts: tuple[HostEntry, ...] = ()

    def preset(self, name: str) -> Preset | None:
        """Return the preset of this name; None if there is none."""
        return next((each for each in self.presets if each.name == name), None)
