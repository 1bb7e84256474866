"""Engine events in words. Pure functions; what they return may hold foreign text."""

from __future__ import annotations

from tui.protocol import Finished, Loaded, Loading, Prefill
from tui.widgets.meter import Reading, named, number

from .drafting import AUTO, Drafting

ENDINGS = {
    "stop": "",
    "length": "reached max_tokens",
    "context": "the context is full",
    "cancelled": "stopped",
}


def loading(progress: Loading) -> str:
    percent = "" if progress.fraction is None else f"  {progress.fraction * 100:.0f} %"
    return f"{progress.stage}{percent}"


def ready(loaded: Loaded) -> str:
    drafted = f", drafted by {named(loaded.draft)}" if loaded.draft else ""
    return f"ready: {named(loaded.main)}{drafted}"


def refused(loaded: Loaded) -> str:
    """What does not draft although it was asked for or could be expected to, and why; empty if all does."""
    if loaded.drafting_refused:
        return f"Drafting is off: {loaded.drafting_refused}"
    return f"Drafting without the draft model: {loaded.draft_refused}" if loaded.draft_refused else ""


def drafting(wished: Drafting, loaded: Loaded | None) -> str:
    """How far it drafts. With models that are there to show drafting, "auto" is a fixed length."""
    if loaded and loaded.drafting_refused:
        return "off"
    if loaded and loaded.draft_length is not None and wished.length == AUTO:
        return f"auto = {loaded.draft_length}"
    return wished.words


def reading(progress: Prefill) -> str:
    return f"reading the prompt  {progress.done:,} of {progress.total:,} tokens"


def finished(event: Finished, counted: Reading) -> str:
    """One line under an answer: how it ended if not by itself, and what it cost."""
    statistics = event.statistics
    parts = [ENDINGS[event.reason], f"{statistics.tokens:,} tokens"]
    if counted.speed is not None:
        parts.append(number(counted.speed, "tok/s"))
    if counted.acceptance is not None:
        parts.append(f"{counted.acceptance * 100:.0f} % of drafts accepted")
    if counted.ratio is not None:
        parts.append(f"{number(counted.ratio, '×', 2)} plain decoding")
    return " · ".join(part for part in parts if part)
