"""The process in which a grammar is tried, behind hard limits.

Run by its path, with `-I -S` and an empty environment; the one argument is the folder that holds llguidance.
It reads a grammar of llguidance and answers with one JSON object. It imports nothing of ours. llguidance
limits the work for a token, but not all of the work for a grammar: a chain of 5,000 rules ends a process with
8 MB of stack, and 60 patterns for one string take hours.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
from contextlib import suppress

MOST_WAYS = 5_000
"""Ways in which a text may go on at one place. With twice as many, the mask of one place can take 25 s."""
_MEMORY = 1 << 30
"""Bytes of address space."""
_CPU_SECONDS = 5
_STACK = 4 << 20
"""Bytes; the engine has more on every system, so a grammar that fits here fits there."""


def fault(grammar: str) -> str:
    """Return the reason why `grammar` cannot be used; empty if it can."""
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer  # `main` sets its folder first

    limits = LLParserLimits(verbose_errors=False, max_items_in_row=MOST_WAYS)
    matcher = LLMatcher(LLTokenizer("byte"), grammar, log_level=0, limits=limits)
    if not matcher.is_error():
        matcher.compute_bitmask()
    return matcher.get_error()


def main() -> None:
    with suppress(ValueError, OSError):  # not every system can limit the address space
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    sys.path.append(sys.argv[1])
    grammar = sys.stdin.buffer.read().decode("utf-8")
    threading.stack_size(_STACK)
    thread = threading.Thread(target=lambda: print(json.dumps({"fault": fault(grammar)})))
    thread.start()
    thread.join()


if __name__ == "__main__":
    main()
