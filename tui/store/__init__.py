"""Conversations on this machine: what was said, by which branch, and how every token came.

`changes.py` has all that can happen to a conversation, `database.py` the file and its shape, `store.py` what
is written to it and read from it, `damage.py` what is done when it is broken, `keeper.py` the one thread that
does all of it for the app. Nothing here shows anything, and nothing leaves the machine.
"""

from .changes import Adjust as Adjust
from .changes import Attached as Attached
from .changes import Begin as Begin
from .changes import Change as Change
from .changes import Close as Close
from .changes import Delete as Delete
from .changes import Ending as Ending
from .changes import Hear as Hear
from .changes import Leave as Leave
from .changes import Pin as Pin
from .changes import Remove as Remove
from .changes import Rename as Rename
from .changes import Say as Say
from .changes import Show as Show
from .changes import Turn as Turn
from .changes import text_of as text_of
