"""How the engine says what went wrong: in whole sentences."""

from __future__ import annotations


def sentence(message: str) -> str:
    """With a capital, unless it begins with a name that may not have one, and a full stop."""
    first = message.partition(" ")[0]
    start = message[:1].upper() if first.isalpha() else message[:1]
    return start + message[1:] + "." * (message[-1:] not in ".!?")
