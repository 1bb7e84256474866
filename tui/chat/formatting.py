"""Engine events in words. Pure functions; what they return may hold foreign text."""

from __future__ import annotations

from typing import NamedTuple

from tui import protocol, store
from tui.choices import AUTO
from tui.client import EngineClient
from tui.client.host import Host
from tui.config import Generation
from tui.quantities import named, number, percent, prompt_form

from .draft_length import NEVER, Drafting

SILENT = 7.0
"""Seconds after which it is said that nothing is heard: there is a ping every 5."""

_KEYS = {
    "escape": "Esc",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "comma": ",",
    "full_stop": ".",
    "plus": "+",
    "minus": "-",
    "equals_sign": "=",
    "slash": "/",
    "underscore": "_",
}

ENDINGS: dict[store.Ending, str] = {
    "stop": "",
    "length": "ended at the length limit: /continue goes on",
    "context": "the context is full: loaded with a longer one, /continue goes on",
    "cancelled": "stopped",
    "cut": "broken off",
    "": "not finished",
}


def link(client: EngineClient, now: float) -> str:
    """Where the engine is, how far that is, and when it was heard last if that was long ago."""
    if client.host is None:
        return ""
    parts = [client.host.name]
    if client.heartbeat.round_trip is not None:
        parts.append(f"{client.heartbeat.round_trip * 1000:,.0f} ms")
    if client.heartbeat.heard is not None and (silent := now - client.heartbeat.heard) > SILENT:
        parts.append(f"silent for {silent:.0f} s")
    return "  ".join(parts)


def loading(progress: protocol.Loading) -> str:
    percent = "" if progress.fraction is None else f"  {progress.fraction * 100:.0f} %"
    return f"{progress.stage}{percent}"


def pair(loaded: protocol.Loaded) -> list[str]:
    """The names of what is loaded. Foreign text."""
    return [named(model) for model in (loaded.main, loaded.draft) if model]


def ready(main: protocol.ModelFacts) -> str:
    """What stands in front of the names of a loaded pair."""
    return "ready, base model:" if main.prompt_form == "text" else "ready:"


def form(main: protocol.ModelFacts) -> str:
    """How `main` takes prompts, where that is not as one expects; empty where it is."""
    words = prompt_form(main)
    if main.prompt_form == "text":
        words += ". A prompt begins a paragraph; with a space first, it goes on where the text ends"
    return f"{words[:1].upper()}{words[1:]}." if words else ""


def recalled(loaded: protocol.Loaded | None) -> str:
    """That a pair came back from the last time; which one, once it is loaded."""
    names = f"Loaded the pair you chose last: {' + '.join(pair(loaded))}" if loaded else ""
    return f"{names or 'Loading the pair you chose last'}. Ctrl+L changes it."


def refused(loaded: protocol.Loaded) -> str:
    """Why the draft model, or everything, does not draft although it was asked for; empty if all does."""
    if loaded.obstacle is None:
        return ""
    how = "Drafting is off" if loaded.obstacle.everything else "Drafting without the draft model"
    return f"{how}: {loaded.obstacle.text}"


def _is_off(loaded: protocol.Loaded | None) -> bool:
    """Whether nothing drafts for what is loaded."""
    if loaded is None:
        return False
    return loaded.draft_length == NEVER or (loaded.obstacle is not None and loaded.obstacle.everything)


def drafting(wished: Drafting, loaded: protocol.Loaded | None) -> str:
    """How far it drafts, in a word or two."""
    return "off" if _is_off(loaded) else wished.words


def draft_limit(wished: Drafting, loaded: protocol.Loaded | None) -> int | None:
    """Most tokens of a draft with models that are there to show drafting, where "auto" decides nothing."""
    if loaded is None or _is_off(loaded) or wished.length != AUTO:
        return None
    return None if loaded.draft_length == AUTO else loaded.draft_length


def looks_up(wished: Drafting, loaded: protocol.Loaded | None, generation: Generation) -> bool:
    """Whether the lookup may propose."""
    return generation.lookup and wished.length != NEVER and not _is_off(loaded)


def reading(progress: protocol.Prefill) -> str:
    return f"reading the prompt  {progress.done:,} of {progress.total:,} tokens"


def busy(event: protocol.Busy, host: Host | None) -> str:
    """That other programs take cores, and how many threads are left; empty where they no longer do."""
    if event.threads >= event.most:
        return ""
    return f"{host.name if host else 'this machine'} is busy: {event.threads} of {event.most} threads"


def nearly_full(share: float) -> str:
    return (
        f"The context is {percent(min(1.0, share))} full. F5 sends only the latest turns from now on, "
        "/summarise a summary in place of the others; ctrl+n begins a new chat."
    )


class ThoughtCost(NamedTuple):
    """The cost of the rounds of a thought so far."""

    rounds: int = 0
    tokens: int = 0
    seconds: float = 0.0
    drafted: int = 0
    accepted: int = 0

    def and_(self, happened: protocol.TextRound) -> ThoughtCost:
        """With one more round."""
        return ThoughtCost(
            self.rounds + 1,
            self.tokens + len(happened.tokens),
            self.seconds + happened.seconds,
            self.drafted + happened.drafted,
            self.accepted + happened.accepted,
        )


def thought(spent: ThoughtCost, *, over: bool) -> str:
    """What a model has thought, or still thinks, and what that cost."""
    parts = ["thought" if over else "thinking", f"{spent.tokens:,} tokens"]
    if over and spent.seconds > 0:
        parts.append(number(spent.tokens / spent.seconds, "tok/s"))
    if over and spent.drafted:
        parts.append(f"{percent(spent.accepted / spent.drafted)} of drafts accepted")
    return " · ".join(parts)


def finished(ending: store.Ending, statistics: protocol.Statistics | None) -> str:
    """One line under an answer: how it ended if not by itself, and what it cost."""
    parts = [ENDINGS[ending]]
    if statistics:
        parts.append(f"{statistics.tokens:,} tokens")
        if statistics.tokens_per_second is not None:
            parts.append(number(statistics.tokens_per_second, "tok/s"))
        if statistics.drafted:
            parts.append(f"{percent(statistics.accepted / statistics.drafted)} of drafts accepted")
        if statistics.speed_up is not None:
            parts.append(f"speed-up {number(statistics.speed_up, '×', 2)}")
    return " · ".join(filter(None, parts))


def sentence(about: str) -> str:
    """The help of a setting, which is a comment in config.toml, as one reads it elsewhere."""
    return about[:1].upper() + about[1:]


def readable(key: str) -> str:
    """ "ctrl+j" as people write it: "Ctrl+J". A letter alone stays as it is: "g" is not "G"."""
    if len(key) == 1:
        return key
    return "+".join(_KEYS.get(part) or part.capitalize().replace("_", " ") for part in key.split("+"))
