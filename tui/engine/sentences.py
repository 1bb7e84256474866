"""Errors as whole sentences: how the engine reports that a command failed."""

from __future__ import annotations

import re
import sys
import traceback
from errno import EAGAIN, ENOMEM

from ..errors import OutriderError
from ..protocol import Failed

MAKE_ROOM = "Close other programs, or choose a smaller model. `ulimit -a` shows the limits of this terminal."
_LACK = re.compile(r"can't start new thread|failed to map segment|cannot allocate memory", re.IGNORECASE)


def lacks_memory(error: Exception) -> bool:
    """Whether the system gave no more memory or no further thread: the program has no fault then."""
    number = error.errno if isinstance(error, OSError) else 0
    return isinstance(error, MemoryError) or number in (EAGAIN, ENOMEM) or bool(_LACK.search(str(error)))


def failure(number: int, error: Exception) -> Failed:
    """Return the report that the command `number` ended in `error`. A bug also goes to the log."""
    if isinstance(error, OutriderError):
        return Failed(number, sentence(str(error)), error.hint)
    traceback.print_exception(error, file=sys.stderr)
    if lacks_memory(error):
        said = str(error) or type(error).__name__
        return Failed(number, sentence(f"the system gave no more memory or threads: {said}"), MAKE_ROOM)
    if isinstance(error, OSError):
        return Failed(number, sentence(str(error)))
    return Failed(number, sentence(f"{type(error).__name__}: {error}"), "This is a bug: please report it.")


def sentence(message: str) -> str:
    """With a capital, unless it begins with a name that may not have one, and a full stop."""
    first = message.partition(" ")[0]
    start = message[:1].upper() if first.isalpha() else message[:1]
    return start + message[1:] + "." * (message[-1:] not in ".!?")


def reason_of(error: Exception) -> str:
    """Return the reason of a worker's failure, to stand behind its name."""
    if isinstance(error, OutriderError):
        words = error.message
    elif lacks_memory(error):
        words = "the system gave no more memory or threads"
    else:
        words = f"{type(error).__name__} {error}"
    return " ".join(words.split())[:200]
