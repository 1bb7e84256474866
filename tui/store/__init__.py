"""Conversations on this machine: their text, their branches, and the history of every token.

`changes.py` lists the events of a conversation, `database.py` has the file and its shape, `store.py` writes
and reads it, `recovery.py` handles a broken file, and `keeper.py` is the one thread that does all of this for
the app. Nothing here shows anything, and nothing leaves the machine.
"""

from .changes import *
