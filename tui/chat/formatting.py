"""Engine events in words. Pure functions; their results may hold foreign text."""

from __future__ import annotations

from tui import protocol, store
from tui.choices import AUTO
from tui.client import EngineClient
from tui.config import Generation
from tui.host import Host
from tui.quantities import named, number, percent, prompt_form

from .draft_length import NEVER, OFF, Drafting

SILENT = 7.0
"""Seconds without a sign of the engine before the screen says so: a ping comes every 5."""

ENDINGS: dict[store.Ending, str] = {
    "stop": "",
    "length": "ended at the length limit: /continue goes on",
    "context": "the context is full: loaded with a longer one, /continue goes on",
    "cancelled": "stopped",
    "cut": "broken off",
    "": "not finished",
}


def link(client: EngineClient, now: float) -> str:
    """Return the engine's machine, the delay of the link, and its last sign of life if that was long ago."""
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
    """Return the names of the loaded models. Foreign text."""
    return [named(model) for model in (loaded.main, loaded.draft) if model]


def ready(main: protocol.ModelFacts) -> str:
    """Return the words before the names of a loaded pair."""
    return "ready, base model:" if main.prompt_form == "text" else "ready:"


def form(main: protocol.ModelFacts) -> str:
    """Return the way in which `main` takes prompts, where it is unusual; else empty."""
    words = prompt_form(main)
    if main.prompt_form == "text":
        words += ". A prompt begins a paragraph; with a space first, it goes on where the text ends"
    return f"{words[:1].upper()}{words[1:]}." if words else ""


def recalled(loaded: protocol.Loaded | None) -> str:
    """Return a notice that the pair of the last time came back, with its name once it is loaded."""
    names = f"Loaded the pair you chose last: {' + '.join(pair(loaded))}" if loaded else ""
    return f"{names or 'Loading the pair you chose last'}. Ctrl+L changes it."


def rejected(loaded: protocol.Loaded) -> str:
    """Return the reason why the draft, or every proposer, is off against the person's wish; else empty."""
    if loaded.obstacle is None:
        return ""
    how = "Drafting is off" if loaded.obstacle.everything else "Drafting without the draft model"
    return f"{how}: {loaded.obstacle.text}"


def _is_off(loaded: protocol.Loaded | None) -> bool:
    """Whether nothing drafts for the loaded model."""
    if loaded is None:
        return False
    return loaded.draft_length == NEVER or (loaded.obstacle is not None and loaded.obstacle.everything)


def drafting(wished: Drafting, loaded: protocol.Loaded | None) -> str:
    """Return the draft length in a word or two."""
    return OFF if _is_off(loaded) else wished.words


def draft_limit(wished: Drafting, loaded: protocol.Loaded | None) -> int | None:
    """Return the draft limit of models that only demonstrate drafting, where "auto" decides nothing."""
    if loaded is None or _is_off(loaded) or wished.length != AUTO:
        return None
    return None if loaded.draft_length == AUTO else loaded.draft_length


def looks_up(wished: Drafting, loaded: protocol.Loaded | None, generation: Generation) -> bool:
    """Whether the lookup may propose."""
    return generation.lookup and wished.length != NEVER and not _is_off(loaded)


def reading(progress: protocol.Prefill) -> str:
    return f"reading the prompt  {progress.done:,} of {progress.total:,} tokens"


def busy(event: protocol.Busy, host: Host | None) -> str:
    """Return that other programs use cores, and the number of threads left; empty when they use none."""
    if event.threads >= event.most:
        return ""
    return f"{host.name if host else 'this machine'} is busy: {event.threads} of {event.most} threads"


def nearly_full(share: float) -> str:
    return (
        f"The context is {percent(min(1.0, share))} full. F5 sends only the latest turns from now on, "
        "/summarize a summary in place of the others; ctrl+n begins a new chat."
    )


def accepted(spent: protocol.Statistics) -> str:
    """Return the share of the drafts that were accepted; empty if nothing was drafted."""
    return f"{percent(spent.accepted / spent.drafted)} of drafts accepted" if spent.drafted else ""


def thought(spent: protocol.Statistics, *, over: bool) -> str:
    """Return the headline of a thought: its length and its cost so far."""
    parts = ["thought" if over else "thinking", f"{spent.tokens:,} tokens"]
    if over and spent.seconds > 0:
        parts.append(number(spent.tokens / spent.seconds, "tok/s"))
    return " · ".join(filter(None, (*parts, accepted(spent) if over else "")))


def finished(ending: store.Ending, statistics: protocol.Statistics | None) -> str:
    """Return the line under an answer: its ending, unless it was normal, and its cost."""
    parts = [ENDINGS[ending]]
    if statistics:
        parts.append(f"{statistics.tokens:,} tokens")
        if statistics.tokens_per_second is not None:
            parts.append(number(statistics.tokens_per_second, "tok/s"))
        parts.append(accepted(statistics))
        if statistics.speed_up is not None:
            parts.append(f"speed-up {number(statistics.speed_up, '×', 2)}")
    return " · ".join(filter(None, parts))


def sentence(about: str) -> str:
    """Return the help of a setting, which is a comment in config.toml, as a sentence for the screen."""
    return about[:1].upper() + about[1:]
