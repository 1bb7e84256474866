"""The app's end of the pipe: it starts the engine, talks to it, and outlives it.

`EngineClient` knows commands, events and the death of an engine. It shows nothing, keeps no conversation and
never imports the engine. It passes events on unchanged: their texts are foreign and must be cleaned before
they are shown. The texts of errors are clean.
"""

from .call import EngineDied as EngineDied
from .call import EngineError as EngineError
from .call import last_reply as last_reply
from .child import engine_environment as engine_environment
from .downloads import Downloads as Downloads
from .downloads import Item as Item
from .engine import AnswerEvent as AnswerEvent
from .engine import EngineClient as EngineClient
from .engine import running as running
from .hub import HubClient as HubClient
