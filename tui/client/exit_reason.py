"""Turns the exit status and the last words of a dead engine into a sentence.

It looks at no process and no file. It is imported when an engine has died.
"""

from __future__ import annotations

import re
import signal

from ..clean import clean_line
from ..host import Host
from ..host import said as link_said
from .call import EngineDied

_LAST_WORDS = (
    re.compile(r"(?:[^\s:/]*/)*(?P<words>[^\s/]*:\d+: (?:GGML_ASSERT|GGML_ABORT|fatal error).*)"),
    re.compile(r"(?P<words>(?:GGML_ASSERT|GGML_ABORT).*)"),
    re.compile(r"what\(\):\s*(?P<words>.+)"),
    re.compile(r"(?P<words>CUDA error: .+|.*(?:out of memory|failed to (?:allocate|map)).*)", re.IGNORECASE),
    re.compile(r"^(?P<words>\S*(?:Error|Exception)\b.*)"),
    re.compile(r"(?P<words>.*\b(?:error|failed)\b.*)", re.IGNORECASE),
)
_DUMP = re.compile(
    r"^(?:Fatal Python error|Traceback|Current thread|Thread 0x|Extension modules|\s+File |\s{4})"
)
_LOST_WORKER = re.compile(r"^worker lost: (.+)$", re.MULTILINE)
"""The last words of an engine that has lost a worker: a sentence, a tab, and the next step."""
_MEMORY = re.compile(
    r"out of memory|bad_alloc|MemoryError|failed to (?:allocate|map segment)|mem_buffer != NULL"
    r"|memory allocation still failed|cannot allocate memory|can't start new thread",
    re.IGNORECASE,
)

_LESS_MEMORY = "Choose a smaller model, a shorter context or no draft."
_HINTS = {
    "starting": "Run `outrider doctor` to see the missing part.",
    "loading": "The model file may be damaged or of a kind that the engine does not know; choose another.",
    "answering": "The answer so far stays; try again and a new engine starts.",
}
_AGAIN = "Try again: a new engine starts."


def death(status: int | None, said: str, doing: str, host: Host | None = None) -> EngineDied:
    """Return the reason of a death: from its exit status (negative for a signal, None if unknown) and its
    last words.

    `doing` is the client's state at that time, `host` the engine's machine if it was another one.
    """
    if host and (lost := link_said(host, status, said)):
        return EngineDied(lost[0], lost[1], link=lost[2])
    if gone := _LOST_WORKER.findall(said):
        words, _, hint = gone[-1].partition("\t")
        return EngineDied(f"{clean_line(words)}; your next prompt goes on", clean_line(hint))
    words = last_words(said, crashed=status is None or status < 0)
    during = f" while {doing}" if doing in _HINTS else ""
    hint = _LESS_MEMORY if _MEMORY.search(said) else _HINTS.get(doing, _AGAIN)
    if status is None:
        what = f"The engine closed its pipe{during}"
    elif status == -signal.SIGKILL:
        return EngineDied(f"The engine was killed{during}, likely out of memory", _LESS_MEMORY)
    elif status < 0:
        what = f"The engine crashed{during} ({_signal_name(-status)})"
    else:
        what = f"The engine ended{during} (exit status {status})"
        words = words if status else ""  # it meant to end, so the text on stderr is not the reason
    return EngineDied(f"{what}: {words}" if words else what, hint)


def last_words(said: str, *, crashed: bool) -> str:
    """Return the line of `said` that best explains a death; empty if none does.

    After a crash an ordinary last line explains nothing; after an exit it often does.
    """
    lines = [line for line in said.splitlines() if line.strip() and not _DUMP.match(line)]
    for pattern in _LAST_WORDS:
        for line in reversed(lines):
            if match := pattern.search(line):
                return clean_line(match["words"])
    return clean_line(lines[-1]) if lines and not crashed else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
