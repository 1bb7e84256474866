"""Conversations on this machine: their text, their branches, and the history of every token.

`changes.py` lists the events of a conversation, `database.py` has the file and its shape, `store.py` writes
and reads it, `recovery.py` handles a broken file, and `keeper.py` is the one thread that does all of this for
the app. Nothing here shows anything, and nothing leaves the machine.
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
