"""Conversations on this machine: what was said, by which branch, and how every token came.

`changes.py` has all that can happen to a conversation, `database.py` the file and its shape, `store.py` what
is written to it and read from it, `recovery.py` what is done when it is broken, `keeper.py` the one thread
that does all of it for the app. Nothing here shows anything, and nothing leaves the machine.
"""

from .changes import AddMessage as AddMessage
from .changes import AppendRounds as AppendRounds
from .changes import Attached as Attached
from .changes import Change as Change
from .changes import DeleteConversation as DeleteConversation
from .changes import Ending as Ending
from .changes import FinishAnswer as FinishAnswer
from .changes import PinConversation as PinConversation
from .changes import RemoveMessages as RemoveMessages
from .changes import RenameConversation as RenameConversation
from .changes import SelectBranch as SelectBranch
from .changes import SetOverrides as SetOverrides
from .changes import StartConversation as StartConversation
from .changes import TrimContext as TrimContext
from .changes import Turn as Turn
from .changes import text_of as text_of
