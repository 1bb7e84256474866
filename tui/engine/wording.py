"""How the engine says what went wrong: in whole sentences."""

from __future__ import annotations

import re
from errno import EAGAIN, ENOMEM

MAKE_ROOM = "Close other programs, or choose a smaller model. `ulimit -a` shows the limits of this terminal."
_LACK = re.compile(r"can't start new thread|failed to map segment|cannot allocate memory", re.IGNORECASE)


def lacks_memory(error: Exception) -> bool:
    """Whether the system gave no more memory or no further thread: the program has no fault then."""
    number = error.errno if isinstance(error, OSError) else 0
    return isinstance(error, MemoryError) or number in (EAGAIN, ENOMEM) or bool(_LACK.search(str(error)))


def sentence(message: str) -> str:
    """With a capital, unless it begins with a name that may not have one, and a full stop."""
    first = message.partition(" ")[0]
    start = message[:1].upper() if first.isalpha() else message[:1]
    return start + message[1:] + "." * (message[-1:] not in ".!?")
