"""Conversations on this machine: what was said, by which branch, and how every token came.

`changes.py` has all that can happen to a conversation, `database.py` the file and its shape, `store.py` what
is written to it and read from it, `damage.py` what is done when it is broken, `keeper.py` the one thread that
does all of it for the app. Nothing here shows anything, and nothing leaves the machine.
"""

from .changes import (
    Adjust,
    Attached,
    Begin,
    Change,
    Close,
    Delete,
    Ending,
    Hear,
    Leave,
    Pin,
    Remove,
    Rename,
    Say,
    Show,
    Turn,
    text_of,
)

__all__ = [
    "Adjust",
    "Attached",
    "Begin",
    "Change",
    "Close",
    "Delete",
    "Ending",
    "Hear",
    "Leave",
    "Pin",
    "Remove",
    "Rename",
    "Say",
    "Show",
    "Turn",
    "text_of",
]
